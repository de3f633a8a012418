from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, tuples

from gemma_trace.trace import tree
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.tree import Segments, first_greater, innermost_segments
from tests.trace.owned_nesting import OwnedNesting, nest
from tests.trace_builder import TraceBuilder

Spans = list[tuple[int, int]]


def columns(spans: Spans, tracks: list[int] | None = None) -> tuple[IntArray, IntArray, IntArray]:
    """Starts, ends and tracks of spans given as (start, end)."""
    return (
        np.array([start for start, _ in spans], np.int64),
        np.array([end for _, end in spans], np.int64),
        np.array(tracks or [0] * len(spans), np.int64),
    )


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def nested(spans: Spans, tracks: list[int] | None = None) -> OwnedNesting:
    return nest(*columns(spans, tracks))


def cut(spans: Spans, tracks: list[int] | None = None) -> list[tuple[int, int, int]]:
    """The innermost segments as (start, end, owner)."""
    start, end, track = columns(spans, tracks)
    found: Segments = innermost_segments(start, track, nest(start, end, track))
    return list(zip(found.start_ns.tolist(), found.end_ns.tolist(), found.owner.tolist(), strict=True))


def test_no_spans_make_no_trees() -> None:
    nesting = nested([])
    assert len(nesting.parent) == len(nesting.depth) == len(nesting.end_ns) == len(nesting.self_ns) == 0
    assert nesting.clipped == 0
    assert cut([]) == []


def test_children_are_taken_off_their_parent_only() -> None:
    # 0: [0, 100) holds 1: [10, 40) and 3: [50, 90); 1 holds 2: [20, 30).
    nesting = nested([(0, 100), (10, 40), (20, 30), (50, 90)])
    assert nesting.parent.tolist() == [NONE, 0, 1, 0]
    assert nesting.depth.tolist() == [0, 1, 2, 1]
    assert nesting.self_ns.tolist() == [100 - 30 - 40, 20, 10, 40]
    assert nesting.end_ns.tolist() == [100, 40, 30, 90]
    assert nesting.clipped == 0


def test_touching_spans_are_siblings() -> None:
    nesting = nested([(0, 10), (10, 20), (20, 30)])
    assert nesting.parent.tolist() == [NONE, NONE, NONE]
    assert nesting.self_ns.tolist() == [10, 10, 10]
    assert nesting.clipped == 0


def test_touching_children_fill_their_parent() -> None:
    nesting = nested([(0, 20), (0, 10), (10, 20)])
    assert nesting.parent.tolist() == [NONE, 0, 0]
    assert nesting.self_ns.tolist() == [0, 10, 10]


def test_the_later_of_identical_spans_is_inside_the_earlier() -> None:
    nesting = nested([(5, 9), (5, 9), (5, 9)])
    assert nesting.parent.tolist() == [NONE, 0, 1]
    assert nesting.depth.tolist() == [0, 1, 2]
    assert nesting.self_ns.tolist() == [0, 0, 4]


def test_empty_spans_have_the_span_around_them_as_parent() -> None:
    # At the parent's start and middle they are inside, at its end they are not.
    nesting = nested([(0, 10), (0, 0), (4, 4), (10, 10)])
    assert nesting.parent.tolist() == [NONE, 0, 0, NONE]
    assert nesting.end_ns.tolist() == [10, 0, 4, 10]
    assert nesting.self_ns.tolist() == [10, 0, 0, 0]
    assert nesting.clipped == 0


def test_of_two_empty_spans_at_one_instant_the_later_is_inside_the_earlier() -> None:
    nesting = nested([(0, 10), (4, 4), (4, 4), (5, 6)])
    assert nesting.parent.tolist() == [NONE, 0, 1, 0]
    assert nesting.self_ns.tolist() == [9, 0, 0, 1]


def test_a_span_that_crosses_its_parents_end_is_clipped_and_counted() -> None:
    nesting = nested([(0, 10), (6, 13)])
    assert nesting.parent.tolist() == [NONE, 0]
    assert nesting.end_ns.tolist() == [10, 10]
    assert nesting.self_ns.tolist() == [6, 4]
    assert nesting.clipped == 1


def test_what_a_clipped_span_holds_is_clipped_with_it() -> None:
    # 1 crosses the end of 0, and 2 then crosses the new end of 1.
    nesting = nested([(0, 10), (6, 13), (8, 12)])
    assert nesting.parent.tolist() == [NONE, 0, 1]
    assert nesting.end_ns.tolist() == [10, 10, 10]
    assert nesting.self_ns.tolist() == [6, 2, 2]
    assert nesting.clipped == 2


