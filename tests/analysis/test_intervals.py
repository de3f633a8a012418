from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_trace.analysis.intervals import (
    EMPTY,
    Intervals,
    clip,
    first_come,
    gaps,
    intersect,
    measure,
    union,
    union_ns,
)
from gemma_trace.trace.events import IntArray

Pairs = list[tuple[int, int]]

SMALL = st.integers(-6, 12)
ANY = st.lists(st.tuples(SMALL, SMALL), max_size=8)
"""Pairs of start and end, ends before starts among them."""
PROPER = ANY.map(lambda pairs: [(min(pair), max(pair)) for pair in pairs])
"""Pairs whose end is not before their start."""


def columns(pairs: Pairs) -> tuple[IntArray, IntArray]:
    return np.array([a for a, _ in pairs], np.int64), np.array([b for _, b in pairs], np.int64)


def pairs_of(intervals: Intervals) -> Pairs:
    return list(zip(intervals[0].tolist(), intervals[1].tolist(), strict=True))


def instants(pairs: Pairs) -> set[int]:
    """The model: an interval is the integers in it."""
    return {instant for start, end in pairs for instant in range(start, end)}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], []),
        ([(3, 3)], []),
        ([(5, 2)], []),
        ([(1, 4)], [(1, 4)]),
        ([(1, 4), (4, 6)], [(1, 6)]),
        ([(1, 4), (5, 6)], [(1, 4), (5, 6)]),
        ([(5, 9), (0, 3), (2, 4)], [(0, 4), (5, 9)]),
        ([(0, 10), (2, 3), (9, 12)], [(0, 12)]),
        ([(0, 10), (2, 3), (5, 6), (11, 12)], [(0, 10), (11, 12)]),
        ([(1, 2), (1, 2), (1, 2)], [(1, 2)]),
        ([(-5, -1), (-1, 0)], [(-5, 0)]),
        ([(2**62, 2**62 + 1), (2**62 + 1, 2**62 + 3)], [(2**62, 2**62 + 3)]),
    ],
)
def test_union_joins_what_overlaps_or_touches(pairs: Pairs, expected: Pairs) -> None:
    result = union(*columns(pairs))
    assert pairs_of(result) == expected
    assert result[0].dtype == result[1].dtype == np.int64


def test_measure_adds_the_lengths() -> None:
    assert measure(columns([(0, 4), (10, 11)])) == 5
    assert measure(EMPTY) == 0


def test_the_length_of_a_union_counts_each_instant_once() -> None:
    assert union_ns(*columns([(0, 10), (5, 20), (30, 31)])) == 21


def test_clip_cuts_and_keeps_what_is_outside_in_place_and_empty() -> None:
    clipped = clip(*columns([(0, 3), (4, 12), (9, 30), (20, 25), (5, 5)]), 5, 10)
    assert pairs_of(clipped) == [(5, 5), (5, 10), (9, 10), (10, 10), (5, 5)]


def test_gaps_are_what_a_set_leaves_of_a_window() -> None:
    busy = columns([(2, 5), (7, 9)])
    assert pairs_of(gaps(busy, 0, 10)) == [(0, 2), (5, 7), (9, 10)]
    assert pairs_of(gaps(busy, 2, 9)) == [(5, 7)]
    assert pairs_of(gaps(EMPTY, 3, 4)) == [(3, 4)]
    assert pairs_of(gaps(EMPTY, 3, 3)) == []


def test_common_pieces_know_where_they_are_from() -> None:
    start, end, first, second = intersect(columns([(0, 5), (5, 9), (20, 30)]), columns([(3, 7), (8, 25)]))
    assert pairs_of((start, end)) == [(3, 5), (5, 7), (8, 9), (20, 25)]
    assert first.tolist() == [0, 1, 1, 2]
    assert second.tolist() == [0, 0, 1, 1]
    assert pairs_of(intersect(EMPTY, columns([(0, 5)]))[:2]) == []
    assert pairs_of(intersect(columns([(0, 5)]), EMPTY)[:2]) == []


def test_first_come_gives_the_earliest_started_what_overlaps() -> None:
    owned = first_come(*columns([(0, 10), (5, 20), (6, 8), (12, 25), (30, 31)]))
    assert pairs_of(owned) == [(0, 10), (10, 20), (20, 20), (20, 25), (30, 31)]


def test_first_come_of_nothing_is_nothing() -> None:
    assert pairs_of(first_come(*EMPTY)) == []


def test_first_come_of_two_alike_gives_all_to_the_first() -> None:
    assert pairs_of(first_come(*columns([(2, 5), (2, 5)]))) == [(2, 5), (5, 5)]


@given(ANY)
def test_union_holds_exactly_the_instants_of_its_parts(pairs: Pairs) -> None:
    result = pairs_of(union(*columns(pairs)))
    assert instants(result) == instants(pairs)
    assert all(start < end for start, end in result)
    assert all(end < start for (_, end), (start, _) in pairwise(result))


@given(ANY)
def test_union_measures_as_many_instants_as_there_are(pairs: Pairs) -> None:
    assert union_ns(*columns(pairs)) == len(instants(pairs))


@given(ANY)
def test_union_of_a_union_is_itself(pairs: Pairs) -> None:
    once = union(*columns(pairs))
    assert pairs_of(union(*once)) == pairs_of(once)


@given(PROPER, SMALL, SMALL)
def test_clip_keeps_the_instants_inside(pairs: Pairs, one: int, other: int) -> None:
    low, high = sorted((one, other))
    clipped = pairs_of(clip(*columns(pairs), low, high))
    assert [instants([pair]) for pair in clipped] == [instants([pair]) & set(range(low, high)) for pair in pairs]
    assert all(low <= start <= end <= high for start, end in clipped)


@given(ANY, ANY)
def test_common_pieces_hold_exactly_the_common_instants(pairs: Pairs, others: Pairs) -> None:
    first, second = union(*columns(pairs)), union(*columns(others))
    start, end, *_ = intersect(first, second)
    assert instants(pairs_of((start, end))) == instants(pairs) & instants(others)
    assert union_ns(start, end) == int((end - start).sum())


@given(ANY)
def test_gaps_and_what_is_busy_fill_the_window(pairs: Pairs) -> None:
    busy = union(*columns(pairs))
    assert instants(pairs_of(gaps(busy, -6, 12))) == set(range(-6, 12)) - instants(pairs)


@given(PROPER)
def test_first_come_gives_each_instant_to_the_first_that_holds_it(pairs: Pairs) -> None:
    pairs = sorted(pairs)
    owned = pairs_of(first_come(*columns(pairs)))
    taken: set[int] = set()
    for pair, part in zip(pairs, owned, strict=True):
        assert instants([part]) == instants([pair]) - taken
        assert part[0] <= part[1]
        taken |= instants([pair])
