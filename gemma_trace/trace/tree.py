"""Nesting on each track: who is inside whom, how deep, and which stretches of time a span keeps for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.closed_pieces import closed_pieces, stable_order
from gemma_trace.trace.events import NONE, CodeArray, Codes, IntArray
from gemma_trace.trace.places import distinct, is_among

Ranks = npt.NDArray[np.int8] | IntArray

MOST_ROUNDS: Final = 4
"""How often the spans to be clipped are searched for, before all of a line are gone through."""


@dataclass(frozen=True)
class Nesting:
    """The spans of a set of tracks as trees. All columns have the length n of the spans given.

    Attributes:
        parent: int32, index of the innermost span around this one on its track; `NONE` for a root.
        depth: int32, 0 for a root.
        end_ns: int64, where each span ends once it is clipped to its parent.
        clipped: how many spans crossed another of their track and were clipped.
    """

    parent: CodeArray
    depth: CodeArray
    end_ns: IntArray
    clipped: int


def nest(
    ts_ns: IntArray, end_ns: IntArray, track: Codes, rank: Ranks | None = None, rows: IntArray | None = None
) -> Nesting:
    """Nest spans that are sorted by start, the longer first, each among those of its own track.

    Where a span starts inside another and ends after it, one of the two has to be clipped. Without ranks it is the
    later one, to the other's end, as a profiler's clock that is read twice makes spans bleed into each other by less
    than a microsecond. With ranks a span above 0 keeps its extent: what is open where it starts, is of no higher rank
    and ends before it does is clipped to its start. So where all have rank 1, the innermost span at every instant is
    the one that started last of those that are open.

    Args:
        ts_ns: int64 [n], starts.
        end_ns: int64 [n], ends.
        track: integer [n], which spans belong together.
        rank: integer [n], see above; None is 0 for all.
        rows: int64 [n], where in longer columns of starts and tracks the spans are, so that nobody has to copy them.
    """
    n = len(end_ns)
    parent, depth = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int32)
    clipped_end = np.empty(n, dtype=np.int64)
    clipped = 0
    for piece in closed_pieces(ts_ns, end_ns, track, rows):
        here = piece if rows is None else rows[piece]
        ranks = None if rank is None else rank[piece]
        above, depth[piece], clipped_end[piece], cut = _nest_piece(ts_ns[here], end_ns[piece], track[here], ranks)
        parent[piece] = np.where(above >= 0, piece[above], NONE)
        clipped += cut
    return Nesting(parent, depth, clipped_end, clipped)


def _nest_piece(
    ts_ns: IntArray, end_ns: IntArray, track: Codes, ranks: Ranks | None
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Parent, depth, clipped end and number of clipped spans, of spans that are sorted by track."""
    n, zero = len(ts_ns), ts_ns.min()
    # Each track gets a stretch of time of its own, so that one pass nests them all. Times are doubled so that an
    # empty span can have an inside, which makes it end after its start.
    start, end = ts_ns - zero, end_ns - zero
    start *= 2
    end *= 2
    np.maximum(end, start + 1, out=end)
    first = np.flatnonzero(np.diff(track, prepend=NONE - 1))
    stretch = int(end.max()) + 1
    if len(first) * stretch < 2**62:
        offset = np.repeat(np.arange(len(first)) * stretch, np.diff(np.append(first, n)))
        start += offset
        end += offset
        parent, depth, clipped_end, clipped = _nest_line(start, end, ranks)
        clipped_end -= offset
    else:  # centuries of trace: nest track by track instead
        parts = []
        for begin, stop in zip(first, np.append(first[1:], n), strict=True):
            line_ranks = None if ranks is None else ranks[begin:stop]
            nested = _nest_line(start[begin:stop], end[begin:stop], line_ranks)
            parts.append((np.where(nested[0] >= 0, nested[0] + begin, NONE), *nested[1:]))
        parent, depth, clipped_end = (np.concatenate([part[i] for part in parts]) for i in range(3))
        clipped = sum(part[3] for part in parts)
    return parent, depth, clipped_end // 2 + zero, clipped


