from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.median_request import median_request
from gemma_trace.report.html.build import labelled_apart, view_of
from gemma_trace.report.html.model import FULL, SHORT, Stretch
from gemma_trace.report.html.waterfall import draw_waterfall
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder

TRACES = sorted(SAMPLES.glob("*/*.pt.trace.json.gz"))


def one_request(builder: TraceBuilder, at: int, prefill: int) -> TraceBuilder:
    """A request of 60 + prefill: 10 of loading, 10 of nothing, the prefill, 25 of sampling, 15 of nothing."""
    builder.range("request", at, 60 + prefill).range("image_load", at, 10).range("prefill", at + 20, prefill)
    return builder.range("sampling", at + 20 + prefill, 25)


@pytest.fixture
def device_trace(tmp_path: Path) -> Trace:
    builder = one_request(TraceBuilder(), 0, 40).launch(1, 25).kernel("gemm_kernel", 30, 50, correlation=1)
    return builder.load(tmp_path)


def test_lanes_are_drawn_from_the_requests_start_with_the_first_token(device_trace: Trace) -> None:
    drawn = view_of(device_trace).waterfall
    host, device = drawn.lanes
    assert [(bar.stage, bar.start_ns, bar.end_ns) for bar in host.stretches] == [
        ("image_load", 0, 10),
        ("unattributed", 10, 20),
        ("prefill", 20, 60),
        ("sampling", 60, 85),
        ("unattributed", 85, 100),
    ]
    assert device.stretches == (Stretch(30, 80, "prefill", 50),)
    assert (drawn.wall_ns, drawn.ttft_ns, drawn.first_token_ns) == (100, 75, 85)
    assert (host.cell_ns, device.cell_ns) == (None, None)
    assert dict(host.sums_ns) == {"image_load": 10, "prefill": 40, "sampling": 25, "unattributed": 25}


def test_the_first_token_is_where_it_is_however_long_the_loading_took(tmp_path: Path) -> None:
    builder = TraceBuilder().range("request", 1000, 1000).range("image_load", 1000, 700).range("prefill", 1700, 100)
    view = view_of(builder.range("sampling", 1800, 50).load(tmp_path))
    assert (view.waterfall.ttft_ns, view.waterfall.first_token_ns) == (150, 850)


@pytest.mark.parametrize(("prefills", "median"), [((40, 90, 60), 2), ((40, 90), 0), ((50, 50, 50), 1)])
def test_the_request_in_the_middle_is_shown(tmp_path: Path, prefills: tuple[int, ...], median: int) -> None:
    builder = TraceBuilder()
    for place, prefill in enumerate(prefills):
        one_request(builder, place * 1000, prefill)
    trace = builder.load(tmp_path)
    assert median_request(breakdown(trace)).index == median
    assert view_of(trace).waterfall.label == f"request {median}"


def test_a_lane_with_too_much_in_it_is_drawn_in_cells_and_its_sums_stay_exact(tmp_path: Path) -> None:
    # 100 wide, in 4 cells of 25. The device: 20 of prefill in the first, nothing in the second, 5 and 15 in the third.
    builder = TraceBuilder().range("request", 0, 100).range("prefill", 0, 8).range("decode", 10, 8)
    builder.launch(1, 1).launch(2, 3).launch(3, 5).launch(4, 11).launch(5, 13)
    builder.kernel("a", 2, 10, correlation=1).kernel("a", 14, 10, correlation=2)
    builder.kernel("a", 50, 5, correlation=3).kernel("b", 56, 15, correlation=4).kernel("b", 80, 20, correlation=5)
    trace = builder.load(tmp_path)
    drawn = draw_waterfall(trace, trace.requests[0], 1, cells=4)
    device = drawn.lanes[1]
    assert device.cell_ns == 25
    assert device.stretches == (Stretch(0, 25, "prefill", 20), Stretch(50, 100, "decode", 35))
    assert dict(device.sums_ns) == {"prefill": 25, "decode": 35}


