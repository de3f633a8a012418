"""Sets of instants as int64 arrays of disjoint half-open intervals, [start, end), sorted by start.

All functions are exact in integers and vectorised. A set is a pair of int64 arrays of equal length.
"""

from __future__ import annotations

import numpy as np

from gemma_trace.trace.events import IntArray

Intervals = tuple[IntArray, IntArray]
"""Starts and ends of disjoint, sorted, non-empty intervals."""

EMPTY: Intervals = (np.zeros(0, np.int64), np.zeros(0, np.int64))


def union(start: IntArray, end: IntArray) -> Intervals:
    """The union of any intervals; touching ones become one, empty ones vanish.

    >>> union(np.array([5, 0, 2]), np.array([9, 3, 4]))
    (array([0, 5]), array([4, 9]))
    """
    real = end > start
    start, end = start[real], end[real]
    if not len(start):
        return EMPTY
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.maximum.accumulate(end)
    fresh = np.append(True, start[1:] > reach[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(start) - 1)
    return start[fresh], reach[last]


def measure(intervals: Intervals) -> int:
    """The total length."""
    return int((intervals[1] - intervals[0]).sum())


def union_ns(start: IntArray, end: IntArray) -> int:
    """The length of the union of any intervals."""
    return measure(union(start, end))


def union_ns_by(group: IntArray, start: IntArray, end: IntArray, groups: int) -> IntArray:
    """The length of the union of each group's intervals, in one pass.

    Args:
        group: int64 [n], which group each interval is in.
        groups: how many there are.

    Returns:
        int64 [groups].
    """
    lengths = np.zeros(groups, dtype=np.int64)
    order = np.lexsort((start, group))
    group, start, end = group[order], start[order], end[order]
    fresh = np.append(True, group[1:] != group[:-1])[: len(group)]
    # How far the group has reached before each interval: a running maximum that starts afresh with every group, which
    # one maximum over ranks gives, since a later group's ranks are all higher.
    rank = np.empty(len(end), dtype=np.int64)
    by_end = np.lexsort((end, group))
    rank[by_end] = np.arange(len(end))
    reached = end[by_end][np.maximum.accumulate(rank)]
    before = np.where(fresh, start, np.append(0, reached[:-1])[: len(end)])
    np.add.at(lengths, group, np.maximum(end - np.maximum(start, before), 0))
    return lengths


def clip(start: IntArray, end: IntArray, low: int, high: int) -> Intervals:
    """Intervals cut to [low, high); those outside become empty and stay in place."""
    clipped = np.clip(start, low, high)
    return clipped, np.maximum(np.clip(end, low, high), clipped)


def gaps(busy: Intervals, low: int, high: int) -> Intervals:
    """What a set inside [low, high) leaves of it."""
    start, end = np.append(low, busy[1]), np.append(busy[0], high)
    real = end > start
    return start[real], end[real]


def intersect(first: Intervals, second: Intervals) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Two sets' common pieces. Touching intervals of a set stay apart, so each piece lies in one of either.

    Returns:
        int64 [p] each: starts, ends, and the index of the interval of the first and of the second set.
    """
    # Those of the second set that begin before the end of one of the first and end after its start.
    low = np.searchsorted(second[1], first[0], side="right")
    count = np.maximum(np.searchsorted(second[0], first[1], side="left") - low, 0)
    in_first = np.repeat(np.arange(len(low)), count)
    in_second = np.arange(len(in_first)) + np.repeat(low - np.cumsum(count) + count, count)
    return (
        np.maximum(first[0][in_first], second[0][in_second]),
        np.minimum(first[1][in_first], second[1][in_second]),
        in_first,
        in_second,
    )


def first_come(start: IntArray, end: IntArray) -> Intervals:
    """The part of each interval that none before it covers: at every instant the earliest started owns it.

    Args:
        start: int64 [n], ascending.
        end: int64 [n].

    Returns:
        n intervals, in place, disjoint; empty (start = end) where an earlier one covers all.
    """
    if not len(start):
        return EMPTY
    taken = np.concatenate(([start[0]], np.maximum.accumulate(end)[:-1]))
    owned = np.maximum(start, taken)
    return owned, np.maximum(end, owned)