def _nest_line(start: IntArray, end: IntArray, rank: Ranks | None) -> tuple[IntArray, IntArray, IntArray, int]:
    """Parent, depth, clipped end and number of clipped spans of one line of spans, sorted by start, longer first.

    How many spans are open where one starts is how many started before less how many ended before; the parent is the
    last span before that is one level up. Both need spans that nest, so where some cross they are clipped first.
    """
    given = end
    depth, parent = _levels(start, end)
    if rank is not None and (end[(inner := np.flatnonzero(parent >= 0))] > end[parent[inner]]).any():
        end = _cut_at_ranked(start, end, rank)
        depth, parent = _levels(start, end)
    original = end
    edges = np.zeros(0, dtype=np.int64)
    for left in range(MOST_ROUNDS, -1, -1):
        crossing = (parent >= 0) & (end > end[parent])
        if not crossing.any():
            break
        edges = distinct(np.concatenate((edges, end[parent[crossing]])))
        chosen = _at_edges(start, original, edges) if left else np.arange(len(start))
        end = _clipped(start, original, chosen)  # from the start: with an edge missing, others were clipped too late
        depth, parent = _levels(start, end)
    return parent, depth, end, int((end < given).sum())


def _levels(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    """Depth and parent of spans that nest."""
    depth = np.searchsorted(np.sort(end), start, side="right")
    np.subtract(np.arange(len(start)), depth, out=depth)
    return depth, _parents(depth)


def _at_edges(start: IntArray, end: IntArray, edges: IntArray) -> IntArray:
    """The spans that end at one of these edges or hold one.

    Args:
        edges: int64, ascending: ends that other spans cross.
    """
    holds = np.searchsorted(edges, start, side="right") < np.searchsorted(edges, end, side="left")
    return np.flatnonzero(holds | is_among(end, edges))


def _clipped(start: IntArray, end: IntArray, chosen: IntArray) -> IntArray:
    """The ends once those of the chosen spans that cross another of them are clipped to it.

    A span is clipped to what is left of the one around it, so the order matters and a loop it is: over the chosen
    spans only.
    """
    ends = end[chosen].tolist()
    open_ends: list[int] = []
    for place, (begins, ends_at) in enumerate(zip(start[chosen].tolist(), ends, strict=True)):
        while open_ends and open_ends[-1] <= begins:
            open_ends.pop()
        if open_ends and ends_at > open_ends[-1]:
            ends[place] = ends_at = open_ends[-1]
        open_ends.append(ends_at)
    clipped = end.copy()
    clipped[chosen] = ends
    return clipped


def _cut_at_ranked(start: IntArray, end: IntArray, rank: Ranks) -> IntArray:
    """The ends once every span is clipped to the first later one that crosses it and that it has to give way to."""
    cut = end.copy()
    for level in distinct(rank[rank > 0])[::-1].tolist():
        keeper = np.flatnonzero(rank == level)
        yields = np.flatnonzero(rank <= level)
        first = np.searchsorted(keeper, yields, side="right")
        inside = first < np.searchsorted(start[keeper], cut[yields], side="left")
        yields, first = yields[inside], first[inside]
        closing = first_greater(cut[keeper], first, cut[yields])
        crossed = closing < len(keeper)
        yields, at = yields[crossed], start[keeper[closing[crossed]]]
        cut[yields] = np.minimum(cut[yields], at)
    return cut


def first_greater(values: IntArray, begin: IntArray, bound: IntArray) -> IntArray:
    """For each query the first place from `begin` on whose value is greater than its bound.

    Args:
        values: int64 [k].
        begin: int64 [q], places in `values`, k at most.
        bound: int64 [q].

    Returns:
        int64 [q]; k where there is none.
    """
    size = 1 << len(values).bit_length()  # more than k, so that what stands behind the values ends every search
    highest = np.full(2 * size, np.iinfo(np.int64).max)
    highest[size : size + len(values)] = values
    for width in (size >> step for step in range(1, size.bit_length())):
        highest[width : 2 * width] = np.maximum(
            highest[2 * width : 4 * width : 2], highest[2 * width + 1 : 4 * width : 2]
        )
    node = begin + size
    climbing = np.flatnonzero(highest[node] <= bound)
    while len(climbing):  # on to the next block, and up to the largest that starts there
        following = node[climbing] + 1
        node[climbing] = following // (following & -following)
        climbing = climbing[highest[node[climbing]] <= bound[climbing]]
    for _ in range(size.bit_length() - 1):
        inner = np.flatnonzero(node < size)
        left = 2 * node[inner]
        node[inner] = np.where(highest[left] > bound[inner], left, left + 1)
    return np.minimum(node - size, len(values))


def _parents(depth: IntArray) -> IntArray:
    """The last index before each that is one level up."""
    parent = np.full(len(depth), NONE, dtype=np.int64)
    by_depth = stable_order(depth)
    levels = np.searchsorted(depth[by_depth], np.arange(depth.max(initial=-1) + 2))
    for level in range(1, len(levels) - 1):
        above = by_depth[levels[level - 1] : levels[level]]
        here = by_depth[levels[level] : levels[level + 1]]
        if len(above):
            place = np.searchsorted(above, here) - 1
            parent[here] = np.where(place >= 0, above[place], NONE)
    return parent


@dataclass(frozen=True)
class Segments:
    """Stretches of time on tracks, each with the innermost span that is open in it. Empty ones are left out.

    Attributes:
        start_ns, end_ns: int64 [s].
        owner: int32 [s], index of the innermost span.
    """

    start_ns: IntArray
    end_ns: IntArray
    owner: CodeArray


def innermost_segments(ts_ns: IntArray, track: Codes, nesting: Nesting, rows: IntArray | None = None) -> Segments:
    """Cut each track at every start and end: what a span keeps for itself when its children are taken out.

    The segments of one owner add up to its length less that of its children; those of one track are disjoint.

    Args:
        ts_ns: int64 [n], starts, as given to `nest`.
        track: integer [n], as given to `nest`.
        rows: int64 [n], where in longer columns of starts and tracks the spans given to `nest` are, so that nobody has
            to copy them; `owner` is one of these then.
    """
    most = 2 * len(nesting.parent)  # what isn't filled takes no memory
    columns: list[npt.NDArray[Any]] = [np.empty(most, dtype=dtype) for dtype in (np.int64, np.int64, np.int32)]
    low = 0
    for piece in closed_pieces(ts_ns, nesting.end_ns, track, rows):
        real = piece[nesting.end_ns[piece] > ts_ns[piece if rows is None else rows[piece]]]
        here = real if rows is None else rows[real]
        start, end, owner = _segments_of(ts_ns[here], track[here], nesting, real)
        high = low + len(start)
        for column, values in zip(columns, (start, end, owner if rows is None else rows[owner]), strict=True):
            column[low:high] = values
        low = high
    for column in columns:
        column.resize(low, refcheck=False)
    return Segments(*columns)


def _segments_of(
    ts_ns: IntArray, track: Codes, nesting: Nesting, real: IntArray
) -> tuple[IntArray, IntArray, CodeArray]:
    """The segments of some spans that aren't empty, with all that is in them and around them: start, end, owner.

    Args:
        ts_ns, track: of these spans.
    """
    time = np.concatenate((ts_ns, nesting.end_ns[real]))
    tracks = np.tile(track, 2)
    # At one instant spans end before others start, inner ones end first, outer ones start first.
    depth = nesting.depth[real]
    order = np.lexsort((np.concatenate((depth, -1 - depth)), time, tracks))
    tracks, time = tracks[order], time[order]  # so that each is in memory once
    owner = np.concatenate((real.astype(np.int32), nesting.parent[real]))[order]
    kept = np.flatnonzero((owner[:-1] >= 0) & (tracks[1:] == tracks[:-1]) & (time[1:] > time[:-1]))
    return time[kept], time[kept + 1], owner[kept]
