"""Of the calls that take long, those in which most of the idle time of a stage lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gemma_trace.analysis.cold import INNER_SHARE, MOST_CALLS, LongCalls
from gemma_trace.analysis.intervals import Intervals, intersect, union
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class LongCall:
    """One call in which a stage spends much.

    Attributes:
        time_ns: what of it is the stage's host or launch time.
        cold: whether it took long since it was the first of its kind.
        usual_ns: the median length of the others of its name; None where there are too few.
    """

    name: str
    time_ns: int
    cold: bool
    usual_ns: float | None


class Idle(NamedTuple):
    """The host's own and launch time of requests in which the device is idle, in pieces by start.

    Attributes:
        interval: on the requests' line.
        row: int64, the stage code of each piece.
        track: int64, the thread that answers for each piece.
    """

    interval: Intervals
    row: IntArray
    track: IntArray


def cold_ns(trace: Trace, line: WindowLine, idle: Idle, calls: LongCalls, rows: int) -> IntArray:
    """int64 [rows], by stage code what of the time lies in calls that are the first of their kind."""
    sums, spans = np.zeros(rows, dtype=np.int64), trace.spans
    cold = calls.span[calls.cold]
    for track, its_pieces in Places(idle.track) if len(cold) else ():
        on_track = cold[spans.track[cold] == track]
        start, end = union(spans.ts_ns[on_track], spans.ends_ns(on_track))
        window, place = line.overlaps(start, end)
        pieces = (idle.interval[0][its_pieces], idle.interval[1][its_pieces])
        low, high, piece, _ = intersect(pieces, line.clipped(window, start[place], end[place]))
        np.add.at(sums, idle.row[its_pieces[piece]], high - low)
    return sums


class _Candidates(NamedTuple):
    """The longest calls of each request and thread, the shortest of a group first.

    Attributes:
        group: int64, the request and thread.
        call: int64, a place in `LongCalls`.
        row: int64, the stage code of which the call takes most; `NONE` where it takes none.
        time_ns: int64, how much of it.
    """

    group: IntArray
    call: IntArray
    row: IntArray
    time_ns: IntArray


def longest_calls(trace: Trace, line: WindowLine, idle: Idle, calls: LongCalls, rows: int) -> dict[int, LongCall]:
    """By stage code the call in which most of a request's idle time lies, of those that are long.

    What lies around a call that takes nearly all of its time is long because of that call, and isn't named.
    """
    by_thread = [
        _of_thread(trace, line, idle, calls, track, its_pieces, rows) for track, its_pieces in Places(idle.track)
    ]
    longest: dict[int, LongCall] = {}
    for candidates in by_thread:
        kept = np.flatnonzero(_stands(trace, calls, candidates))
        for row, in_row in Places(candidates.row[kept]):
            best = kept[in_row[candidates.time_ns[kept[in_row]].argmax()]]
            time_ns, call = int(candidates.time_ns[best]), int(candidates.call[best])
            if row not in longest or time_ns > longest[row].time_ns:
                usual = float(calls.usual_ns[call])
                name = trace.spans.names[trace.spans.name[calls.span[call]]]
                longest[row] = LongCall(name, time_ns, bool(calls.cold[call]), None if np.isnan(usual) else usual)
    return longest


def _of_thread(
    trace: Trace, line: WindowLine, idle: Idle, calls: LongCalls, track: int, pieces: IntArray, rows: int
) -> _Candidates:
    """The longest calls on a thread, those in the extent of each request's idle pieces there.

    Args:
        pieces: int64, the thread's pieces.
    """
    spans = trace.spans
    start, end, row = idle.interval[0][pieces], idle.interval[1][pieces], idle.row[pieces]
    windows, first = np.unique(line.at(start), return_index=True)
    extent = line.taken(windows)
    low, high = start[first], end[np.append(first[1:], len(pieces)) - 1]
    on_track = np.flatnonzero(spans.track[calls.span] == track)
    window, place = extent.overlaps(spans.ts_ns[calls.span[on_track]], spans.ends_ns(calls.span[on_track]))
    call = on_track[place]
    begin, stop = extent.clipped(window, spans.ts_ns[calls.span[call]], spans.ends_ns(calls.span[call]))
    near = (begin < high[window]) & (stop > low[window])
    window, call, begin, stop = window[near], call[near], begin[near], stop[near]
    order = np.lexsort((call, -spans.dur_ns[calls.span[call]], window))
    rank = np.arange(len(order)) - np.searchsorted(window[order], window[order])
    order = order[rank < MOST_CALLS][::-1]
    most, time_ns = _mostly_of((begin[order], stop[order]), (start, end), row, rows)
    return _Candidates(windows[window[order]], call[order], most, time_ns)


def _mostly_of(calls: Intervals, pieces: Intervals, row: IntArray, rows: int) -> tuple[IntArray, IntArray]:
    """Of each call the stage code that it takes most time of, and how much.

    Args:
        calls: [c], any intervals.
        pieces: [p], disjoint, by start.
        row: int64 [p], the stage code of each piece.
    """
    low, high, call, piece = intersect(calls, pieces)
    sums = np.zeros((len(calls[0]), rows), dtype=np.int64)
    np.add.at(sums, (call, row[piece]), high - low)
    most = sums.max(axis=1, initial=0)
    return np.where(most > 0, sums.argmax(axis=1) if rows else NONE, NONE), most


def _stands(trace: Trace, calls: LongCalls, candidates: _Candidates) -> BoolArray:
    """bool, which calls take time that isn't nearly all that of a call inside them which stands itself."""
    spans, span = trace.spans, calls.span[candidates.call]
    row, time_ns = candidates.row, candidates.time_ns
    start, end = spans.ts_ns[span], spans.ends_ns(span)
    stands: BoolArray = row != NONE
    first = np.append(True, np.diff(candidates.group) != 0)[: len(span)]
    rank = np.arange(len(span)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    for level in range(1, MOST_CALLS):
        here = np.flatnonzero((rank == level) & stands)
        for back in range(1, level + 1):
            inner = here - back
            inside = (start[here] <= start[inner]) & (end[inner] <= end[here]) & (row[inner] == row[here])
            stands[here[inside & stands[inner] & (time_ns[inner] > INNER_SHARE * time_ns[here])]] = False
    return stands
