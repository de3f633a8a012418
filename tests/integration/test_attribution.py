"""Every command says the same of a range, on the layouts in which they once did not; values by hand, in ns."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from gemma_trace import cli
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.devices import device_use
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.lanes import device_lanes, stage_lanes
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.tree import NodeKind, TreeNode, call_tree
from gemma_trace.export.stage_tracks import stage_tracks
from gemma_trace.export.viewer import export_trace
from gemma_trace.health.examine import examine
from gemma_trace.report.html.waterfall import draw_waterfall
from gemma_trace.stages import stage_rule
from gemma_trace.trace.trace import Trace, load
from tests.trace_builder import TraceBuilder


class Figures(NamedTuple):
    """What every command must say of a stage."""

    host_ns: int
    time_ns: int
    activities: int
    device_sum_ns: int


def with_python_frames(built: TraceBuilder) -> TraceBuilder:
    """The frames that `with_stack` records around a range from 100 to 500: those that open and close it cross it."""
    built.frame("run.py(1): main", 0, 1000).frame("torch/autograd/profiler.py(770): __enter__", 95, 12)
    return built.frame("torch/autograd/profiler.py(776): __exit__", 490, 12)


def three_kernels(built: TraceBuilder) -> TraceBuilder:
    built.span("user_annotation", "execute_context_1(16)_generation_0(0)", 100, 400)
    for number, start in enumerate((150, 250, 350), 1):
        built.op("aten::mm", start, 40).launch(number, start + 10).kernel("gemm", start + 50, 50, correlation=number)
    return built.op("aten::add", 900, 100)


def backward() -> TraceBuilder:
    built = TraceBuilder().range("ProfilerStep#1", 0, 1000)
    built.range("## forward ##", 10, 280).range("## backward ##", 300, 600)
    built.op("aten::mm", 20, 40).launch(1, 30).kernel("gemm", 60, 100, correlation=1)
    built.op("autograd::engine::evaluate_function: MmBackward0", 330, 80, tid=999).launch(2, 350, tid=999)
    built.kernel("gemm", 400, 400, correlation=2)
    built.raw(ph="s", cat="fwdbwd", name="fwdbwd", id=1, pid=1, tid=100, ts=0.02)
    return built.raw(ph="f", cat="fwdbwd", name="fwdbwd", id=1, pid=1, tid=999, ts=0.33, bp="e")


def crossing() -> TraceBuilder:
    """Two ranges that cross each other and the end of a step, and a frame that crosses them all."""
    built = TraceBuilder().range("ProfilerStep#1", 0, 500).range("ProfilerStep#2", 505, 500)
    built.frame("profiler.py(1): step", 490, 30).range("range#a", 400, 200).range("range#b", 550, 200)
    for number, start in enumerate((300, 450, 520, 560, 650, 800), 1):
        built.launch(number, start).kernel("gemm", start + 10, 5 * number, correlation=number)
    return built


def dataloader() -> TraceBuilder:
    built = TraceBuilder().span("user_annotation", "enumerate(DataLoader)#_It.__next__", 0, 600, tid=1)
    built.op("aten::mm", 620, 20, tid=1).op("aten::mm", 980, 20, tid=1)
    for number in range(1, 8):
        built.op("MmBackward0", 680 + 25 * number, 20, tid=999).launch(number, 682 + 25 * number, tid=999)
        built.kernel("gemm", 692 + 25 * number, 10, correlation=number)
    return built


def merged_ranks() -> TraceBuilder:
    """Two ranks one after the other in the file, at the same time, with the same ids."""
    built = TraceBuilder()
    for rank, length in ((0, 10), (1, 30)):
        built.range(f"rank#{rank}", 5 * rank, 400, tid=10 + rank, pid=10 + rank)
        for number, start in enumerate((20, 120, 220), 1):
            built.launch(number, start + 5 * rank, tid=10 + rank, pid=10 + rank)
            built.kernel("gemm", start + 30 + 5 * rank, length, correlation=number, device=rank)
    return built


def two_devices() -> TraceBuilder:
    built = TraceBuilder().range("both#", 0, 1000)
    for number in range(4):
        for device in (0, 1):
            built.launch(2 * number + device + 1, 100 * number + 10 + 6 * device)
            start = 100 * number + 40 + 5 * device
            built.kernel("gemm", start, 80, correlation=2 * number + device + 1, device=device)
    return built


STEP = {"fwd": "^## forward", "bwd": "^## backward"}
CASES: dict[str, tuple[Callable[[], TraceBuilder], dict[str, str], dict[str, Figures]]] = {
    "frames": (
        lambda: with_python_frames(three_kernels(TraceBuilder())),
        {},
        {"prefill": Figures(400, 400, 3, 150)},
    ),
    "no frames": (lambda: three_kernels(TraceBuilder()), {}, {"prefill": Figures(400, 400, 3, 150)}),
    "backward": (backward, STEP, {"fwd": Figures(280, 280, 1, 100), "bwd": Figures(600, 600, 1, 400)}),
    # a is open from 400 to 600, b from 550 to 750; 5 ns between the steps are in neither.
    "crossing": (
        crossing,
        {"a": "range#a", "b": "range#b"},
        {"a": Figures(145, 145, 2, 25), "b": Figures(200, 200, 2, 45)},
    ),
    "dataloader": (dataloader, {}, {"preprocessing": Figures(600, 600, 0, 0)}),
    "ranks": (
        merged_ranks,
        {"r0": "rank#0", "r1": "rank#1"},
        # r0 runs from 50 to 60, r1 from 55 to 85, and so on: while both do, the instant is r0's, which started first.
        # r1's own thread is in another process than the request's, so that its idle time is none of the request's.
        {"r0": Figures(400, 325, 3, 30), "r1": Figures(400, 75, 3, 90)},
    ),
    "devices": (two_devices, {"both": "both#"}, {"both": Figures(1000, 1000, 8, 640)}),
}


def built(name: str, folder: Path) -> tuple[Trace, dict[str, Figures]]:
    build, rules, figures = CASES[name]
    path = build().write(folder / "built.json")
    return load(path, [stage_rule(*rule) for rule in rules.items()]), figures


def by_stages(trace: Trace) -> dict[str, Figures]:
    rows = breakdown(trace).summed()
    return {row.stage: Figures(row.host_ns, row.time_ns, row.activities, row.device_sum_ns) for row in rows}


def under(node: TreeNode) -> tuple[int, int]:
    kernels = [each for _, each in node.walk() if each.kind is NodeKind.KERNEL]
    return sum(each.count for each in kernels), node.device_ns


@pytest.mark.parametrize("name", CASES)
def test_stages_have_the_values_worked_out_by_hand(name: str, tmp_path: Path) -> None:
    trace, figures = built(name, tmp_path)
    found = by_stages(trace)
    assert {stage: found[stage] for stage in figures} == figures
    assert sum(row.time_ns for row in breakdown(trace).rows) == sum(window.wall_ns for window in trace.requests)


@pytest.mark.parametrize("name", CASES)
def test_kernels_say_the_same_of_a_stage(name: str, tmp_path: Path) -> None:
    trace, figures = built(name, tmp_path)
    for stage, expected in figures.items():
        table = kernel_table(trace, stage)
        if expected.activities:
            assert (table.totals.activities, table.totals.device_sum_ns) == expected[2:]
        else:
            assert (table.on, table.totals.host_self_ns) == ("host", expected.host_ns)


@pytest.mark.parametrize("name", CASES)
def test_the_tree_says_the_same_of_a_stage(name: str, tmp_path: Path) -> None:
    trace, figures = built(name, tmp_path)
    tree = call_tree(trace)
    for stage, expected in figures.items():
        nodes = tree.find(NodeKind.STAGE, stage)
        count, device_ns = (sum(parts) for parts in zip(*map(under, nodes), strict=True))
        outside = 5 if name == "crossing" and stage == "a" else 0  # what lies between two steps is under no request
        assert sum(node.host_ns for node in nodes) == expected.host_ns + outside
        assert (count, device_ns) == expected[2:]


@pytest.mark.parametrize("name", CASES)
def test_lanes_and_reasons_say_the_same_of_a_stage(name: str, tmp_path: Path) -> None:
    trace, figures = built(name, tmp_path)
    lanes = [stage_lanes(trace, request) for request in trace.requests]
    reasons = {reason.stage: reason for reason in stage_reasons(trace)}
    for stage, expected in figures.items():
        assert sum(lane.time.sums_ns().get(stage, 0) for lane in lanes) == expected.time_ns
        assert (reasons[stage].time_ns, reasons[stage].activities) == expected[1:3]


@pytest.mark.parametrize("name", CASES)
def test_the_export_says_the_same_of_a_stage(name: str, tmp_path: Path) -> None:
    trace, figures = built(name, tmp_path)
    target = tmp_path / "export.json"
    export_trace(trace, target)
    events = msgspec.json.decode(target.read_bytes())["traceEvents"]
    tracks = {
        (event["pid"], event["tid"]): event["args"]["name"] for event in events if event.get("name") == "thread_name"
    }
    time = [event for event in events if event["ph"] == "X" and "time" in tracks.get((event["pid"], event["tid"]), "")]
    for stage, expected in figures.items():
        assert round(1000 * sum(event["dur"] for event in time if event["name"] == stage)) == expected.time_ns


def test_two_devices_at_once_are_busy_each_on_its_own(tmp_path: Path) -> None:
    trace, _ = built("devices", tmp_path)
    (row,) = [row for row in breakdown(trace).rows if row.stage == "both"]
    # Each device runs without a break from 40 (45) on: 4 activities of 80 at 100 intervals.
    assert (row.device_busy_ns, row.device_sum_ns, row.device_ns) == (640, 640, 340)
    table = kernel_table(trace)
    assert (table.totals.device_busy_ns, [kernel.busy_ns for kernel in table.rows]) == (640, [640])


def test_merged_ranks_are_a_finding(tmp_path: Path) -> None:
    trace, _ = built("ranks", tmp_path)
    (finding,) = [each for each in examine(trace).findings if each.code == "correlation_in_processes"]
    assert (finding.severity.value, finding.count) == ("warning", 3)


def test_merged_ranks_sorted_by_time_are_told_apart_by_their_devices(tmp_path: Path) -> None:
    built = merged_ranks()
    built.events.sort(key=lambda event: float(bytes(event["ts"])))
    built.launch(9, 300, tid=10, pid=10).kernel("one", 310, 5, correlation=9)
    rules = [stage_rule("r0", "rank#0"), stage_rule("r1", "rank#1")]
    trace = load(built.write(tmp_path / "sorted.json"), rules)
    found = by_stages(trace)
    assert (found["r0"][2:], found["r1"][2:]) == ((4, 35), (3, 90))


def test_ids_that_repeat_in_a_second_session_belong_to_its_launches(tmp_path: Path) -> None:
    built = TraceBuilder()
    for session, start in enumerate((0, 1000)):
        built.range(f"session#{session}", start, 500)
        for number in (1, 2):
            built.launch(number, start + 10 * number).kernel("gemm", start + 100 * number, 7, correlation=number)
    trace = load(built.write(tmp_path / "two.json"), [stage_rule("one", "session#0"), stage_rule("two", "session#1")])
    found = by_stages(trace)
    assert (found["one"][2:], found["two"][2:]) == ((2, 14), (2, 14))
    codes = {each.code: each.count for each in examine(trace).findings}
    assert codes["correlation_in_sessions"] == 2


@pytest.mark.parametrize("seed", range(30))
def test_ranges_crossed_by_frames_have_what_a_plain_count_by_time_and_thread_gives_them(
    seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    built = TraceBuilder()
    ranges: list[tuple[int, int, int, str]] = []
    for number in range(chance.randint(1, 6)):
        start, thread = chance.randint(0, 900), chance.choice((1, 2))
        ranges.append((start, start + chance.randint(1, 300), thread, f"range#{number}"))
        built.range(f"range#{number}", start, ranges[-1][1] - start, tid=thread)
    for _ in range(chance.randint(0, 40)):
        built.frame("a.py(1): f", chance.randint(0, 1000), chance.randint(0, 400), tid=chance.choice((1, 2)))
    launches = []
    for number in range(1, chance.randint(2, 60)):
        launches.append((chance.randint(0, 1200), chance.choice((1, 2)), chance.randint(1, 50)))
        start, thread, length = launches[-1]
        built.launch(number, start, chance.randint(0, 5), tid=thread)
        built.kernel("gemm", start + chance.randint(0, 500), length, correlation=number, stream=number)
    names = [name for _, _, _, name in ranges]
    trace = load(built.write(tmp_path / "random.json"), [stage_rule(f"s{name[6:]}", f"{name}$") for name in names])
    asking = int(trace.spans.tracks[trace.requests[0].track].tid)
    expected = dict.fromkeys(names, 0)
    for start, thread, length in launches:
        opened = [each for each in ranges if each[0] <= start < each[1]]
        own = [each for each in opened if each[2] == thread] or [each for each in opened if each[2] == asking]
        if own:
            # Of those that began together the shorter one is inside; of equals the later in the file.
            inner = max(own, key=lambda each: (each[0], -each[1], ranges.index(each)))
            expected[inner[3]] += length
    found = by_stages(trace)
    assert {name: found[f"s{name[6:]}"].device_sum_ns if f"s{name[6:]}" in found else 0 for name in names} == expected
    below = exclusive(call_tree(trace))
    assert {name: below.get(f"s{name[6:]}", 0) for name in names} == expected
    for name in names:
        if expected[name]:
            assert kernel_table(trace, f"s{name[6:]}").totals.device_sum_ns == expected[name]


def exclusive(node: TreeNode, stage: str = "", found: dict[str, int] | None = None) -> dict[str, int]:
    """By stage the device time of the kernels that it is the nearest stage above."""
    sums = {} if found is None else found
    stage = node.name if node.kind is NodeKind.STAGE else stage
    if node.kind is NodeKind.KERNEL:
        sums[stage] = sums.get(stage, 0) + node.device_ns
    for child in node.children:
        exclusive(child, stage, sums)
    return sums


def test_no_instant_is_in_two_stages(tmp_path: Path) -> None:
    trace, _ = built("crossing", tmp_path)
    for request in trace.requests:
        lane = stage_lanes(trace, request).time
        assert (lane.start_ns[1:] == lane.end_ns[:-1]).all()
        assert int((lane.end_ns - lane.start_ns).sum()) == request.wall_ns
        assert np.all(lane.end_ns > lane.start_ns)


def test_each_of_two_devices_has_its_rows_and_its_lanes(tmp_path: Path) -> None:
    trace, _ = built("devices", tmp_path)
    found = device_use(trace, trace.requests)
    assert [(use.device, use.stage, use.device_busy_ns, use.device_sum_ns, use.activities) for use in found] == [
        (0, "both", 320, 320, 4),
        (1, "both", 320, 320, 4),
    ]
    lanes = device_lanes(trace, trace.requests[0]).by_device
    assert {device: lane.sums_ns() for device, lane in lanes.items()} == {0: {"both": 320}, 1: {"both": 320}}
    assert [lane.name for lane in draw_waterfall(trace, trace.requests[0], 1, 100).lanes] == [
        "host",
        "device 0",
        "device 1",
    ]
    assert [track.name for track in stage_tracks(trace)][:5] == ["host", "device", "device 0", "device 1", "time"]


def test_tables_name_the_devices_where_there_are_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(two_devices().write(tmp_path / "two.json"))
    assert cli.main(["stages", path, "--rule", "both=both#", "--no-cache"]) == 0
    out = capsys.readouterr().out
    assert "Devices" in out
    assert "summed over the devices" in out
    assert cli.main(["stages", path, "--rule", "both=both#", "-f", "json"]) == 0
    totals = msgspec.json.decode(capsys.readouterr().out)["totals"]
    assert [row["device_busy_ns"] for row in totals["devices"]] == [320, 320]
    assert "0.001 ms = 0.000 on 0 + 0.000 on 1" in out
    assert cli.main(["kernels", path, "-f", "csv"]) == 0
    assert '"0, 1"' in capsys.readouterr().out
    one = str(backward().write(tmp_path / "one.json"))
    assert cli.main(["stages", one]) == 0
    assert "Devices" not in capsys.readouterr().out
