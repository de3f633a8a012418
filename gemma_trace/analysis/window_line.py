"""The windows of several requests laid end to end on one line of time, so that one pass over columns serves all.

Requests may overlap, as a server's do; on the line they don't. A nanosecond that belongs to no request lies between two
windows, so what touches the end of one never touches the start of the next. The line of a single request is the
trace's own clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import Intervals, gaps
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace

MOST_PAIRS: Final = 300_000
"""How many pairs of a request and what overlaps it are worked on at once: it bounds the memory of working on them."""
_MOST_LINES: Final = 8
"""Requests that don't overlap are on no more lines than this, since each line costs a look at all spans."""

_LONGEST_NS: Final = 2**61


@dataclass(frozen=True)
class WindowLine:
    """Windows on one line. All columns have the length w.

    Attributes:
        start_ns, end_ns: int64, the windows on the trace's clock.
        track: int64, the thread that is looked at in each: the request's own, if nothing else is said.
        index: int64, the index of each window's request.
        begin: int64, where each window begins on the line, ascending.
    """

    start_ns: IntArray
    end_ns: IntArray
    track: IntArray
    index: IntArray
    begin: IntArray

    @classmethod
    def of(cls, requests: Sequence[Request]) -> WindowLine:
        """The line of one request or more."""
        columns = [(each.start_ns, each.end_ns, each.track, each.index) for each in requests]
        start, end, track, index = np.array(columns, dtype=np.int64).T
        begin = start if len(requests) == 1 else np.append(0, np.cumsum(end - start + 1)[:-1])
        return cls(start, end, track, index, begin)

    def __len__(self) -> int:
        return len(self.begin)

    @cached_property
    def stop(self) -> IntArray:
        """int64 [w], where each window ends on the line."""
        return self.begin + (self.end_ns - self.start_ns)

    def taken(self, windows: IntArray) -> WindowLine:
        """Some of the windows, ascending, at the same places of the line."""
        columns = (self.start_ns, self.end_ns, self.track, self.index, self.begin)
        return WindowLine(*(column[windows] for column in columns))

    def looking_at(self, track: int) -> WindowLine:
        """These windows, seen from another thread."""
        return replace(self, track=np.full(len(self), track))

    def at(self, place: IntArray) -> IntArray:
        """int64, the window that each place of the line lies in."""
        return np.searchsorted(self.begin, place, side="right") - 1

    def clipped(self, window: IntArray, start_ns: IntArray, end_ns: IntArray) -> Intervals:
        """Intervals of the trace's clock cut to their windows, on the line; what lies outside becomes empty."""
        low, high, shift = self.start_ns, self.end_ns, self.begin - self.start_ns
        if len(self) > 1:
            low, high, shift = low[window], high[window], shift[window]
        start, end = np.clip(start_ns, low, high), np.clip(end_ns, low, high)
        np.maximum(end, start, out=end)
        start += shift
        end += shift
        return start, end

    def places(self, instants: IntArray, window: IntArray) -> IntArray:
        """int64, instants of the trace's clock as places of the line, each in its window."""
        return instants + (self.begin - self.start_ns)[window]

    def clock_ns(self, place: IntArray, window: IntArray) -> IntArray:
        """int64, places of the line as instants of the trace's clock."""
        return place - (self.begin - self.start_ns)[window]

    def gaps(self, busy: Intervals) -> Intervals:
        """What disjoint intervals inside the windows, by start, leave of them."""
        if len(self) == 1:
            return gaps(busy, int(self.begin[0]), int(self.stop[0]))
        start = np.concatenate((busy[0], self.stop[:-1]))
        end = np.concatenate((busy[1], self.begin[1:]))
        order = np.argsort(start, kind="stable")
        return gaps((start[order], end[order]), int(self.begin[0]), int(self.stop[-1]))

    def overlaps(self, start_ns: IntArray, end_ns: IntArray) -> tuple[IntArray, IntArray]:
        """Which intervals lie in which window, in part at least; empty intervals lie in none.

        Args:
            start_ns, end_ns: int64 [n], any intervals of the trace's clock by start.

        Returns:
            int64 [p] each: the window and the interval of each pair, by window and in it by interval.
        """
        if len(self) == 1:
            near = slice(int(np.searchsorted(start_ns, self.end_ns[0])))
            inside = np.minimum(end_ns[near], self.end_ns) > np.maximum(start_ns[near], self.start_ns)
            place = np.flatnonzero(inside)
            return np.zeros(len(place), dtype=np.int64), place
        window, place = expanded(*(np.searchsorted(start_ns, edge) for edge in (self.start_ns, self.end_ns)))
        by_start = np.argsort(self.start_ns, kind="stable")
        ascending = self.start_ns[by_start]
        begun, which = expanded(np.searchsorted(ascending, start_ns, "right"), np.searchsorted(ascending, end_ns))
        window, place = np.append(window, by_start[which]), np.append(place, begun)
        real = np.minimum(end_ns[place], self.end_ns[window]) > np.maximum(start_ns[place], self.start_ns[window])
        window, place = window[real], place[real]
        order = np.argsort(window * len(start_ns) + place, kind="stable")
        return window[order], place[order]

    def starts(self, ts_ns: IntArray) -> tuple[IntArray, IntArray]:
        """Which instants lie in which window, its start included and its end not; pairs as of `overlaps`.

        Args:
            ts_ns: int64 [n], ascending.
        """
        return expanded(*(np.searchsorted(ts_ns, edge) for edge in (self.start_ns, self.end_ns)))

    def on_tracks(self, known: Places, start_ns: IntArray, end_ns: IntArray) -> tuple[IntArray, IntArray]:
        """`overlaps`, but each window with the intervals of its own thread alone.

        Args:
            known: by thread the places in these columns, by start.
            start_ns, end_ns: int64 [n].
        """
        parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        for track, windows in Places(self.track):
            on_track = known.of(track)
            window, place = self.taken(windows).overlaps(start_ns[on_track], end_ns[on_track])
            parts.append((windows[window], on_track[place]))
        window, place = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(window, kind="stable")
        return window[order], place[order]