def test_families_and_kernels_are_split_by_stage(tmp_path: Path) -> None:
    builder = TraceBuilder().range("request", 0, 100).range("prefill", 0, 20).range("decode", 20, 20)
    builder.launch(1, 5).kernel("sgemm_64", 10, 30, correlation=1)
    builder.launch(2, 25).kernel("sgemm_64", 45, 10, correlation=2)
    builder.launch(3, 30).kernel("softmax_warp_forward", 60, 5, correlation=3)
    view = view_of(builder.load(tmp_path))
    assert [(line.name, line.split.by_stage_ns) for line in view.families] == [
        ("gemm", (("prefill", 30), ("decode", 10))),
        ("softmax", (("decode", 5),)),
    ]
    assert [(line.row.name, line.split.sum_ns) for line in view.kernels.lines] == [
        ("sgemm_64", 40),
        ("softmax_warp_forward", 5),
    ]
    assert view.kernels.sum_ns == 45


def test_everything_below_the_headline_is_of_one_request(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for place, length in enumerate((10, 30, 20)):
        at = 1000 * place
        one_request(builder, at, 40 + place)
        builder.launch(place + 1, at + 25).kernel("gemm", at + 30, length, correlation=place + 1)
    trace = builder.load(tmp_path)
    view = view_of(trace)
    assert view.waterfall.index == 1
    assert view.kernels.totals.device_sum_ns == 30 == sum(line.row.device_sum_ns for line in view.stages)
    assert sum(line.row.time_ns for line in view.stages) == view.waterfall.wall_ns == 101
    assert view.tree
    assert (view.tree.children[0].host_ns, view.tree.device_ns) == (101, 30)


def test_rows_beyond_the_room_are_counted(tmp_path: Path) -> None:
    builder = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 900)
    for place in range(15):
        builder.launch(place + 1, 10 + place).kernel(f"kernel_{place}", 100 + 20 * place, 10, correlation=place + 1)
    kernels = view_of(builder.load(tmp_path), SHORT).kernels
    assert (len(kernels.lines), kernels.total_rows, kernels.sum_ns) == (10, 15, 150)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.parent.name)
def test_of_a_capture_every_part_is_the_analysis(path: Path) -> None:
    trace = real_trace(path)
    view = view_of(trace, FULL)
    index = view.waterfall.index
    found = breakdown(trace, index)
    assert [line.row for line in view.stages] == list(found.rows)
    table = kernel_table(trace, request=index)
    assert [line.row for line in view.kernels.lines] == list(table.rows[: FULL.kernels])
    assert all(line.split.sum_ns == line.row.sum_ns for line in view.kernels.lines)
    by_family = {row.name: row.sum_ns for row in kernel_table(trace, request=index, by="family").rows if row.sum_ns}
    assert {line.name: line.split.sum_ns for line in view.families} == by_family
    assert view.headline.measured.values == tuple(r.ttft_ns / 1e6 for r in trace.metadata.timed_requests)  # type: ignore[union-attr]
    # The first token is where its sampling ends.
    sampling = [bar for bar in view.waterfall.lanes[0].stretches if bar.stage == "sampling"]
    assert view.waterfall.first_token_ns == sampling[0].end_ns
    assert view.decode
    assert [(step.first, step.last, step.intervals.n) for step in view.decode.steps] == [
        (2, 2, 10),
        (3, 3, 10),
        (4, 4, 10),
    ]
    third = [r.token_ns[2] - r.token_ns[1] for r in trace.metadata.timed_requests]  # type: ignore[union-attr]
    assert view.decode.steps[1].intervals.values == tuple(ns / 1e6 for ns in third)


def test_a_foreign_trace_has_its_wall_for_a_headline(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for place, length in enumerate((100, 300, 200)):
        builder.range(f"ProfilerStep#{place}", 1000 * place, length)
    view = view_of(builder.load(tmp_path))
    assert (view.headline.name, view.headline.timing, view.headline.inflation) == ("wall", "profiled", None)
    assert view.headline.measured.values == (0.0001, 0.0003, 0.0002)
    assert view.headline.labels == ("ProfilerStep#0", "ProfilerStep#1", "ProfilerStep#2")
    assert not view.is_ours
    assert [facts.title for facts in view.facts] == ["Trace"]


def test_runs_of_one_name_are_told_apart(device_trace: Trace) -> None:
    view = view_of(device_trace)
    assert [each.label for each in labelled_apart([view])] == ["built"]
    assert [each.label for each in labelled_apart([view, view])] == ["built, built.json"] * 2
