"""What holds for any trace at all."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.errors import TraceFormatError
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.tree import Nesting, innermost_segments
from tests.conftest import tries
from tests.trace.owned_nesting import nest
from tests.trace_builder import decimal_us

FILES = settings(max_examples=tries(60))
PURE = settings(max_examples=tries(200))


class Span(NamedTuple):
    """One complete event."""

    name: str
    cat: str
    ts_ns: int
    dur_ns: int
    correlation: int
    tid: int = 1

    def event(self) -> dict[str, object]:
        args: dict[str, object] = {"correlation": self.correlation} if self.correlation != NONE else {}
        times = {"ts": decimal_us(self.ts_ns), "dur": decimal_us(self.dur_ns)}
        return {"ph": "X", "name": self.name, "cat": self.cat, "pid": 1, "tid": self.tid, "args": args} | times


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["},{", "]}", '"', "\\", "NaN"])
TIMES = st.integers(-(2**60), 2**60) | st.integers(-5000, 5000)
LENGTHS = st.integers(0, 2**52) | st.integers(0, 5000)
SPANS = st.lists(
    st.builds(Span, TEXT, TEXT, TIMES, LENGTHS, st.integers(-1, 2**63 - 1), st.integers(1, 3)), min_size=1, max_size=12
)


def json_of(spans: list[Span], indent: int = -1) -> bytes:
    data = msgspec.json.encode({"schemaVersion": 1, "traceEvents": [span.event() for span in spans], "end": "]}"})
    return msgspec.json.format(data, indent=indent)


def read_back(folder: Path, data: bytes) -> TraceFile:
    path = folder / "trace.json"
    path.write_bytes(data)
    return read_trace(path)


def spans_of(file: TraceFile) -> list[Span]:
    events = file.events
    return [
        Span(events.names[name], events.cats[cat], ts_ns, dur_ns, correlation, int(events.tracks[track].tid))
        for name, cat, ts_ns, dur_ns, correlation, track in zip(
            events.name.tolist(),
            events.cat.tolist(),
            events.ts_ns.tolist(),
            events.dur_ns.tolist(),
            events.correlation.tolist(),
            events.track.tolist(),
            strict=True,
        )
    ]


@FILES
@given(spans=SPANS, indent=st.sampled_from([-1, 0, 2]), compressed=st.booleans())
def test_any_trace_is_read_as_it_was_written(tmp_path: Path, spans: list[Span], indent: int, compressed: bool) -> None:
    data = json_of(spans, indent)
    file = read_back(tmp_path, gzip.compress(data, 1) if compressed else data)
    assert Counter(spans_of(file)) == Counter(spans)
    assert (file.report.repairs, file.report.truncated) == ({}, False)
    assert list(file.header) == ["schemaVersion", "end"]


@FILES
@given(spans=SPANS)
def test_columns_are_sorted_by_start_and_then_the_longest(tmp_path: Path, spans: list[Span]) -> None:
    found = spans_of(read_back(tmp_path, json_of(spans)))
    assert found == sorted(spans, key=lambda span: (span.ts_ns, -span.dur_ns))


@FILES
@given(spans=SPANS, share=st.floats(0, 1, exclude_max=True), compressed=st.booleans())
def test_any_beginning_of_a_trace_holds_its_first_events(
    tmp_path: Path, spans: list[Span], share: float, compressed: bool
) -> None:
    # Names that aren't in the file's order would hide which events were read.
    spans = [span._replace(name=f"{index} {span.name}") for index, span in enumerate(spans)]
    data = json_of(spans, 2)
    whole = gzip.compress(data, 1) if compressed else data
    cut = whole[: int(share * len(whole))]
    try:
        file = read_back(tmp_path, cut)
    except TraceFormatError:
        found = set()
    else:
        found = set(spans_of(file))
        assert len(file.events) == len(found)
        assert (file.report.truncated, file.report.repairs) == (True, {})
    assert found == set(spans[: len(found)])
    if not compressed:
        # Two spaces of indent: the braces of events, and nothing else, stand behind four spaces of a line of their own.
        assert len(found) >= cut.count(b"\n    },")


@FILES
@given(spans=SPANS, lost=st.integers(1, 8))
def test_a_lost_checksum_loses_no_event(tmp_path: Path, spans: list[Span], lost: int) -> None:
    file = read_back(tmp_path, gzip.compress(json_of(spans), 1)[:-lost])
    assert Counter(spans_of(file)) == Counter(spans)
    assert file.report.truncated


Node = tuple[int, list["Node"]]
"""A tree of spans: what is left of a span behind its children, and the children."""

TREES: st.SearchStrategy[Node] = st.recursive(
    st.tuples(st.integers(0, 4), st.just([])), lambda inner: st.tuples(st.integers(0, 4), st.lists(inner, max_size=3))
)


def lay(node: Node, start: int, track: int, rows: list[tuple[int, int, int]]) -> int:
    """Lay a tree out in time, each child right behind the one before; give its end."""
    left, children = node
    row = len(rows)
    rows.append((start, start, track))
    end = start
    for child in children:
        end = lay(child, end, track, rows)
    rows[row] = (start, end + left, track)
    return end + left


def sorted_columns(rows: list[tuple[int, int, int]]) -> tuple[IntArray, IntArray, IntArray]:
    rows = sorted(rows, key=lambda row: (row[0], -row[1]))
    start, end, track = (np.array([row[place] for row in rows], np.int64) for place in range(3))
    return start, end, track


def owned_ns(start: IntArray, track: IntArray, nesting: Nesting) -> list[int]:
    segments = innermost_segments(start, track, nesting)
    owned = np.zeros(len(start), np.int64)
    np.add.at(owned, segments.owner, segments.end_ns - segments.start_ns)
    result: list[int] = owned.tolist()
    return result


@PURE
@given(st.lists(st.tuples(TREES, st.integers(0, 3), st.integers(0, 3)), max_size=6), TIMES)
def test_self_times_of_a_track_add_up_to_the_length_of_its_roots(
    forest: list[tuple[Node, int, int]], zero: int
) -> None:
    rows: list[tuple[int, int, int]] = []
    reached: dict[int, int] = {}
    covered: Counter[int] = Counter()
    for tree, track, gap in forest:
        start = reached.get(track, zero) + gap
        reached[track] = lay(tree, start, track, rows)
        covered[track] += reached[track] - start
    start_ns, end_ns, track_of = sorted_columns(rows)
    nesting = nest(start_ns, end_ns, track_of)
    assert nesting.clipped == 0
    assert nesting.end_ns.tolist() == end_ns.tolist()
    sums = {track: int(nesting.self_ns[track_of == track].sum()) for track in covered}
    assert sums == dict(covered)
    assert owned_ns(start_ns, track_of, nesting) == nesting.self_ns.tolist()


@PURE
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 15), st.integers(0, 2)), min_size=1, max_size=14))
def test_parents_hold_their_children_whatever_crosses(rows: list[tuple[int, int, int]]) -> None:
    start, end, track = sorted_columns([(first, first + length, on) for first, length, on in rows])
    nesting = nest(start, end, track)
    inside = np.flatnonzero(nesting.parent != NONE)
    parent = nesting.parent[inside]
    assert (parent < inside).all()
    assert (track[parent] == track[inside]).all()
    assert (start[parent] <= start[inside]).all()
    assert (nesting.end_ns[inside] <= nesting.end_ns[parent]).all()
    assert (nesting.depth[inside] == nesting.depth[parent] + 1).all()
    assert (nesting.depth[nesting.parent == NONE] == 0).all()
    assert (nesting.self_ns >= 0).all()
    assert (nesting.end_ns <= end).all()
    assert nesting.clipped == int((nesting.end_ns < end).sum())
    assert owned_ns(start, track, nesting) == nesting.self_ns.tolist()


@pytest.mark.parametrize("length", [1, 40])
@PURE
@given(moment=st.integers(0, 99))
def test_segments_tell_the_innermost_span_at_any_moment(length: int, moment: int) -> None:
    # Spans [i, 100 - i): the innermost at a moment is the last that has started and not yet ended.
    start = np.arange(length)
    track = np.zeros(length, np.int64)
    segments = innermost_segments(start, track, nest(start, 100 - start, track))
    at = segments.owner[(segments.start_ns <= moment) & (moment < segments.end_ns)].tolist()
    assert at == [min(moment, 99 - moment, length - 1)]


def nested_one_by_one(start: list[int], end: list[int]) -> tuple[list[int], list[int]]:
    """Parents and clipped ends as a stack finds them, span by span."""
    stack: list[int] = []
    parents, ends = [], list(end)
    for index, at in enumerate(start):
        while stack and max(2 * ends[stack[-1]], 2 * start[stack[-1]] + 1) <= 2 * at:
            stack.pop()
        parents.append(stack[-1] if stack else -1)
        if stack:
            ends[index] = min(ends[index], ends[stack[-1]])
        stack.append(index)
    return parents, ends


@settings(max_examples=tries(500))
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=7))
def test_crossing_spans_nest_as_a_stack_nests_them(rows: list[tuple[int, int]]) -> None:
    spans = sorted(((first, first + length) for first, length in rows), key=lambda span: (span[0], -span[1]))
    start, end = [first for first, _ in spans], [last for _, last in spans]
    nesting = nest(np.array(start), np.array(end), np.zeros(len(spans), np.int64))
    assert (nesting.parent.tolist(), nesting.end_ns.tolist()) == nested_one_by_one(start, end)
