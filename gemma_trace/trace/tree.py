"""Nesting on each track: who is inside whom, how deep, and what is left of a span when its children are taken off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemma_trace.trace.events import NONE, Codes, IntArray


@dataclass(frozen=True)
class Nesting:
    """The spans of a set of tracks as trees. All columns have the length n of the spans given.

    Attributes:
        parent: int64, index of the innermost span around this one on its track; `NONE` for a root.
        depth: int64, 0 for a root.
        end_ns: int64, where each span ends once it is clipped to its parent.
        self_ns: int64, the clipped length less that of the children.
        clipped: how many spans crossed their parent's end and were clipped to it.
    """

    parent: IntArray
    depth: IntArray
    end_ns: IntArray
    self_ns: IntArray
    clipped: int


def nest(ts_ns: IntArray, end_ns: IntArray, track: Codes) -> Nesting:
    """Nest spans that are sorted by start, the longer first, each among those of its own track.

    A span that starts inside another and ends after it can't be nested; it is clipped to the other's end, as a
    profiler's clock that is read twice makes spans bleed into each other by less than a microsecond.

    Args:
        ts_ns: int64 [n], starts.
        end_ns: int64 [n], ends.
        track: integer [n], which spans belong together.
    """
    n = len(ts_ns)
    zero = ts_ns.min() if n else 0
    order = _stable_order(track)
    # Each track gets a stretch of time of its own, so that one pass nests them all. Times are doubled so that an
    # empty span can have an inside, which makes it end after its start.
    start = 2 * (ts_ns[order] - zero)
    end = np.maximum(2 * (end_ns[order] - zero), start + 1)
    first = np.flatnonzero(np.diff(track[order], prepend=NONE - 1))
    stretch = int(end.max(initial=0)) + 1
    if len(first) * stretch >= 2**62:
        stretch = 0  # centuries of trace: nest track by track instead
    if stretch:
        offset = np.repeat(np.arange(len(first)) * stretch, np.diff(np.append(first, n)))
        parent, depth, clipped_end, clipped = _nest_line(start + offset, end + offset)
        clipped_end -= offset
    else:
        parts = []
        for begin, stop in zip(first, np.append(first[1:], n), strict=True):
            found = _nest_line(start[begin:stop], end[begin:stop])
            parts.append((np.where(found[0] >= 0, found[0] + begin, NONE), *found[1:]))
        parent, depth, clipped_end = (np.concatenate([part[i] for part in parts]) for i in range(3))
        clipped = sum(part[3] for part in parts)
    length = clipped_end // 2 - start // 2
    self_ns = length.copy()
    children = parent >= 0
    np.subtract.at(self_ns, parent[children], length[children])
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    return Nesting(
        parent=np.where(children, order[parent], NONE)[back],
        depth=depth[back],
        end_ns=(clipped_end // 2)[back] + zero,
        self_ns=self_ns[back],
        clipped=clipped,
    )


def _nest_line(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray, IntArray, int]:
    """Parent, depth, clipped end and number of clipped spans of one line of spans, sorted by start, longer first.

    How many spans are open where one starts is how many started before less how many ended before; the parent is the
    last span before that is one level up. Both need spans that nest, so where some cross they are clipped first.
    """
    original = end
    edges = np.zeros(0, dtype=np.int64)
    depth, parent = _levels(start, end)
    while (crossing := (parent >= 0) & (end > end[parent])).any():
        more = np.union1d(edges, end[parent[crossing]])
        if len(more) == len(edges):  # each round finds an edge; this is for the round that doesn't
            break
        edges = more
        end = _clipped(start, original, edges)  # from the start: with an edge missing, others were clipped too late
        depth, parent = _levels(start, end)
    return parent, depth, end, int((end < original).sum())


def _levels(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray]:
    """Depth and parent of spans that nest."""
    depth = np.arange(len(start)) - np.searchsorted(np.sort(end), start, side="right")
    return depth, _parents(depth)


def _clipped(start: IntArray, end: IntArray, edges: IntArray) -> IntArray:
    """The ends once the spans that cross one of these edges are clipped to it.

    A span is clipped to what is left of the one around it, so the order matters and a loop it is: over those spans
    only that end at an edge or hold one.

    Args:
        edges: int64, ascending: ends that other spans cross.
    """
    holds = np.searchsorted(edges, start, side="right") < np.searchsorted(edges, end, side="left")
    chosen = np.flatnonzero(holds | np.isin(end, edges))
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


def _parents(depth: IntArray) -> IntArray:
    """The last index before each that is one level up."""
    parent = np.full(len(depth), NONE, dtype=np.int64)
    by_depth = _stable_order(depth)
    levels = np.searchsorted(depth[by_depth], np.arange(depth.max(initial=-1) + 2))
    for level in range(1, len(levels) - 1):
        above = by_depth[levels[level - 1] : levels[level]]
        here = by_depth[levels[level] : levels[level + 1]]
        if len(above):
            found = np.searchsorted(above, here) - 1
            parent[here] = np.where(found >= 0, above[found], NONE)
    return parent


def _stable_order(small: Codes) -> IntArray:
    """`argsort`, stable; integers of 16 bits are sorted by radix, some ten times faster than wider ones."""
    fits = len(small) == 0 or (small.min() >= -(2**15) and small.max() < 2**15)
    return np.argsort(small.astype(np.int16) if fits else small, kind="stable")


def inherit(own: IntArray, nesting: Nesting) -> IntArray:
    """Hand values down the trees: each span gets its own value, or its nearest ancestor's if it has none.

    Args:
        own: int64 [n], `NONE` where a span has no value of its own.

    Returns:
        int64 [n].
    """
    value = own.copy()
    by_depth = _stable_order(nesting.depth)
    levels = np.searchsorted(nesting.depth[by_depth], np.arange(nesting.depth.max(initial=-1) + 2))
    for level in range(1, len(levels) - 1):
        here = by_depth[levels[level] : levels[level + 1]]
        without = here[(value[here] == NONE) & (nesting.parent[here] >= 0)]
        value[without] = value[nesting.parent[without]]
    return value


@dataclass(frozen=True)
class Segments:
    """Stretches of time on tracks, each with the innermost span that is open in it. Empty ones are left out.

    Attributes:
        start_ns, end_ns: int64 [s].
        owner: int64 [s], index of the innermost span.
    """

    start_ns: IntArray
    end_ns: IntArray
    owner: IntArray


def innermost_segments(ts_ns: IntArray, track: Codes, nesting: Nesting) -> Segments:
    """Cut each track at every start and end: what a span keeps for itself when its children are taken out.

    The segments of one owner add up to its `self_ns`; those of one track are disjoint.

    Args:
        ts_ns: int64 [n], starts, as given to `nest`.
        track: integer [n], as given to `nest`.
    """
    real = np.flatnonzero(nesting.end_ns > ts_ns)
    time = np.concatenate((ts_ns[real], nesting.end_ns[real]))
    opens = np.repeat([True, False], len(real))
    depth = np.tile(nesting.depth[real], 2)
    tracks = np.tile(track[real], 2)
    # At one instant spans end before others start, inner ones end first, outer ones start first.
    order = np.lexsort((np.where(opens, depth, -depth), opens, time, tracks))
    owner = np.concatenate((real, nesting.parent[real]))[order]
    start, end = time[order], np.append(time[order][1:], 0)
    kept = (owner >= 0) & (np.append(tracks[order][1:], NONE) == tracks[order]) & (end > start)
    return Segments(start[kept], end[kept], owner[kept])