def test_a_span_behind_a_clipped_one_is_not_inside_it() -> None:
    # 2 starts in what is clipped off 1, so nothing is around it.
    nesting = nested([(0, 10), (6, 14), (11, 13)])
    assert nesting.parent.tolist() == [NONE, 0, NONE]
    assert nesting.end_ns.tolist() == [10, 10, 13]
    assert nesting.clipped == 1


def test_tracks_dont_nest_in_each_other() -> None:
    # Track 5 holds spans 0 and 2, track 3 holds 1 and 3.
    nesting = nested([(0, 100), (10, 50), (20, 30), (20, 60)], [5, 3, 5, 3])
    assert nesting.parent.tolist() == [NONE, NONE, 0, 1]
    assert nesting.depth.tolist() == [0, 0, 1, 1]
    assert nesting.end_ns.tolist() == [100, 50, 30, 50]
    assert nesting.self_ns.tolist() == [90, 10, 10, 30]
    assert nesting.clipped == 1


def test_times_of_any_sign_and_size_nest_alike() -> None:
    spans: Spans = [(0, 100), (10, 40), (20, 30), (30, 50), (90, 120)]
    tracks = [0, 0, 0, 1, 0]
    expected = nested(spans, tracks)
    for shift in (-1_000, 7, 1_700_000_000_000_000_000, 2**60):
        moved = nested([(start + shift, end + shift) for start, end in spans], tracks)
        assert moved.parent.tolist() == expected.parent.tolist() == [NONE, 0, 1, NONE, 0]
        assert moved.self_ns.tolist() == expected.self_ns.tolist() == [60, 20, 10, 20, 10]
        assert (moved.end_ns - shift).tolist() == expected.end_ns.tolist() == [100, 40, 30, 50, 100]
        assert moved.clipped == expected.clipped == 1


def test_each_instant_is_the_innermost_spans() -> None:
    assert cut([(0, 100), (10, 40), (20, 30), (50, 90)]) == [
        (0, 10, 0),
        (10, 20, 1),
        (20, 30, 2),
        (30, 40, 1),
        (40, 50, 0),
        (50, 90, 3),
        (90, 100, 0),
    ]


def test_gaps_between_roots_are_nobodys() -> None:
    assert cut([(0, 10), (15, 20), (20, 22)]) == [(0, 10, 0), (15, 20, 1), (20, 22, 2)]


def test_of_identical_spans_the_innermost_owns_it_all() -> None:
    assert cut([(0, 10), (2, 6), (2, 6)]) == [(0, 2, 0), (2, 6, 2), (6, 10, 0)]


def test_empty_spans_own_nothing_and_cut_nothing() -> None:
    assert cut([(0, 10), (0, 0), (4, 4), (10, 10)]) == [(0, 10, 0)]


def test_a_clipped_span_owns_its_time_up_to_its_parents_end() -> None:
    assert cut([(0, 10), (6, 13), (12, 15)]) == [(0, 6, 0), (6, 10, 1), (12, 15, 2)]


def test_segments_of_each_track_are_cut_by_its_own_spans() -> None:
    assert sorted(cut([(0, 100), (10, 50), (20, 30)], [5, 3, 5])) == [
        (0, 20, 0),
        (10, 50, 1),
        (20, 30, 2),
        (30, 100, 0),
    ]


