from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gemma_trace.export.layout import MOST_LANES, held_back, lanes_of, lay_out
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest
from tests.trace_builder import TraceBuilder


def rows_of(trace: Trace) -> dict[str, tuple[str, bool, int]]:
    layout, spans = lay_out(trace), trace.spans
    found = {}
    for index, code in enumerate(spans.name.tolist()):
        row = layout.rows[layout.row[index]]
        found[spans.names[code]] = (spans.tracks[row.track].tid, row.annotations, row.lane)
    return found


def test_annotations_have_tracks_of_their_own(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).op("aten::mm", 10, 20).launch(1, 12)
    built.kernel("gemm", 50, 100, correlation=1).kernel("mirror", 40, 30, cat="gpu_user_annotation")
    assert rows_of(built.load(tmp_path)) == {
        "gemma_trace::prefill": ("100", True, 0),
        "aten::mm": ("100", False, 0),
        "cudaLaunchKernel": ("100", False, 0),
        "gemm": ("7", False, 0),
        "mirror": ("7", True, 0),
    }


def test_what_crosses_moves_down_and_keeps_its_length(tmp_path: Path) -> None:
    built = TraceBuilder().kernel("a", 0, 50).kernel("inside", 10, 20).kernel("b", 40, 50).kernel("c", 45, 100)
    trace = built.kernel("after", 150, 10).load(tmp_path)
    found = {name: row[2] for name, row in rows_of(trace).items()}
    assert found == {"a": 0, "inside": 0, "b": 1, "c": 2, "after": 0}
    layout = lay_out(trace)
    assert (layout.moved, layout.cut_short) == (2, 0)
    assert (layout.dur_ns == trace.spans.dur_ns).all()


def test_lanes_have_an_end_and_what_is_cut_is_counted(tmp_path: Path) -> None:
    built = TraceBuilder()
    for start in range(MOST_LANES + 10):
        built.kernel(f"k{start}", start, 1000)
    layout = lay_out(built.load(tmp_path))
    assert (layout.moved, layout.cut_short) == (MOST_LANES + 10 - 1, 10)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.booleans()), min_size=1, max_size=40))
def test_the_spans_of_a_row_always_nest(spans: list[tuple[int, int, bool]]) -> None:
    start = np.array([span[0] for span in spans], dtype=np.int64)
    length = np.array([span[1] for span in spans], dtype=np.int64)
    group = np.array([span[2] for span in spans], dtype=np.int64)
    order = np.lexsort((-length, start))
    start, end, group = start[order], (start + length)[order], group[order]
    lane, dur_ns = lanes_of(start, end, group)
    row: IntArray = group * MOST_LANES + lane
    for one in np.unique(row):
        mine = row == one
        assert nest(start[mine], start[mine] + dur_ns[mine], row[mine]).clipped == 0


def test_an_outer_span_that_the_file_has_second_is_written_first(tmp_path: Path) -> None:
    built = TraceBuilder().op("inner", 10, 5).op("outer", 10, 50).op("other thread", 10, 5, tid=101).op("late", 20, 5)
    trace = built.load(tmp_path)
    spans = trace.spans
    group = held_back(lay_out(trace), spans.ts_ns, spans.place)
    waiting = [spans.names[code] for code, number in zip(spans.name, group, strict=True) if number >= 0]
    assert waiting == ["outer", "inner"]
