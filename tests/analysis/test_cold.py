"""Which ops are long because they are the first of their name and shape."""

from __future__ import annotations

from pathlib import Path

from gemma_trace.analysis.cold import LEAST_NS, long_calls
from tests.trace_builder import TraceBuilder

LONG_NS = 50 * LEAST_NS


def found(built: TraceBuilder, folder: Path) -> list[tuple[str, int, bool, float]]:
    """Of each long call its name, its start, whether it is a cold start, and what is usual."""
    trace = built.launch(1, 10**9).kernel("k", 10**9 + 10, 10, correlation=1).load(folder)
    calls, spans = long_calls(trace), trace.spans
    names = [spans.names[code] for code in spans.name[calls.span].tolist()]
    starts = spans.ts_ns[calls.span].tolist()
    return list(zip(names, starts, calls.cold.tolist(), calls.usual_ns.tolist(), strict=True))


def ops(built: TraceBuilder, name: str, start_ns: int, lengths: list[int], dims: list[list[int]]) -> None:
    for place, length in enumerate(lengths):
        built.op(name, start_ns + place * 2 * LONG_NS, length, dims=dims)


def test_the_first_op_of_a_name_and_shape_is_cold_where_the_others_are_short(tmp_path: Path) -> None:
    built = TraceBuilder()
    ops(built, "aten::first", 0, [LONG_NS, 1000, 2000, 3000], [[1]])
    ops(built, "aten::first", 10, [900, 1000, LONG_NS, 1000, 1000], [[2]])  # another shape, and not its first
    ops(built, "aten::always", 20, [LONG_NS, LONG_NS, LONG_NS, LONG_NS], [[1]])
    ops(built, "aten::once", 30, [LONG_NS, 1000, 1000], [[1]])  # too few to say what is usual
    ops(built, "aten::short", 40, [LEAST_NS - 1, 10, 10, 10], [[1]])
    ops(built, "aten::second", 50, [LONG_NS, 100, 200, 300], [[1]])
    assert found(built, tmp_path) == [("aten::first", 0, True, 2000.0), ("aten::second", 50, True, 200.0)]


def test_ops_without_shapes_and_none_that_is_long(tmp_path: Path) -> None:
    built = TraceBuilder()
    for place, length in enumerate([LONG_NS, 7, 8, 9]):
        built.op("aten::bare", place * 2 * LONG_NS, length)
    assert found(built, tmp_path) == [("aten::bare", 0, True, 8.0)]
    short = TraceBuilder().op("aten::bare", 0, 10).op("aten::bare", 20, 10)
    assert found(short, tmp_path) == []
