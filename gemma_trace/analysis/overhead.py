"""The profiler's own overhead: the time in which it holds a process up (buffer requests, flushes, instrumentation)."""

from __future__ import annotations

from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import Intervals, first_come
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

OVERHEAD_CATEGORIES: Final = frozenset({"overhead"})
"""Categories (in lower case) of what Kineto says of its own overhead."""


def overhead_of(trace: Trace, track: int) -> tuple[Intervals, IntArray]:
    """When the profiler holds a thread up.

    Kineto writes most of its overhead under no thread of the program (process -1, thread 0); it holds the process up
    then. What it writes under another thread that does something of its own holds that one up alone.

    Args:
        track: code of the thread.

    Returns:
        Disjoint intervals by start, and int64, the span that each is of.
    """
    spans = trace.spans
    overhead = np.flatnonzero(spans.in_categories(OVERHEAD_CATEGORIES))
    if not len(overhead):
        return first_come(overhead, overhead), overhead
    host = distinct(spans.track[trace.host])
    processes = {spans.tracks[code].pid for code in host.tolist()}
    process = spans.tracks[track].pid
    holds_up = np.array(
        [
            code == track or (code not in host and (place.pid == process or place.pid not in processes))
            for code, place in enumerate(spans.tracks)
        ],
        dtype=bool,
    )
    overhead = overhead[holds_up[spans.track[overhead]]]
    start, end = first_come(spans.ts_ns[overhead], spans.ends_ns(overhead))
    real = end > start
    return (start[real], end[real]), overhead[real]
