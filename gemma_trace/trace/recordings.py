"""When the profiler recorded: a trace may hold several recordings, between which nobody listened.

A capture of many requests is recorded in cycles; other files hold what a program's sessions exported one by one.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gemma_trace.trace.events import Events, IntArray

_MARK: Final = frozenset({"trace"})
"""The category (in lower case) of the span that Kineto lays over each recording."""


def recording_edges(spans: Events) -> IntArray:
    """int64 [r - 1], ascending, instants between each of r recordings and the next; none where no recording is marked.

    Recordings that overlap, as those of several processes in a merged file, are one.
    """
    marks = np.flatnonzero(spans.in_categories(_MARK))  # by start
    latest_end = np.maximum.accumulate(spans.ends_ns(marks))[:-1]
    next_start = spans.ts_ns[marks][1:]
    apart = next_start > latest_end
    middle: IntArray = (latest_end + (next_start - latest_end) // 2)[apart]
    return middle


def recording_at(edges: IntArray, ts_ns: IntArray) -> IntArray:
    """int64, which recording each instant belongs to, from 0 on.

    Args:
        edges: of `recording_edges`.
    """
    return np.searchsorted(edges, ts_ns, side="right")
