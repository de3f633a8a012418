"""Spans that are cut into pieces nest, and hold each other, as they do when they are looked at together."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.trace import closed_pieces as module
from gemma_trace.trace import tree
from gemma_trace.trace.closed_pieces import closed_pieces
from gemma_trace.trace.open_spans import innermost_of
from gemma_trace.trace.tree import innermost_segments
from tests.conftest import tries
from tests.trace.owned_nesting import nest

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12), st.integers(0, 3)), max_size=40)


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", module.PIECE)


def cut_to(size: int) -> None:
    """Within a test that draws: what `monkeypatch` sets is kept until its last example."""
    vars(module)["PIECE"] = size


def columns(spans: list[tuple[int, int, int]]) -> tuple[np.ndarray, ...]:
    """Sorted by start, the longer first."""
    ordered = sorted(spans, key=lambda span: (span[0], -span[1]))
    start, length, track = np.array(ordered, dtype=np.int64).reshape(-1, 3).T
    return start, start + length, track.astype(np.int32)


def everything(spans: list[tuple[int, int, int]], wanted: np.ndarray, ranks: np.ndarray) -> list[list[int]]:
    start, end, track = columns(spans)
    nesting = nest(start, end, track, ranks[: len(start)])
    segments = innermost_segments(start, track, nesting)
    none = np.zeros(len(start), dtype=bool)
    inner = innermost_of(np.arange(len(start)), start, end - start, track, wanted[: len(start)], none)
    found: list[np.ndarray] = [nesting.parent, nesting.depth, nesting.end_ns, nesting.self_ns, inner]
    found += [segments.start_ns, segments.end_ns, segments.owner, np.array([nesting.clipped])]
    return [column.tolist() for column in found]


@settings(max_examples=tries(150))
@given(spans=SPANS, size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_pieces_change_nothing(spans: list[tuple[int, int, int]], size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    wanted, ranks = random.random(40) < 0.5, random.integers(0, 3, 40)
    cut_to(1 << 18)
    whole = everything(spans, wanted, ranks)
    cut_to(size)
    assert everything(spans, wanted, ranks) == whole


@settings(max_examples=tries(100))
@given(spans=SPANS, size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_rows_of_longer_columns_are_cut_as_their_copies_are(
    spans: list[tuple[int, int, int]], size: int, seed: int
) -> None:
    cut_to(size)
    random = np.random.default_rng(seed)
    start, end, track = columns(spans)
    rows = np.flatnonzero(random.random(len(start)) < 0.6)
    nesting, by_rows = nest(start[rows], end[rows], track[rows]), tree.nest(start, end[rows], track, None, rows)
    assert [getattr(by_rows, name).tolist() for name in ("parent", "depth", "end_ns")] == [
        getattr(nesting, name).tolist() for name in ("parent", "depth", "end_ns")
    ]
    copied = innermost_segments(start[rows], track[rows], nesting)
    taken = innermost_segments(start, track, nesting, rows)
    assert taken.owner.dtype == np.int32
    assert taken.owner.tolist() == rows[copied.owner].tolist()
    assert (taken.start_ns.tolist(), taken.end_ns.tolist()) == (copied.start_ns.tolist(), copied.end_ns.tolist())


@settings(max_examples=tries(100))
@given(spans=SPANS, size=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_innermost_is_what_a_search_finds(spans: list[tuple[int, int, int]], size: int, seed: int) -> None:
    cut_to(size)
    random = np.random.default_rng(seed)
    start, end, track = columns(spans)
    asked, wanted, by_time = (random.random(len(start)) < share for share in (0.7, 0.5, 0.3))
    found = innermost_of(np.flatnonzero(asked), start, end - start, track, wanted, by_time)
    for row, owner in enumerate(found.tolist()):
        if not asked[row]:
            assert owner == -1
        elif wanted[row]:
            assert owner == row
        elif by_time[row]:  # of those open at its instant the one that started last
            at = start[row]
            is_open = (start <= at) & ((end > at) | ((end == start) & (start == at)))
            holders = np.flatnonzero(asked & wanted & (track == track[row]) & is_open)
            assert owner == (holders[-1] if len(holders) else -1)


@settings(max_examples=tries(100))
@given(spans=SPANS, size=st.integers(1, 6))
def test_each_span_is_in_one_piece_and_pieces_are_apart(spans: list[tuple[int, int, int]], size: int) -> None:
    cut_to(size)
    start, end, track = columns(spans)
    pieces = [piece.tolist() for piece in closed_pieces(start, end, track)]
    assert sorted(chain.from_iterable(pieces)) == list(range(len(start)))
    for number, piece in enumerate(pieces):
        for other in pieces[number + 1 :]:
            assert all(track[a] != track[b] or end[a] < start[b] for a in piece for b in other)


def test_what_can_be_cut_is_no_longer_than_a_piece() -> None:
    cut_to(3)
    start = np.array([0, 10, 20, 30, 40, 50, 60])
    alone = closed_pieces(start, start + 5, np.zeros(7, np.int32))
    assert [piece.tolist() for piece in alone] == [[0, 1, 2], [3, 4, 5], [6]]
    held = closed_pieces(start, np.array([100, 11, 21, 31, 41, 51, 61]), np.zeros(7, np.int32))
    assert [piece.tolist() for piece in held] == [[0, 1, 2, 3, 4, 5, 6]]
    touching = closed_pieces(start, start + 10, np.zeros(7, np.int32))
    assert [len(piece) for piece in touching] == [7]
    tracks = closed_pieces(np.zeros(7, np.int64), np.ones(7, np.int64), np.array([5, 1, 5, 1, 2, 2, 3]))
    assert [piece.tolist() for piece in tracks] == [[1, 3], [4, 5, 6], [0, 2]]
