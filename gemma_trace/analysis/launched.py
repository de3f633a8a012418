"""Which launches have their device activities in the trace, and in which requests they have not.

A profiler may lose the device's side of a trace, or of some of its steps. Every kernel's and graph's launch has an
activity otherwise, but for those that a graph capture takes in, which run later or never. Fills and copies don't count:
drivers do small ones without an activity.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import union
from gemma_trace.analysis.timeline import Request
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, IntArray
from gemma_trace.trace.named_spans import named
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

MOST_AT_THE_EDGE: Final = 5
"""So many launches, but no more than one or a tenth of all, may lie at either end of a process's launches without an
activity: the profiler began or stopped between the two. In a long trace `EDGE_SHARE` of all may."""

EDGE_SHARE: Final = 0.01

INCOMPLETE_SHARE: Final = 0.1
"""A request that lacks more than this share of its launches' activities says nothing about the device."""

_LAUNCH: Final = re.compile(
    r"(?>(?>\w*?Launch)\w*?Kernel)\w*|(?>\w*?(?:Kernel|Graph)Launch)\w*|hipLaunchByPtr\w*"
    r"|cu(?:da)?Launch(?:Grid\w*|_v\w+)?"
)
_COPIES_AND_FILLS: Final = frozenset({"gpu_memcpy", "gpu_memset", "memcpy", "memset"})
_CAPTURE_BEGIN: Final = ("StreamBeginCapture", "capture_begin")
_CAPTURE_END: Final = ("StreamEndCapture", "capture_end")


@dataclass(frozen=True)
class Launches:
    """The calls that launch kernels or graphs, by start. All columns have the length k.

    Attributes:
        call: int64, index of the outermost of calls that lie in one another (a runtime's and its driver's).
        process: int64, which process each is of.
        found: bool, whether an activity of it is in the trace.
        captured: bool, whether it went into a graph's capture instead of to the device.
        at_the_edge: bool, whether it has no activity and lies at an end of its process's launches, among few others.
        unlinked_ns: int64 [u], when the kernels start whose launch isn't known: each may be of one without activity.
    """

    call: IntArray
    process: IntArray
    found: BoolArray
    captured: BoolArray
    at_the_edge: BoolArray
    unlinked_ns: IntArray

    def __len__(self) -> int:
        return len(self.call)

    @property
    def missing(self) -> BoolArray:
        """bool [k], which have no activity though they should."""
        lost: BoolArray = ~self.found & ~self.captured
        return lost

    @property
    def lost(self) -> int:
        """How many activities are missing, less those that have no launch."""
        return max(0, int((self.missing & ~self.at_the_edge).sum()) - len(self.unlinked_ns))


