"""Launches without activities. Values are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.summary import summarize
from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Finding
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder

US = 1_000
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n"


def steps(count: int, launches: int, *, without: set[int] | frozenset[int] = frozenset()) -> TraceBuilder:
    """Steps of 990 µs, each with an op, a launch and a kernel of 15 µs every 50 µs; some without their kernels."""
    built = TraceBuilder()
    for step in range(count):
        start = step * 1000 * US
        built.span("user_annotation", f"ProfilerStep#{step}", start, 990 * US)
        for place in range(launches):
            correlation, at = step * launches + place + 1, start + (10 + 50 * place) * US
            built.op("aten::mm", at, 20 * US).launch(correlation, at + 2 * US, 5 * US)
            if step not in without:
                built.kernel(GEMM, at + 30 * US, 15 * US, correlation=correlation)
    return built


def found(trace: Trace, code: str = "missing_device_work") -> Finding | None:
    return next((each for each in examine(trace).findings if each.code == code), None)


def codes(trace: Trace) -> list[tuple[str, str, int]]:
    return [(each.code, each.severity.value, each.count) for each in examine(trace).findings]


def test_steps_without_activities_are_named_and_left_out_of_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = steps(8, 5, without={2, 3, 4, 5, 6, 7})
    trace = built.load(tmp_path)
    finding = found(trace)
    assert finding is not None
    assert (finding.severity.value, finding.count) == ("error", 30)
    assert "30 of 40 (75.0%)" in finding.message
    named = ", ".join(f"ProfilerStep#{step}" for step in range(2, 8))
    assert f"in 6 of 8 steps, which no mean includes: {named}" in finding.message
    everything = breakdown(trace)
    assert everything.without_device == (2, 3, 4, 5, 6, 7)
    assert [request.label for request in everything.complete().requests] == ["ProfilerStep#0", "ProfilerStep#1"]
    (reason,) = stage_reasons(trace)
    assert (reason.activities, reason.requests, reason.time_ns) == (10, 2, 2 * 990 * US)
    assert summarize(trace).runs == 2
    assert cli.main(["check", str(tmp_path / "built.json")]) == 1
    capsys.readouterr()
    assert cli.main(["stages", str(tmp_path / "built.json")]) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 of 8 requests" in printed
    assert f"Left out because their launches have no device activity in the trace: {named}." in printed
    row = next(line.split() for line in printed.splitlines() if line.strip().startswith("unattributed"))
    # Wall 0.990 ms; five kernels of 15 µs in each of the two steps.
    assert [row[1], row[2], *row[4:11]] == ["0.990", "100.0", "0.990", "0.075", "0.915", "0.075", "0.075", "5", "5"]


def test_a_step_without_activities_that_is_asked_for_has_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps(3, 5, without={1}).write(tmp_path / "built.json")
    assert cli.main(["stages", str(tmp_path / "built.json"), "--request", "1"]) == 0
    assert "no verdict: the device activities of its launches are missing" in capsys.readouterr().out
    assert cli.main(["stages", str(tmp_path / "built.json"), "--request", "0"]) == 0
    assert "no verdict" not in capsys.readouterr().out


def test_a_trace_without_any_activity_lacks_the_devices_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built = TraceBuilder().span("user_annotation", "stage_a", 0, 1000 * US)
    for place in range(20):
        built.op("aten::mm", (10 + 40 * place) * US, 20 * US).launch(place + 1, (12 + 40 * place) * US, 5 * US)
    trace = built.load(tmp_path)
    assert codes(trace) == [("missing_device_work", "error", 20)]
    assert "no launch has its device activity in the trace (20 launches)" in examine(trace).findings[0].message
    assert cli.main(["stages", str(tmp_path / "built.json")]) == 0
    printed = capsys.readouterr().out
    assert "no verdict: the device activities of its launches are missing" in printed
    assert "host work" not in printed


def test_a_sound_trace_misses_nothing(tmp_path: Path) -> None:
    assert codes(steps(8, 5).load(tmp_path)) == []


def test_a_few_launches_at_the_end_fell_outside(tmp_path: Path) -> None:
    built = steps(8, 5).op("aten::mm", 7400 * US, 20 * US).launch(900, 7402 * US)
    trace = built.load(tmp_path)
    assert codes(trace) == [("launches_at_the_edge", "info", 1)]
    assert breakdown(trace).without_device == ()


def test_a_last_step_that_lacks_everything_is_named_however_short(tmp_path: Path) -> None:
    trace = steps(12, 1, without={11}).load(tmp_path)
    finding = found(trace)
    assert finding is not None
    assert "in 1 of 12 steps, which no mean includes: ProfilerStep#11" in finding.message
    assert breakdown(trace).without_device == (11,)


@pytest.mark.parametrize(
    "name",
    [
        "cudaLaunchKernelExC",
        "cuLaunchKernel",
        "cuLaunchKernelEx",
        "cudaLaunchCooperativeKernel",
        "hipLaunchKernel",
        "hipExtLaunchKernel",
        "hipModuleLaunchKernel",
        "hipExtModuleLaunchKernel",
        "cudaGraphLaunch",
        "hipGraphLaunch",
        "cudaLaunchKernel_v7000",
    ],
)
def test_all_kinds_of_launches_count(tmp_path: Path, name: str) -> None:
    built = TraceBuilder().launch(1, 0, name=name).launch(2, 10, name=name)
    assert codes(built.load(tmp_path)) == [("missing_device_work", "error", 2)]


@pytest.mark.parametrize(
    "name", ["cudaMemsetAsync", "cudaMemcpyAsync", "cudaLaunchHostFunc", "cudaEventRecord", "hipMemcpyAsync"]
)
def test_calls_that_launch_nothing_dont(tmp_path: Path, name: str) -> None:
    assert codes(TraceBuilder().op("a", 0, 50).launch(1, 0, name=name).load(tmp_path)) == []


def test_a_graphs_capture_is_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = TraceBuilder().op("aten::mm", 0, 900)
    built.span("cuda_runtime", "cudaStreamBeginCapture", 10, 5).span("cuda_runtime", "cudaStreamEndCapture", 500, 5)
    for place in range(4):
        built.launch(place + 1, 100 + 50 * place)
    trace = built.load(tmp_path)
    assert codes(trace) == [("graph_capture", "info", 4)]
    assert breakdown(trace).without_device == ()
    built.launch(9, 600).load(tmp_path)  # one that isn't captured, and is the only one that should have run
    assert codes(built.load(tmp_path)) == [("missing_device_work", "error", 1), ("graph_capture", "info", 4)]
    assert cli.main(["stages", str(tmp_path / "built.json")]) == 0
    assert "no verdict" in capsys.readouterr().out


@pytest.mark.parametrize(
    "marks",
    [
        [("cuda_runtime", "hipStreamBeginCapture", 10)],  # the profiler stopped before the end
        [("cuda_runtime", "cuStreamEndCapture_v2", 500)],  # or began after the begin
        [
            ("python_function", "torch/cuda/graphs.py(79): capture_begin", 10),
            ("python_function", "torch/cuda/graphs.py(95): capture_end", 500),
        ],
    ],
)
def test_a_capture_that_is_cut_off_is_one_too(tmp_path: Path, marks: list[tuple[str, str, int]]) -> None:
    built = TraceBuilder().launch(1, 100).launch(2, 200)
    for category, name, start in marks:
        built.span(category, name, start, 5)
    assert codes(built.load(tmp_path)) == [("graph_capture", "info", 2)]


def test_another_process_captures_nothing_of_ours(tmp_path: Path) -> None:
    built = TraceBuilder().span("cuda_runtime", "cudaStreamBeginCapture", 10, 5, pid=2, tid=200).launch(1, 100)
    assert codes(built.load(tmp_path)) == [("missing_device_work", "error", 1)]


def test_activities_without_ids_may_be_of_the_launches(tmp_path: Path) -> None:
    built = TraceBuilder()
    for place in range(10):
        built.launch(place + 1, 100 * place).kernel(GEMM, 100 * place + 50, 20)
    assert codes(built.load(tmp_path)) == [("unlinked_activities", "warning", 10)]


def test_a_call_and_the_drivers_call_inside_it_are_one_launch(tmp_path: Path) -> None:
    built = TraceBuilder()
    for place in range(10):
        at = 100 * place
        built.launch(2 * place + 1, at, 40).kernel(GEMM, at + 50, 20, correlation=2 * place + 1)
        built.span("cuda_driver", "cuLaunchKernel", at + 5, 30, correlation=2 * place + 2)
    assert codes(built.load(tmp_path)) == []


def test_a_stream_whose_activities_are_missing_is_a_share_of_all(tmp_path: Path) -> None:
    # Of 40 launches every fourth goes to a stream that the profiler lost.
    built = TraceBuilder().op("a", 0, 5000)
    for place in range(40):
        built.launch(place + 1, 100 * place)
        if place % 4 != 2:
            built.kernel(GEMM, 100 * place + 50, 20, correlation=place + 1)
    finding = found(built.load(tmp_path))
    assert finding is not None
    assert (finding.severity.value, finding.count) == ("warning", 10)
    assert (
        "10 of 40 (25.0%), so that the device's figures are too small (1 of them one after another" in finding.message
    )


def test_a_session_whose_activities_are_missing_is_found_without_steps(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 5 * 10**6)
    for place in range(40):
        built.launch(place + 1, 100_000 * place)
        if place < 10 or place >= 38:
            built.kernel(GEMM, 100_000 * place + 50, 20, correlation=place + 1)
    finding = found(built.load(tmp_path))
    assert finding is not None
    assert (finding.severity.value, finding.count) == ("error", 28)
    assert "28 of them one after another, 1.000 to 3.700 ms into the trace" in finding.message


def test_a_single_hole_among_many_is_worth_knowing_and_no_more(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 50_000)
    for place in range(200):
        built.launch(place + 1, 100 * place)
        if place != 77:
            built.kernel(GEMM, 100 * place + 50, 20, correlation=place + 1)
    trace = built.load(tmp_path)
    assert codes(trace) == [("missing_device_work", "info", 1)]
    assert examine(trace).verdict == "ok"


def test_a_trace_of_the_host_alone_misses_nothing(tmp_path: Path) -> None:
    assert codes(TraceBuilder().op("aten::mm", 0, 50).range("prefill", 0, 100).load(tmp_path)) == []
