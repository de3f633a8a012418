"""Several devices in one process: what is each one's, and what is their sum, on built traces and by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import msgspec
import pytest

from gemma_trace import cli
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.devices import device_use
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.lanes import device_lanes, stage_lanes
from gemma_trace.analysis.roofline.floors import StageFloor, stage_floors
from gemma_trace.analysis.roofline.rows import row_rooflines
from gemma_trace.analysis.work_pieces import select
from gemma_trace.errors import InputError
from gemma_trace.export.stage_tracks import stage_tracks
from gemma_trace.report.html.build import view_of
from gemma_trace.trace.trace import Trace, load
from tests.analysis.roofline.test_rows import DEVICE, FLOPS, op
from tests.conftest import SHARED
from tests.trace_builder import TraceBuilder

NAMES = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB")


def on_devices(devices: int) -> TraceBuilder:
    """One request; each device runs a kernel of 100 ns for prefill, 10 ns later than the device before it."""
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 1000)
    built.header["deviceProperties"] = [{"id": index, "name": NAMES[index % 2]} for index in range(devices)]
    for device in range(devices):
        built.launch(device + 1, 10 + 5 * device)
        built.kernel(f"gemm_{device % 2}", 2000 + 10 * device, 100, correlation=device + 1, device=device)
    return built


def untold(built: TraceBuilder) -> TraceBuilder:
    """With an activity of 50 ns that doesn't say which device it ran on."""
    built.launch(99, 900)
    return built.span("kernel", "mystery", 3000, 50, pid="somewhere", tid=7, correlation=99, stream=7)


@pytest.mark.parametrize("devices", [2, 8])
def test_rows_of_a_stage_add_up_to_it(tmp_path: Path, devices: int) -> None:
    trace = on_devices(devices).load(tmp_path)
    found = device_use(trace, trace.requests)
    assert [(use.device, use.name, use.stage) for use in found] == [
        (index, NAMES[index % 2], "prefill") for index in range(devices)
    ]
    assert [(use.device_busy_ns, use.device_sum_ns, use.activities) for use in found] == [(100, 100, 1)] * devices
    (prefill,) = [row for row in breakdown(trace).rows if row.stage == "prefill"]
    assert (prefill.device_busy_ns, prefill.device_sum_ns, prefill.activities) == (
        100 * devices,
        100 * devices,
        devices,
    )
    assert prefill.device_ns == 100 + 10 * (devices - 1), "by the clock they overlap"
    (request,) = trace.requests
    assert [lane.sums_ns() for lane in device_lanes(trace, request).by_device.values()] == [{"prefill": 100}] * devices
    assert stage_lanes(trace, request).device.sums_ns() == {"prefill": 100 + 10 * (devices - 1)}


def test_a_device_that_is_not_told_is_shown_only_beside_others(tmp_path: Path) -> None:
    mixed = untold(on_devices(2)).load(tmp_path)
    assert [(use.device, use.device_busy_ns) for use in device_use(mixed, mixed.requests)] == [
        (-1, 50),
        (0, 100),
        (1, 100),
    ]
    assert [track.name for track in stage_tracks(mixed)][1:5] == ["device", "device ?", "device 0", "device 1"]
    assert {row.name: row.devices for row in kernel_table(mixed).rows}["mystery"] == "?"
    alone = untold(TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 1000)).load(tmp_path)
    assert [track.name for track in stage_tracks(alone)] == ["host", "device", "time", "critical path"]
    assert [lane.name for lane in view_of(alone).waterfall.lanes] == ["host", "device"]