def launches(trace: Trace) -> Launches:
    """Find the launches, and which have their activities."""
    spans = trace.spans
    calls = np.flatnonzero(trace.is_call)
    calls = calls[named(spans, calls, _LAUNCH)]
    calls = calls[np.argsort(spans.track[calls], kind="stable")]
    group = _nested(spans.track[calls], spans.ts_ns[calls], spans.ends_ns(calls))
    outermost = np.append(True, np.diff(group) != 0)[: len(calls)]
    asked = np.zeros(len(spans), dtype=bool)
    asked[trace.launch[trace.launch >= 0]] = True
    has_activity = np.zeros(int(group.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(has_activity, group, asked[calls])
    call = calls[outermost]
    order = np.argsort(call, kind="stable")
    call, has_activity = call[order], has_activity[order]
    process = _processes(trace)[spans.track[call]]
    captured = (
        np.zeros(len(call), dtype=bool) if has_activity.all() else _captured(trace, call, process) & ~has_activity
    )
    unlinked = trace.activities[trace.launch == NONE]
    kernels = ~spans.in_categories(_COPIES_AND_FILLS)
    return Launches(
        call=call,
        process=process,
        found=has_activity,
        captured=captured,
        at_the_edge=_at_the_edge(process, has_activity, captured),
        unlinked_ns=spans.ts_ns[unlinked[kernels[unlinked]]],
    )


def lacking(trace: Trace, launched: Launches, requests: Sequence[Request]) -> list[int]:
    """The places of the requests whose launches have no activities, or too few to say anything about the device."""
    at = trace.spans.ts_ns[launched.call]
    counted = ~launched.captured
    low, high = (np.array([getattr(request, name) for request in requests]) for name in ("start_ns", "end_ns"))
    known = _within(at[counted], low, high)
    unlinked = _within(launched.unlinked_ns, low, high)
    missing = _within(at[launched.missing], low, high) - unlinked
    notable = _within(at[launched.missing & ~launched.at_the_edge], low, high) - unlinked
    empty = (known > 0) & (missing >= known)
    places: list[int] = np.flatnonzero(empty | (notable > INCOMPLETE_SHARE * known)).tolist()
    return places


def _within(times: IntArray, low: IntArray, high: IntArray) -> IntArray:
    """How many of these times lie in each window."""
    ascending = np.sort(times)
    return np.searchsorted(ascending, high, side="left") - np.searchsorted(ascending, low, side="left")


def _nested(track: CodeArray, start: IntArray, end: IntArray) -> IntArray:
    """int64 [k], ascending numbers that calls share which lie in one another.

    Args:
        track, start, end: of calls by thread, and there by start.
    """
    group = np.zeros(len(track), dtype=np.int64)
    count = 0
    edges = np.append(np.flatnonzero(np.diff(track, prepend=NONE - 1)), len(track))
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        reached = np.append(start[low], np.maximum.accumulate(end[low:high])[:-1])
        fresh = np.append(True, start[low + 1 : high] >= reached[1:])
        group[low:high] = count + np.cumsum(fresh) - 1
        count += int(fresh.sum())
    return group


def _processes(trace: Trace) -> IntArray:
    """int64 by track, one number per process."""
    pids = [track.pid for track in trace.spans.tracks]
    numbers = {pid: number for number, pid in enumerate(dict.fromkeys(pids))}
    return np.array([numbers[pid] for pid in pids], dtype=np.int64)


def _captured(trace: Trace, call: IntArray, process: IntArray) -> BoolArray:
    """bool [k], which calls lie between the begin and the end of a graph's capture in their process."""
    spans = trace.spans
    begins, ends = (_marked(trace, parts) for parts in (_CAPTURE_BEGIN, _CAPTURE_END))
    inside = np.zeros(len(call), dtype=bool)
    if not len(begins) and not len(ends):
        return inside
    number = _processes(trace)[spans.track]
    for pid in distinct(number[np.concatenate((begins, ends))]).tolist():
        begun, ended = (np.sort(spans.ts_ns[chosen[number[chosen] == pid]]) for chosen in (begins, ends))
        last = int(spans.ts_ns[-1]) + 1
        place = np.searchsorted(ended, begun)
        until = np.where(place < len(ended), ended[np.minimum(place, len(ended) - 1)] if len(ended) else last, last)
        if len(ended) and (not len(begun) or begun[0] > ended[0]):  # it was going on when the profiler began
            begun, until = np.append(int(spans.ts_ns[0]), begun), np.append(ended[0], until)
        start, end = union(begun, until)
        at = spans.ts_ns[call]
        within = np.searchsorted(start, at, side="right") > np.searchsorted(end, at, side="right")
        inside |= (process == pid) & within
    return inside


def _marked(trace: Trace, parts: Sequence[str]) -> IntArray:
    """The host's calls and frames whose name holds one of these."""
    fits = np.array([any(part in name for part in parts) for name in trace.spans.names], dtype=bool)
    return trace.host[fits[trace.spans.name[trace.host]]] if fits.any() else np.zeros(0, dtype=np.int64)


def _at_the_edge(process: IntArray, has_activity: BoolArray, captured: BoolArray) -> BoolArray:
    """bool [k], which calls have no activity and are among the few first or last of their process."""
    edge = np.zeros(len(process), dtype=bool)
    for pid in distinct(process).tolist():
        calls = np.flatnonzero((process == pid) & ~captured)
        hits = np.flatnonzero(has_activity[calls])
        few = max(1, min(MOST_AT_THE_EDGE, len(calls) // 10), int(EDGE_SHARE * len(calls)))
        if not len(hits):
            continue
        for outside in (calls[: hits[0]], calls[hits[-1] + 1 :]):
            if len(outside) <= few:
                edge[outside] = True
    return edge
