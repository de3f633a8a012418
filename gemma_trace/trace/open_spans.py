"""Which of a set of spans is the innermost one open on a thread at an instant: by time alone, not by nesting."""

from __future__ import annotations

import numpy as np

from gemma_trace.trace import closed_pieces
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, Codes, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.tree import Segments, innermost_segments, nest


class OpenSpans:
    """Answers which span is open, of several the one that started last. What crosses is open on both sides.

    Attributes:
        parent: int32 [n], the span of the set that holds each; `NONE` where none does, or where they cross.
    """

    def __init__(self, ts_ns: IntArray, end_ns: IntArray, track: Codes) -> None:
        """Take spans that are sorted by start, the longer first: int64 [n] starts and ends, integer [n] tracks."""
        self._ts_ns, self._track = ts_ns, track
        self._zero = int(ts_ns.min()) if len(ts_ns) else 0
        # Times are doubled so that an empty span is open at its instant.
        start = 2 * (ts_ns - self._zero)
        nesting = nest(start, np.maximum(2 * (end_ns - self._zero), start + 1), track, np.ones(len(ts_ns), np.int8))
        self.parent = nesting.parent
        self._doubled = innermost_segments(start, track, nesting)
        tracks = track[self._doubled.owner]
        edges = np.flatnonzero(np.diff(tracks, prepend=NONE - 1))
        stops = np.append(edges[1:], len(tracks))[: len(edges)]
        self._slices = {int(tracks[a]): slice(a, b) for a, b in zip(edges.tolist(), stops.tolist(), strict=True)}

    def at(self, track: Codes, ts_ns: IntArray, *, after: bool = False) -> IntArray:
        """The span that is the innermost at an instant on a track.

        Args:
            track: integer [q].
            ts_ns: int64 [q].
            after: ask for what is open from the instant on, so that an empty span is open at none.

        Returns:
            int64 [q], positions in the set; `NONE` where none is open.
        """
        innermost = np.full(len(ts_ns), NONE, dtype=np.int64)
        when = 2 * (ts_ns - self._zero) + after
        for code, here in Places(track):
            of_track = self._slices.get(code)
            if of_track is None:
                continue
            place = np.searchsorted(self._doubled.start_ns[of_track], when[here], side="right") - 1
            known = np.maximum(place, 0)
            still = (place >= 0) & (when[here] < self._doubled.end_ns[of_track][known])
            innermost[here[still]] = self._doubled.owner[of_track][known[still]]
        return innermost

    def segments(self) -> Segments:
        """The tracks cut where the innermost span changes, by track and start; `owner` is a position in the set."""
        low, high = (self._zero + edge // 2 for edge in (self._doubled.start_ns, self._doubled.end_ns))
        real = high > low
        return Segments(low[real], high[real], self._doubled.owner[real])


def innermost_of(
    spans: IntArray, ts_ns: IntArray, dur_ns: IntArray, track: Codes, wanted: BoolArray, by_time: BoolArray
) -> CodeArray:
    """For each span of a set the innermost wanted one that is open where it starts on its track, or itself if wanted.

    A wanted span that starts at the same instant and is the shorter one is inside, not around; but for those spans
    that stand for an instant.

    The set is gone through piece by piece, with those wanted spans that are still open where a piece begins: the
    others answer for nothing in it. So it takes little memory beside its result.

    Args:
        spans: int64 [k], the spans asked for, indices into the columns, ascending.
        ts_ns, dur_ns, track: [n], the columns, sorted by start, the longer first.
        wanted: bool [n].
        by_time: bool [n], spans that stand for the instant at which they start, e.g. launching calls.

    Returns:
        int32 [n], indices of spans; `NONE` where none is open, and for all that isn't asked for.
    """
    innermost = np.full(len(ts_ns), NONE, dtype=np.int32)
    held = spans[:0]
    low = 0
    while low < len(spans):
        high = _end_of_piece(spans, ts_ns, low, max(closed_pieces.PIECE, len(held)))
        piece = spans[low:high]
        is_wanted = wanted[piece]
        held = np.append(held, piece[is_wanted])
        if len(held):
            innermost[piece] = _innermost_of(piece, held, ts_ns, dur_ns, track, is_wanted, by_time)
        if high < len(spans):
            held = held[ts_ns[held] + dur_ns[held] >= ts_ns[spans[high]]]
        low = high
    return innermost


def _end_of_piece(spans: IntArray, ts_ns: IntArray, low: int, size: int) -> int:
    """Where a piece of some size ends that begins at `low`: spans that start together are in one piece."""
    high = low + size
    if high >= len(spans):
        return len(spans)
    at = ts_ns[spans[high]]
    earlier = low + int(np.searchsorted(ts_ns[spans[low:high]], at))
    return earlier if earlier > low else int(np.searchsorted(spans, np.searchsorted(ts_ns, at, side="right")))


def _innermost_of(
    spans: IntArray,
    chosen: IntArray,
    ts_ns: IntArray,
    dur_ns: IntArray,
    track: Codes,
    is_wanted: BoolArray,
    by_time: BoolArray,
) -> IntArray:
    """`innermost_of` at once, int64 [k], of those that are chosen; `is_wanted` runs along the spans."""
    start = ts_ns[chosen]
    opened = OpenSpans(start, start + dur_ns[chosen], track[chosen])
    place = opened.at(track[spans], ts_ns[spans])
    inside = np.flatnonzero((place >= 0) & ~by_time[spans])
    while len(inside := inside[chosen[place[inside]] > spans[inside]]):
        place[inside] = opened.parent[place[inside]]
        inside = inside[place[inside] >= 0]
    around = np.where(place >= 0, chosen[place], NONE)
    return np.where(is_wanted, spans, around)
