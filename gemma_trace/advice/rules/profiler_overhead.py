"""What the profiler itself adds: no change to the program takes it away, and ceilings are too high by it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean, median
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.intervals import intersect
from gemma_trace.analysis.overhead import overhead_of

NOTABLE_FACTOR: Final = 1.25
"""A profiled request that takes fewer times as long as one without the profiler shows where its time goes."""

NOTABLE_SHARE: Final = 0.05
"""So it does where the profiler says that it held it up for less than this share of it."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    profiled, timed = _walls_ns(case)
    if timed and profiled > NOTABLE_FACTOR * timed:
        yield Lacking(
            f"how long work on the host takes without the profiler: requests take {profiled / timed:.2f} times as "
            f"long with "
            f"it, {profiled / 1e6:,.3f} instead of {timed / 1e6:,.3f} ms, so ceilings may be too high by as much",
            _lighter(case),
        )
        return
    held = _held_ns(case)
    if held > NOTABLE_SHARE * case.wall_ns:
        yield Lacking(
            f"{held / len(case.requests) / 1e6:,.3f} ms of a request, {100 * held / case.wall_ns:.0f}%, in which "
            f"the profiler delayed it",
            "fewer steps at once, without stacks and shapes: torch.profiler with with_stack=False, record_shapes=False",
        )


def _lighter(case: Case) -> str:
    lighter = case.metadata.lighter_options() if case.metadata else ""
    return f"less detail: gemma-trace capture {lighter}" if lighter else "more requests: gemma-trace capture --runs N"


def _walls_ns(case: Case) -> tuple[float, float]:
    """The mean wall time of profiled requests, and of timed ones with the same images; 0 where there are none."""
    if case.metadata is None:
        return 0.0, 0.0
    pairs = []
    for request in case.requests:
        if request.index < len(case.metadata.profiled_images):
            image = case.metadata.profiled_images[request.index]
            alike = [sample.wall_ns for sample in case.metadata.timed_requests if sample.image == image]
            if alike:
                pairs.append((request.wall_ns, median(alike)))
    return (fmean(with_it for with_it, _ in pairs), fmean(timed for _, timed in pairs)) if pairs else (0.0, 0.0)


def _held_ns(case: Case) -> int:
    """For how long the profiler held the requests' threads up, by its own events."""
    total = 0
    for request in case.requests:
        held, _ = overhead_of(case.trace, request.track)
        window = (np.array([request.start_ns]), np.array([request.end_ns]))
        low, high, *_ = intersect(held, window)
        total += int((high - low).sum())
    return total


RULE: Final = Rule(
    "profiler_overhead",
    "PyTorch profiler documentation: with_stack and record_shapes incur additional overhead",
    _look,
    looks_for=(
        "profiled requests take over 1.25 times as long as timed ones, or the profiler says that it held them up for 5%"
    ),
    leaves="no finding: what it adds is none of the program's, but ceilings are too high by it",
)
