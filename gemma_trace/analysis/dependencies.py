"""What an activity or a call had to wait for, as far as a trace tells.

The critical path is walked on these facts, and a request is replayed on them (`whatif/`).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np

from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.trace import Trace

EXPLAINED_NS: Final = 10_000
"""How long an activity may take to start, once its launch has returned or the activity before it has ended, and need no
other explanation. Of 2,334 launches onto an idle device in 12 real traces 97.6% led to a start within it after the
call's return."""

_LONG_AGO: Final = -(2**62)
_WAITING: Final = re.compile(r"(?>\w*?Synchronize)\w*", re.I)


class Waits(NamedTuple):
    """Where a thread waited, by when what it waited for ended: that instant, the activity, and the call."""

    ended_ns: IntArray
    activity: IntArray
    call: IntArray


def launched_ns(trace: Trace) -> IntArray:
    """int64 [m], when each activity's launch was called; far back where it isn't known."""
    return np.where(trace.launch >= 0, trace.spans.ts_ns[np.maximum(trace.launch, 0)], _LONG_AGO)


def previous_on_stream(trace: Trace) -> IntArray:
    """int64 [m], the activity before each on its stream; `NONE` for a stream's first."""
    spans, activities = trace.spans, trace.activities
    count = len(activities)
    stream = np.stack((spans.device[activities], spans.stream[activities]))
    order = np.lexsort((np.arange(count), *stream))
    same = np.append(False, (np.diff(stream[:, order]) == 0).all(axis=0))[:count]
    previous = np.full(count, NONE, dtype=np.int64)
    previous[order[same]] = order[np.flatnonzero(same) - 1]
    return previous


def activity_before(trace: Trace) -> IntArray:
    """int64 [m], the activity that each had to wait for; `NONE` where it was its launch that it waited for."""
    spans, activities = trace.spans, trace.activities
    start, end = spans.ts_ns[activities], spans.ends_ns(activities)
    previous, count = previous_on_stream(trace), len(activities)
    own_end = np.where(previous >= 0, end[previous], _LONG_AGO)
    launched = launched_ns(trace)
    returned = np.where(trace.launch >= 0, spans.end_ns[np.maximum(trace.launch, 0)], _LONG_AGO)
    # A call that returns long after the activity before has ended holds the device up, whenever it began; but for one
    # that waits for its own activity, as blocking copies do.
    slow_call = (start - own_end > EXPLAINED_NS) & (own_end < returned) & (returned < end)
    before = np.where((own_end > launched) & ~slow_call, previous, NONE)
    by_end = np.argsort(end, kind="stable")
    place = np.searchsorted(end[by_end], start, side="right") - 1
    last = np.where(place >= 0, by_end[np.maximum(place, 0)], NONE) if count else previous
    since = np.maximum(own_end, np.where(returned <= start, returned, launched))
    last_end = np.where(last >= 0, end[last], _LONG_AGO)
    held_up = (start - since > EXPLAINED_NS) & (last_end > since) & (last < np.arange(count))
    return np.where(held_up, last, before)


def waits_for_device(trace: Trace) -> dict[int, Waits]:
    """Where each thread waited for the device: in calls that synchronise, and in those that return after their copy."""
    spans, activities, launch = trace.spans, trace.activities, trace.launch
    if not len(activities):
        return {}
    end, launched = spans.ends_ns(activities), launched_ns(trace)
    waiting = np.array([bool(_WAITING.fullmatch(name)) for name in spans.names], dtype=bool)
    calls = np.flatnonzero(waiting[spans.name] & trace.is_call)
    by_end = np.argsort(end, kind="stable")
    last = by_end[np.maximum(np.searchsorted(end[by_end], spans.ends_ns(calls), side="right") - 1, 0)]
    real = (
        (end[last] > spans.ts_ns[calls]) & (end[last] <= spans.ends_ns(calls)) & (launched[last] < spans.ts_ns[calls])
    )
    within = np.flatnonzero((launch >= 0) & (end <= spans.end_ns[np.maximum(launch, 0)]))
    activity, call = np.append(last[real], within), np.append(calls[real], launch[within])
    waits = {}
    for track, rows in Places(spans.track[call]):
        rows = rows[np.argsort(end[activity[rows]], kind="stable")]
        waits[track] = Waits(end[activity[rows]], activity[rows], call[rows])
    return waits


def outermost_starts(trace: Trace) -> dict[int, IntArray]:
    """By thread, where the spans that lie in no other begin."""
    host = trace.host[trace.nesting.parent == NONE]
    start, track = trace.spans.ts_ns[host], trace.spans.track[host]
    return {code: start[rows] for code, rows in Places(track)}
