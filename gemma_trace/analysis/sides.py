"""One process's part in a comparison: what its requests took, stage by stage and inside of the stages.

A trace is let go once this is taken of it, so that a comparison of many holds one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.summary import RequestMeasures, RunSummary, profiled_requests, summarize
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.analysis.tree import TreeNode, call_tree
from gemma_trace.analysis.work_groups import group
from gemma_trace.analysis.work_pieces import Work, device_work, host_work, request_of_work, stage_of_work
from gemma_trace.metadata import RunMetadata
from gemma_trace.stages import Stage, place_of_stage
from gemma_trace.trace.events import NONE
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

Level = Literal["stage", "family", "op", "kernel", "structure"]
Values = Mapping[str, tuple[float, ...]]

INSIDE: Final[tuple[tuple[Level, By], ...]] = (("family", By.FAMILY), ("op", By.SHAPE), ("kernel", By.KERNEL))


@dataclass(frozen=True)
class Costs:
    """What each row cost each request.

    Attributes:
        places: the row of each (stage, name).
        sums_ns: int64 [requests, rows].
        counts: int64 [rows], calls or activities in all requests.
    """

    places: Mapping[tuple[str, str], int]
    sums_ns: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def values_ms(self, key: tuple[str, str]) -> tuple[float, ...]:
        """What a row cost each request; nothing where it isn't there."""
        place = self.places.get(key)
        return () if place is None else tuple((self.sums_ns[:, place] / 1e6).tolist())

    def count(self, key: tuple[str, str]) -> float:
        """Its calls or activities per request."""
        place = self.places.get(key)
        return 0.0 if place is None else int(self.counts[place]) / len(self.sums_ns)


@dataclass(frozen=True)
class Side:
    """One process of a side, summed up.

    Attributes:
        run: its row of the TTFT table.
        metadata: what a capture of ours says of itself.
        timed_ms, profiled_ms: by name, a value per request: `ttft`, `wall`, the stages in order, `tpot`. The timed ones
            are of the pass without the profiler; empty where there is none.
        requests: how many were profiled.
        wall_ms: the mean length of one of them.
        device_stages: stages that give a device work.
        device, host: by level, what is inside of the stages.
        tree: its call tree, if that was asked for.
    """

    run: RunSummary
    metadata: RunMetadata | None
    timed_ms: Values
    profiled_ms: Values
    requests: int
    wall_ms: float
    device_stages: frozenset[str]
    device: Mapping[Level, Costs]
    host: Mapping[Level, Costs]
    tree: TreeNode | None = None


def side_of(trace: Trace, *, structure: bool = False) -> Side:
    """Take of a trace what a comparison needs.

    Args:
        structure: with its call tree, so that what is called differently can be found.
    """
    run = summarize(trace)
    device, host = device_work(trace), host_work(trace)
    requests = trace.requests
    stage_names = [*trace.stage_names, UNLINKED]
    return Side(
        run=run,
        metadata=trace.metadata,
        timed_ms=stage_values(run.requests) if run.timing == "timed" else {},
        profiled_ms=stage_values(profiled_requests(breakdown(trace).complete())),
        requests=len(requests),
        wall_ms=sum(request.wall_ns for request in requests) / len(requests) / 1e6,
        device_stages=frozenset(stage_names[code] for code in distinct(stage_of_work(trace, device)).tolist()),
        device={level: _costs(trace, device, by) for level, by in INSIDE},
        # The host has no kernels; its ops are listed.
        host={level: _costs(trace, host, by) for level, by in INSIDE if level != "kernel"},
        tree=call_tree(trace) if structure else None,
    )


def stage_values(requests: Sequence[RequestMeasures]) -> Values:
    """By name: the first token, the whole, the stages, the tokens after it. `preprocessing` is the processor's call."""
    names = dict.fromkeys(stage for request in requests for stage in request.stages_ns)
    names |= dict.fromkeys([Stage.PREPROCESSING.value] if any(r.preprocessing_ns is not None for r in requests) else [])
    samples: dict[str, list[int | None]] = {"ttft": [request.ttft_ns for request in requests]}
    samples["wall"] = [sum(r.stages_ns.values()) + (r.unattributed_ns or 0) for r in requests]
    for stage in sorted(names, key=place_of_stage):
        whole = stage == Stage.PREPROCESSING
        samples[stage] = [r.preprocessing_ns if whole else r.stages_ns.get(stage) for r in requests]
    samples[Stage.UNATTRIBUTED.value] = [request.unattributed_ns for request in requests]
    samples["tpot"] = [request.tpot_ns for request in requests]
    values = {name: tuple(each / 1e6 for each in sample if each is not None) for name, sample in samples.items()}
    return {name: each for name, each in values.items() if each}


def _costs(trace: Trace, work: Work, by: By) -> Costs:
    """Sums by request, stage and group; what lies outside of all requests is left out."""
    requests = trace.requests
    groups = group(trace, work, by)
    request = request_of_work(trace, work, requests)
    stage_names = [*trace.stage_names, UNLINKED]
    inside = request != NONE
    # Groups of one name (an op whose inputs differ in what is no tensor) are one row.
    first = {name: code for code, name in reversed(list(enumerate(groups.names)))}
    code = np.array([first[name] for name in groups.names], dtype=np.int64)[groups.code[inside]]
    pairs, row = np.unique(stage_of_work(trace, work)[inside] * len(groups.names) + code, return_inverse=True)
    sums = np.zeros((len(requests), len(pairs)), dtype=np.int64)
    np.add.at(sums, (request[inside], row), work.length_ns[inside])
    call = groups.call[inside]
    base = int(call.max(initial=0)) + 1
    calls = distinct(row * base + call) // base
    keys = [(stage_names[pair // len(groups.names)], groups.names[pair % len(groups.names)]) for pair in pairs.tolist()]
    return Costs({key: place for place, key in enumerate(keys)}, sums, np.bincount(calls, minlength=len(pairs)))