def test_segments_of_one_owner_add_up_to_its_self_time() -> None:
    spans: Spans = [(0, 100), (0, 100), (3, 9), (3, 9), (9, 9), (20, 130), (50, 60), (60, 140), (150, 151), (150, 150)]
    tracks = [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    owned = [0] * len(spans)
    for start, end, owner in cut(spans, tracks):
        assert start < end
        owned[owner] += end - start
    # By hand: 0 loses 6 and 10; 1 loses 6 and, to 5, which is clipped to 100, 80; 5 loses 40 to 7.
    assert owned == nested(spans, tracks).self_ns.tolist() == [84, 14, 6, 6, 0, 40, 10, 40, 1, 0]


def test_a_traces_segments_name_spans_among_all_of_them(tmp_path: Path) -> None:
    built = TraceBuilder().kernel("gemm", 0, 50).op("outer", 10, 30).op("inner", 20, 10).op("other", 15, 5, tid=7)
    trace = built.load(tmp_path)
    segments = trace.segments
    owners = [trace.spans.names[code] for code in trace.spans.name[segments.owner]]
    found = sorted(zip(segments.start_ns.tolist(), segments.end_ns.tolist(), owners, strict=True))
    assert found == [(10, 20, "outer"), (15, 20, "other"), (20, 30, "inner"), (30, 40, "outer")]


def test_a_span_isnt_clipped_to_what_was_itself_clipped_before_it() -> None:
    # 1 and 2 are clipped to the end of 0, at 3; so 3 starts in the open and is whole.
    nesting = nest(np.array([1, 2, 2, 5]), np.array([3, 6, 6, 10]), np.zeros(4, np.int64))
    assert nesting.end_ns.tolist() == [3, 3, 3, 10]
    assert nesting.clipped == 2


def test_a_long_chain_of_crossing_spans_is_clipped_to_its_first() -> None:
    start = np.arange(200)
    nesting = nest(start, 1000 + start, np.zeros(200, np.int64))
    assert nesting.end_ns.tolist() == [1000] * 200


def test_a_span_is_not_clipped_to_an_end_that_is_itself_clipped_away() -> None:
    # 3 and 4 are clipped to the end of 2, at 4, where 5 starts in the open.
    start, end = np.array([0, 1, 2, 3, 3, 4]), np.array([2, 3, 4, 5, 5, 6])
    nesting = nest(start, end, np.zeros(6, np.int64))
    assert nesting.end_ns.tolist() == [2, 2, 4, 4, 4, 6]
    assert nesting.parent.tolist() == [-1, 0, -1, 2, 3, -1]


def test_ranked_spans_keep_their_extent_and_what_crosses_them_is_clipped() -> None:
    # A frame into the range, the range, and a frame out of it; the range alone has a rank.
    found = nest(*columns([(95, 107), (100, 500), (490, 502)]), ints(0, 1, 0))
    assert (found.end_ns.tolist(), found.clipped) == ([100, 500, 500], 2)
    assert found.parent.tolist() == [-1, -1, 1]


def test_of_spans_with_ranks_that_cross_the_one_that_started_last_has_the_instant() -> None:
    found = nest(*columns([(0, 100), (50, 150), (60, 80)]), ints(1, 1, 1))
    assert (found.end_ns.tolist(), found.self_ns.tolist()) == ([50, 150, 80], [50, 80, 20])
    higher = nest(*columns([(0, 100), (50, 150)]), ints(2, 1))
    assert higher.end_ns.tolist() == [100, 100], "a lower rank gives way"


@given(lists(integers(0, 9), max_size=40), lists(tuples(integers(0, 45), integers(-1, 10)), max_size=20))
def test_the_first_greater_value_is_found_as_a_loop_finds_it(values: list[int], asked: list[tuple[int, int]]) -> None:
    begin = [min(place, len(values)) for place, _ in asked]
    expected = [
        next((place for place in range(low, len(values)) if values[place] > bound), len(values))
        for low, (_, bound) in zip(begin, asked, strict=True)
    ]
    found = first_greater(ints(*values), ints(*begin), ints(*(bound for _, bound in asked)))
    assert found.tolist() == expected


def test_a_span_gives_way_to_what_is_left_of_a_later_one() -> None:
    # 3 cuts 1 and 2 at 8; so 2 no longer crosses the end of 1, and neither loses more.
    found = nest(*columns([(0, 5), (4, 12), (4, 10), (8, 17), (9, 13)]), ints(2, 1, 1, 2, 1))
    assert found.end_ns.tolist() == [5, 5, 5, 17, 13]


def test_the_self_times_of_crossing_spans_of_any_rank_are_never_below_zero() -> None:
    rng = np.random.default_rng(7)
    for _ in range(300):
        start = np.sort(rng.integers(0, 12, 12))
        end = start + rng.integers(0, 10, 12)
        order = np.lexsort((-end, start))
        nesting = nest(start[order], end[order], np.zeros(12, np.int64), rng.integers(0, 3, 12))
        assert (nesting.self_ns >= 0).all()


def test_crossing_spans_are_gone_through_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    clipped = tree._clipped

    def counted(start: IntArray, end: IntArray, chosen: IntArray) -> IntArray:
        rounds.append(len(chosen))
        return clipped(start, end, chosen)

    monkeypatch.setattr(tree, "_clipped", counted)
    start = np.arange(5000) * 1000
    nesting = nest(start, start + 10_500, np.zeros(5000, np.int64))
    assert len(rounds) == tree.MOST_ROUNDS + 1
    # Each root is open for 10.5 steps: the ten that start in it are clipped to its end.
    assert nesting.clipped == 5000 - len(np.flatnonzero(nesting.parent == NONE))
    assert np.flatnonzero(nesting.parent == NONE).tolist() == list(range(0, 5000, 11))


def test_one_pass_clips_as_many_rounds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    for _ in range(100):
        start = np.sort(rng.integers(0, 60, 40))
        end = start + rng.integers(0, 20, 40)
        order = np.lexsort((-end, start))
        given = start[order], end[order], rng.integers(0, 2, 40)
        found = []
        for rounds in (0, 1000):
            monkeypatch.setattr(tree, "MOST_ROUNDS", rounds)
            found.append(nest(*given))
        assert found[0].end_ns.tolist() == found[1].end_ns.tolist()
        assert found[0].parent.tolist() == found[1].parent.tolist()