def lines(trace: Trace, requests: Sequence[Request]) -> Iterator[WindowLine]:
    """All of these requests, in as many lines as keep memory in bounds: one, but where very many overlap."""
    if not requests:
        return
    spans, whole = trace.spans, WindowLine.of(requests)
    pairs = 1 + _pairs(whole, spans.ts_ns[trace.activities], spans.ends_ns(trace.activities))
    pairs += _pairs(whole, trace.stage_segments.start_ns, trace.stage_segments.end_ns)
    pairs += np.subtract(*(np.searchsorted(spans.ts_ns, edge) for edge in (whole.end_ns, whole.start_ns)))
    most = max(MOST_PAIRS, len(spans) // _MOST_LINES)
    low, held, length = 0, 0, 0
    for place, (more, request) in enumerate(zip(pairs.tolist(), requests, strict=True)):
        if place > low and (held + more > most or length + request.wall_ns > _LONGEST_NS):
            yield WindowLine.of(requests[low:place])
            low, held, length = place, 0, 0
        held, length = held + more, length + request.wall_ns + 1
    yield WindowLine.of(requests[low:])


def _pairs(line: WindowLine, start_ns: IntArray, end_ns: IntArray) -> IntArray:
    """int64 [w], how many of these intervals overlap each window: begun before its end, less ended by its start."""
    begun = np.searchsorted(np.sort(start_ns), line.end_ns)
    pairs: IntArray = np.maximum(begun - np.searchsorted(np.sort(end_ns), line.start_ns, side="right"), 0)
    return pairs


def expanded(low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """Ranges as pairs: whose range, and each number in it."""
    count = np.maximum(high - low, 0)
    whose = np.repeat(np.arange(len(low)), count)
    return whose, np.arange(len(whose)) + np.repeat(low - np.cumsum(count) + count, count)
