"""Findings about threads: work in those that the profiler didn't see, and requests that overlap on one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import EMPTY, Intervals, intersect, measure, union
from gemma_trace.health.findings import Finding, Severity
from gemma_trace.stages import INTERLEAVED, REQUEST_CODE
from gemma_trace.trace.closed_pieces import PIECE
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

UNSEEN_SHARE: Final = 0.5
"""Requests of ours in which no thread has a span for more of their time than this were worked on out of sight."""


def thread_findings(trace: Trace) -> Iterator[Finding]:
    """Requests in which only their own ranges were recorded, for instance because `generate` ran in another thread."""
    spans = trace.spans
    requests = np.flatnonzero(trace.stage_range == REQUEST_CODE)
    if not len(requests):
        return
    windows = union(spans.ts_ns[requests], spans.ends_ns(requests))
    seen = np.zeros(len(spans), dtype=bool)
    seen[trace.host] = True
    seen[trace.activities] = True
    seen[requests] = False
    start, end, _, _ = intersect(windows, _covered(trace, np.flatnonzero(seen)))
    wall = measure(windows)
    unseen = 1 - int((end - start).sum()) / max(1, wall)
    if unseen > UNSEEN_SHARE:
        yield Finding(
            "unseen_threads",
            Severity.WARNING,
            len(requests),
            f"for {100 * unseen:.1f}% of the requests' time no thread has a span: the work ran in a thread that the "
            f"profiler did not record, or outside of all ops",
            "record all threads: torch.profiler.profile(experimental_config="
            "torch._C._profiler._ExperimentalConfig(profile_all_threads=True))",
        )


def _covered(trace: Trace, spans: IntArray) -> Intervals:
    """When any of these spans is open, put together piece by piece: few stretches are left of a piece."""
    columns = trace.spans
    pieces = [spans[low : low + PIECE] for low in range(0, len(spans), PIECE)]
    parts = [EMPTY, *(union(columns.ts_ns[piece], columns.ends_ns(piece)) for piece in pieces)]
    start, end = (np.concatenate(edges) for edges in zip(*parts, strict=True))
    return union(start, end)


def interleaving_findings(trace: Trace) -> Iterator[Finding]:
    """Requests of one thread that overlapped, as a program's own annotations marked them."""
    spans = trace.spans
    code = spans.names.index(INTERLEAVED) if INTERLEAVED in spans.names else None
    marks = 0 if code is None else int(((spans.name == code) & trace.is_annotation).sum())
    if marks:
        yield Finding(
            "interleaved_requests",
            Severity.WARNING,
            marks,
            f"{counted(marks, 'block')} of stages overlapped another one on the same thread, as asyncio's tasks do: "
            "requests that overlapped are read as one, from the first's begin to the last's end",
            "run requests one after the other, or each on a thread of its own",
        )
