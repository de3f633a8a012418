"""Which of a set of spans is the innermost one open on a thread at an instant: by time alone, not by nesting."""

from __future__ import annotations

import numpy as np

from gemma_trace.trace.closed_pieces import closed_pieces
from gemma_trace.trace.events import NONE, BoolArray, Codes, IntArray
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
    spans: IntArray, ts_ns: IntArray, end_ns: IntArray, track: Codes, wanted: BoolArray, by_time: BoolArray
) -> IntArray:
    """For each span of a set the innermost wanted one that is open where it starts on its track, or itself if wanted.

    A wanted span that starts at the same instant and is the shorter one is inside, not around; but for those spans
    that stand for an instant.

    Args:
        spans: int64 [k], the spans asked for, indices into the columns, ascending.
        ts_ns, end_ns, track: [n], the columns.
        wanted: bool [n].
        by_time: bool [n], spans that stand for the instant at which they start, e.g. launching calls.

    Returns:
        int64 [k], indices of spans; `NONE` where none is open.
    """
    found = np.full(len(spans), NONE, dtype=np.int64)
    is_wanted = wanted[spans]
    if is_wanted.any():
        start = ts_ns[spans]
        for piece in closed_pieces(start, np.where(is_wanted, end_ns[spans], start), track[spans]):
            found[piece] = _innermost_of(spans[piece], ts_ns, end_ns, track, is_wanted[piece], by_time)
    return found


def _innermost_of(
    spans: IntArray, ts_ns: IntArray, end_ns: IntArray, track: Codes, is_wanted: BoolArray, by_time: BoolArray
) -> IntArray:
    """`innermost_of` at once, of spans that ascend on each track; `is_wanted` runs along them."""
    chosen = spans[is_wanted]
    if not len(chosen):
        return np.full(len(spans), NONE, dtype=np.int64)
    opened = OpenSpans(ts_ns[chosen], end_ns[chosen], track[chosen])
    place = opened.at(track[spans], ts_ns[spans])
    inside = np.flatnonzero((place >= 0) & ~by_time[spans])
    while len(inside := inside[chosen[place[inside]] > spans[inside]]):
        place[inside] = opened.parent[place[inside]]
        inside = inside[place[inside] >= 0]
    found = np.where(place >= 0, chosen[place], NONE)
    return np.where(is_wanted, spans, found)
