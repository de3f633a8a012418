"""Streams of one device that never run at the same time, though neither waits for the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.intervals import intersect, union
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places

MOST_OVERLAP: Final = 0.01
"""Of the shorter stream's work; with more of it the streams do overlap."""

LEAST_SHARE: Final = 0.02
"""Of the requests; where the shorter streams have less work, nothing is asked for."""

_WAITS: Final = r"(?i)stream_?wait_?event|(event|stream)_?synchronize"
"""Calls by which one stream waits for another, directly or through the host."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    working = trace.is_activity & (case.work_ns > 0) & ~case.of_families("communication")
    beside = np.zeros(len(trace.spans), dtype=bool)
    pairs = 0
    for _, device in Places(trace.spans.device[np.flatnonzero(working)]):
        apart = _apart(case, np.flatnonzero(working)[device])
        pairs += len(apart)
        for stream in apart:
            beside[stream] = True
    if case.total_ns(beside) <= LEAST_SHARE * case.wall_ns:
        return
    waits = case.named(_WAITS, trace.is_call) & case.in_requests
    if int(waits.sum()) > len(case.requests):  # one is at the end, for all that the request asked for
        yield Lacking(
            f"{pairs} streams with {case.each_ms(beside):,.3f} ms of work never run beside the main one, and the "
            f"trace does not show which stream waits for which",
            "torch.profiler with experimental_config=_ExperimentalConfig(enable_cuda_sync_events=True), and check "
            "the events that tie them",
        )
        return
    yield Candidate(
        change=(
            "Let independent work overlap: launch it on its stream before the host waits, from pinned memory "
            "(non_blocking=True), on streams that don't wait for the default one."
        ),
        where=case.where(beside),
        evidence=(
            f"{pairs} streams with {case.each_ms(beside):,.3f} ms of work never run beside the main one, and no "
            f"event shows that they have to wait"
        ),
        spans=beside,
        confidence=Confidence.LOW,
        check=AGAIN,
        aside=True,
    )


def _apart(case: Case, activities: IntArray) -> list[IntArray]:
    """The activities of each stream of a device, the busiest aside, that overlaps with no other stream.

    Args:
        activities: int64, of one device.
    """
    spans = case.trace.spans
    streams = [activities[stream] for _, stream in Places(spans.stream[activities])]
    streams.sort(key=lambda stream: -int(case.work_ns[stream].sum()))
    apart = []
    for place, stream in enumerate(streams[1:], start=1):
        others = np.concatenate([each for other, each in enumerate(streams) if other != place])
        busy = union(spans.ts_ns[stream], spans.ends_ns(stream))
        both = intersect(busy, union(spans.ts_ns[others], spans.ends_ns(others)))
        overlap, length = int((both[1] - both[0]).sum()), int((busy[1] - busy[0]).sum())
        if overlap <= MOST_OVERLAP * length:
            apart.append(stream)
    return apart


RULE: Final = Rule(
    "stream_overlap",
    "CUDA C++ Programming Guide: asynchronous concurrent execution",
    _look,
    looks_for="streams of a device that never run beside its busiest one, where no event ties them",
    leaves="all, beside everything else",
)