def test_kernels_of_one_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = on_devices(4).load(tmp_path)
    every = kernel_table(trace)
    assert {row.name: (row.devices, row.sum_ns, row.busy_ns) for row in every.rows} == {
        "gemm_0": ("0, 2", 200, 200),
        "gemm_1": ("1, 3", 200, 200),
    }
    one = kernel_table(trace, device=3)
    assert [(row.name, row.devices, row.sum_ns, row.share_pct) for row in one.rows] == [("gemm_1", "3", 100, 100)]
    assert (one.totals.device_sum_ns, one.totals.device_busy_ns, one.totals.activities) == (100, 100, 1)
    assert len(row_rooflines(trace, one, None)) == 1, "the roofline is of the same rows"
    path = str(on_devices(4).write(tmp_path / "four.json"))
    assert cli.main(["kernels", path, "--device", "3", "-f", "csv"]) == 0
    assert [row["devices"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["3"]
    assert cli.main(["kernels", path, "--device", "3"]) == 0
    assert "device 3" in capsys.readouterr().out
    assert cli.main(["kernels", path, "--device", "4"]) == 1
    assert "nothing that was selected ran on device 4; it ran on 0, 1, 2, 3" in capsys.readouterr().err


def test_a_device_of_a_selection_that_ran_on_none(tmp_path: Path) -> None:
    trace = TraceBuilder().range("prefill", 0, 100).op("aten::mm", 10, 50).load(tmp_path)
    with pytest.raises(InputError, match="leave out device=0"):
        select(trace, device=0)


def products(tmp_path: Path, devices: int, apart_ns: int) -> StageFloor:
    """The floor of two products on each device, each of 5000 ns, on streams of their own."""
    built = TraceBuilder().range("request", 0, 40_000).range("prefill", 0, 1000)
    for number in range(2 * devices):
        op(built, "aten::linear", 10 + 60 * number, 50, [[64, 128], [256, 128], [256]])
        built.launch(number + 1, 20 + 60 * number)
        start, device = 2000 + apart_ns * (number % 2), number // 2
        built.kernel("gemm", start, 5000, correlation=number + 1, device=device, stream=7 + number % 2)
    trace: Trace = built.load(tmp_path)
    return {floor.stage: floor for floor in stage_floors(trace, breakdown(trace), DEVICE)}["prefill"]


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_a_floor_is_each_devices_own_summed_up_as_the_busy_time_is(tmp_path: Path, devices: int) -> None:
    least = 2 * devices * FLOPS / 1e3
    apart, overlapping = products(tmp_path, devices, 6000), products(tmp_path, devices, 1000)
    assert (apart.measured_ns, overlapping.measured_ns) == (10_000 * devices, 6000 * devices)
    for floor in (apart, overlapping):
        assert floor.floor_ns == pytest.approx(least)
        assert floor.compute_ns == pytest.approx(least)


def test_each_device_has_a_cache_of_its_own(tmp_path: Path) -> None:
    """Parameters of 65,536 bytes on each of two devices, of each of which a cache may hold 10,000."""
    built = TraceBuilder().range("request", 0, 10_000).range("decode", 0, 500)
    for device in (0, 1):
        op(built, "aten::linear", 10 + 60 * device, 50, [[1, 128], [256, 128], []]).launch(device + 1, 20 + 60 * device)
        built.kernel("gemv", 2000, 1000, correlation=device + 1, device=device)
    trace = built.load(tmp_path)
    floor = {floor.stage: floor for floor in stage_floors(trace, breakdown(trace), DEVICE)}["decode"]
    assert floor.floor_ns == pytest.approx(2 * (2 * 256 * 128 - 10_000) / 100)


def test_no_two_tracks_have_one_name_where_requests_overlap(tmp_path: Path) -> None:
    built = on_devices(3).range("request", 100, 9000, tid=300).range("prefill", 200, 500, tid=300)
    names = [track.name for track in stage_tracks(built.load(tmp_path))]
    assert len(set(names)) == len(names)
    assert {"device", "device 2", "device, requests 2", "device 2, requests 2"} <= set(names)


def as_page(tmp_path: Path, devices: int) -> str:
    path, page = on_devices(devices).write(tmp_path / "trace.json"), tmp_path / f"{devices}.html"
    assert cli.main(["report", str(path), "-o", str(page), "--no-cache"]) == 0
    return page.read_text()


def test_the_page_says_which_device_did_what(tmp_path: Path) -> None:
    view = view_of(on_devices(2).load(tmp_path))
    assert [(lane.name, lane.title) for lane in view.waterfall.lanes] == [
        ("host", ""),
        ("device 0", NAMES[0]),
        ("device 1", NAMES[1]),
    ]
    assert "Devices" in [section.title for section in view.tables]
    page = as_page(tmp_path, 2)
    assert f'title="{NAMES[1]}">device 1</div>' in page
    assert f"device 1 ({NAMES[1]}) lane: prefill" in page
    assert '<th scope="col" class="text">device</th>' in page
    alone = view_of(on_devices(1).load(tmp_path))
    assert "Devices" not in [section.title for section in alone.tables]
    assert '<th scope="col" class="text">device</th>' not in as_page(tmp_path, 1)


def test_two_devices_of_the_case(capsys: pytest.CaptureFixture[str]) -> None:
    path = SHARED / "cases" / "two_gpus_parallel.json"
    if not path.is_file():
        pytest.skip("needs shared/cases")
    assert cli.main(["stages", str(path), "--rule", "stage_a=^stage_a", "-f", "json", "--no-cache"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["rows"][0]["device_busy_ns"] == 640_000
    assert [row["device_busy_ns"] for row in found["totals"]["devices"]] == [320_000, 320_000]
    assert cli.main(["stages", str(path), "--rule", "stage_a=^stage_a", "--no-cache"]) == 0
    assert "0.640 ms = 0.320 on 0 + 0.320 on 1" in capsys.readouterr().out
    assert len(device_lanes(load(path), load(path).requests[0])) == 2
