"""Kernels with fewer blocks than the device has multiprocessors: the others have nothing to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.grids import blocks_of, multiprocessors_of, what_grids_lack
from gemma_trace.advice.rule import Candidate, Lacking, Rule

LEAST_NS: Final = 10_000
"""What takes less is bound by its launch, however many blocks it has."""

LEAST_SHARE: Final = 0.2
"""Where such kernels have a smaller share of the device's work, others bind it."""

BUSY: Final = 0.5
"""It is only asked for grids where kernels take more of the requests than this."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    kernels = case.kernels & ~case.of_families("communication")  # those have few blocks so as to leave room for others
    if not case.total_ns(kernels):
        return
    if lacking := what_grids_lack(trace, kernels):
        if case.total_ns(kernels) > BUSY * case.wall_ns:
            yield lacking
        return
    blocks, multiprocessors = blocks_of(trace), multiprocessors_of(trace)
    spans = kernels & (blocks > 0) & (blocks < multiprocessors) & (trace.spans.dur_ns >= LEAST_NS)
    if case.total_ns(spans) <= LEAST_SHARE * case.total_ns(kernels):
        return
    yield Candidate(
        change=(
            f"Give these kernels more parallel work: a larger batch (gemma-trace capture --batch {case.larger_batch}), "
            "split reductions (split-K, flash decoding), or run others in parallel on a second stream."
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(spans)} kernels of {np.median(blocks[spans]):,.0f} blocks (median) on "
            f"{np.median(multiprocessors[spans]):,.0f} multiprocessors take {case.share(spans, kernels)} of the device"
        ),
        spans=spans,
        confidence=Confidence.LOW,
        check=case.check("batch", case.larger_batch),
        left=np.where(spans, blocks / np.maximum(multiprocessors, 1), 1.0),
    )


RULE: Final = Rule(
    "low_occupancy",
    "CUDA C++ Best Practices Guide: occupancy, thread and block heuristics",
    _look,
    looks_for=(
        "kernels of 10 µs or more with fewer blocks than the device has multiprocessors, with a fifth of "
        "its work or more; no collectives"
    ),
    leaves="blocks / multiprocessors of them",
)
