"""The profiler's own overhead, cold starts, and stages that the profiler distorts. Values are worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.longest import LongCall
from gemma_trace.analysis.reasons import Kind, StageReason, stage_reasons
from gemma_trace.analysis.summary import summarize
from gemma_trace.health.examine import examine
from gemma_trace.metadata import ConfigValue, RequestSample, StageSample
from gemma_trace.report.html.build import view_of
from gemma_trace.report.html.sections import run_of
from gemma_trace.report.verdicts import verdict
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, SHARED, real_trace
from tests.health.test_health import METADATA
from tests.trace_builder import MAIN, TraceBuilder

US, MS = 1_000, 1_000_000
GEMM = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n"


def codes(trace: Trace) -> list[tuple[str, str, int]]:
    return [(each.code, each.severity.value, each.count) for each in examine(trace).findings]


def reason_of(trace: Trace) -> StageReason:
    (reason,) = stage_reasons(trace)
    assert reason.time_ns == sum(part.time_ns for part in reason.parts)
    return reason


def parts_of(reason: StageReason) -> dict[tuple[str, str], int]:
    return {(part.kind.value, part.name): part.time_ns for part in reason.parts}


def held_up(*, pid: int | str = -1, tid: int | str = 0) -> TraceBuilder:
    """A window of 1 ms with three launches, in which the profiler holds the program up for 398 and 250 µs."""
    built = TraceBuilder().span("user_annotation", "stage_a", 0, 1000 * US)
    for correlation, op, op_dur, launch, launch_dur, kernel, dur in (
        (1, 10, 20, 12, 5, 40, 15),
        (2, 190, 430, 200, 400, 640, 15),
        (3, 960, 20, 962, 5, 985, 10),
    ):
        built.op("aten::mm", op * US, op_dur * US).launch(correlation, launch * US, launch_dur * US)
        built.kernel(GEMM, kernel * US, dur * US, correlation=correlation)
    built.span("overhead", "Activity Buffer Request", 201 * US, 398 * US, pid=pid, tid=tid)
    return built.span("overhead", "Buffer Flush", 700 * US, 250 * US, pid=pid, tid=tid)


def test_the_profilers_own_overhead_is_a_part_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = held_up().load(tmp_path)
    reason = reason_of(trace)
    assert reason.by_kind_ns(Kind.PROFILER) == 648 * US
    assert parts_of(reason) == {
        ("profiler", "Activity Buffer Request"): 398 * US,
        ("profiler", "Buffer Flush"): 250 * US,
        ("device", "gemm"): 40 * US,
        # 0 to 40, 55 to 201 and 599 to 640, 655 to 700 and 950 to 985; then 5 to the end.
        ("launch", "launch"): (40 + 146 + 41 + 45 + 35) * US,
        ("host", "(host work outside ops)"): 5 * US,
    }
    assert verdict(reason) == (
        "profiler-bound: 65% of the time the profiler itself delays the host: 40% Activity Buffer Request, "
        "25% Buffer Flush"
    )
    assert codes(trace) == [("profiler_overhead", "warning", 2)]
    assert "for 0.648 ms, 64.8% of the time" in examine(trace).findings[0].message
    assert cli.main(["stages", "--why", str(tmp_path / "built.json")]) == 0
    row = next(line.split() for line in capsys.readouterr().out.splitlines() if "Activity Buffer Request" in line[:80])
    assert row[-2:] == ["0.398", "39.8"]
    assert cli.main(["stages", "--format", "json", str(tmp_path / "built.json")]) == 0
    (record,) = json.loads(capsys.readouterr().out)["totals"]["reasons"]
    assert record["profiler_ns"] == 648 * US
    tiles = {tile.name: (tile.value, tile.unit) for tile in run_of(view_of(trace)).tiles}
    assert tiles["profiler's own overhead"] == ("64.8", "%")


@pytest.mark.parametrize(
    ("pid", "tid", "expected_us"),
    [
        (1, MAIN, 648),  # under the thread itself
        (1, 999, 648),  # under a thread of the process that does nothing else
        ("profiler", "flush", 648),
        (1, 55, 0),  # under another thread with spans of its own: it holds that one up
        (2, 999, 0),  # in another process of the program
    ],
)
def test_whom_overhead_holds_up(tmp_path: Path, pid: int | str, tid: int | str, expected_us: int) -> None:
    built = held_up(pid=pid, tid=tid).op("aten::other", 0, 5 * US, tid=55)
    trace = built.span("cpu_op", "aten::elsewhere", 0, 5 * US, pid=2, tid=200).load(tmp_path)
    assert reason_of(trace).by_kind_ns(Kind.PROFILER) == expected_us * US
    assert [code for code, _, _ in codes(trace)] == (["profiler_overhead"] if expected_us else [])


def test_overhead_counts_where_the_device_is_idle_and_once(tmp_path: Path) -> None:
    # Of 300 µs of overhead, recorded twice, the device is busy in the first 100.
    built = TraceBuilder().op("aten::mm", 0, 1000 * US).launch(1, 0).kernel(GEMM, 100 * US, 200 * US, correlation=1)
    for name in ("Buffer Flush", "Resource"):
        built.span("overhead", name, 200 * US, 300 * US, pid=-1, tid=0)
    assert reason_of(built.load(tmp_path)).by_kind_ns(Kind.PROFILER) == 200 * US


def test_little_overhead_is_worth_knowing_and_less_is_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 100 * MS)
    trace = built.span("overhead", "Buffer Flush", 50 * MS, 99 * US, pid=-1, tid=0).load(tmp_path)
    assert codes(trace) == []
    trace = built.span("overhead", "Buffer Flush", 60 * MS, 4900 * US, pid=-1, tid=0).load(tmp_path)
    assert codes(trace) == [("profiler_overhead", "info", 2)]
    trace = built.span("overhead", "Buffer Flush", 70 * MS, 2 * US, pid=-1, tid=0).load(tmp_path)
    assert codes(trace) == [("profiler_overhead", "warning", 3)]


def launching(first_ns: int, *, steps: int = 0, name: str = "cudaLaunchKernel") -> TraceBuilder:
    """Twenty launches of 10 µs every 100 µs, the first of which takes `first_ns` and comes that much earlier."""
    built, total = TraceBuilder(), first_ns + 2000 * US
    for step in range(steps):
        built.span("user_annotation", f"ProfilerStep#{step}", step * total // steps, total // steps)
    built.span("user_annotation", "everything", 0, total, tid=MAIN)
    for place in range(20):
        start = first_ns + 100 * place * US if place else 0
        length = 10 * US if place else first_ns + 10 * US
        built.op("aten::mm", start, length + 5 * US).launch(place + 1, start, length, name=name)
        built.kernel(GEMM, first_ns + (100 * place + 15) * US, 20 * US, correlation=place + 1)
    return built


def test_a_cold_launch_is_named_with_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = launching(8 * MS).load(tmp_path)
    reason = reason_of(trace)
    assert reason.time_ns == 10 * MS
    # The call lasts 8.010 ms, before its kernel starts.
    assert reason.longest == LongCall("cudaLaunchKernel", 8 * MS + 10 * US, True, 10.0 * US)
    assert verdict(reason) == (
        "cold start: 80% of the time is one call of cudaLaunchKernel, 8.010 ms (the others: 10.0 µs, median)"
    )
    finding = next(each for each in examine(trace).findings if each.code == "cold_start")
    assert finding.severity.value == "warning"
    assert "80% of the time, the longest being one cudaLaunchKernel of 8.0 ms (the others: 10.0 µs, median)" in (
        finding.message
    )
    assert cli.main(["stages", str(tmp_path / "built.json")]) == 0
    assert "the launches of" not in capsys.readouterr().out


def test_a_cold_launch_is_named_with_steps_too(tmp_path: Path) -> None:
    trace = launching(8 * MS, steps=2).load(tmp_path)
    # The op around the call fills the first step of 5 ms, and 3.015 ms of the second; all kernels are in the second.
    reason = reason_of(trace)
    assert (reason.cold_ns, reason.time_ns) == (8 * MS + 15 * US, 10 * MS)
    assert verdict(reason).startswith("cold start: 80% of the time is ")
    assert "cold_start" in [code for code, _, _ in codes(trace)]


def test_a_cold_launch_that_is_not_the_most_is_named_beside_what_is(tmp_path: Path) -> None:
    trace = launching(1500 * US).load(tmp_path)
    # 1.510 ms of 3.5; of the rest all but the kernels' 20 times 20 µs, and 65 µs after the last, leads to launches.
    assert verdict(reason_of(trace)) == (
        "host-bound: 87% of the time the device waits for the host; "
        "cold start: 43% is one call of cudaLaunchKernel, 1.510 ms (the others: 10.0 µs, median)"
    )


def test_a_warm_program_has_no_cold_start(tmp_path: Path) -> None:
    trace = launching(0).load(tmp_path)
    assert codes(trace) == []
    assert "cold" not in verdict(reason_of(trace))


def test_a_launch_that_waits_for_a_full_queue_is_no_cold_start(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 100 * MS)
    for place in range(10):
        built.launch(place + 1, place * 100 * US, 10 * US).kernel(
            GEMM, (5 + 9 * place) * MS, 9 * MS, correlation=place + 1
        )
    built.launch(11, 6 * MS, 70 * MS).kernel(GEMM, 96 * MS, 2 * MS, correlation=11)
    trace = built.load(tmp_path)
    assert codes(trace) == []
    assert verdict(reason_of(trace)).startswith("device-bound: 92%")


def test_many_calls_that_make_something_are_a_cold_start_together(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 10 * MS)
    for place, name in enumerate(
        ("cuModuleLoadData", "cudaMalloc", "cuLibraryLoadData", "cudaHostAlloc", "cudaStreamCreateWithFlags")
    ):
        built.launch(100 + place, 2 * place * MS, (1000 + place) * US, name=name)
    built.launch(1, 9500 * US).kernel(GEMM, 9600 * US, 100 * US, correlation=1)
    trace = built.load(tmp_path)
    reason = reason_of(trace)
    assert reason.cold_ns == 5010 * US
    assert verdict(reason) == (
        "cold start: 50% of the time is first calls of their kind, the longest one call of "
        "cudaStreamCreateWithFlags, 1.004 ms"
    )
    assert codes(trace) == [("cold_start", "warning", 5)]


def test_the_first_op_of_a_shape_that_is_tuned_is_named(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 20 * MS)
    for place in range(5):
        start, length = (0, 10 * MS) if not place else ((10 + 2 * place) * MS, 100 * US)
        built.op("aten::cudnn_convolution", start, length, dims=[[1, 3, 8, 8]])
        built.launch(place + 1, start + length - 20 * US, 10 * US)
        built.kernel("conv", start + length, 50 * US, correlation=place + 1)
    reason = reason_of(built.load(tmp_path))
    # Up to where its launch ends it is the op's and the launch's; the kernel starts at its end.
    assert verdict(reason) == (
        "cold start: 50% of the time is one call of aten::cudnn_convolution, 10.00 ms (the others: 100.0 µs, median)"
    )


def test_a_larger_shape_is_no_cold_start(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 20 * MS)
    for place in range(5):
        start, length = (0, 10 * MS) if not place else ((10 + 2 * place) * MS, 100 * US)
        built.op("aten::mm", start, length, dims=[[1000 if not place else 1, 8], [8, 8]])
        built.launch(place + 1, start + length - 20 * US, 10 * US)
        built.kernel(GEMM, start + length, 50 * US, correlation=place + 1)
    trace = built.load(tmp_path)
    assert codes(trace) == []
    assert "cold" not in verdict(reason_of(trace))


def test_ops_of_a_trace_without_a_device_are_work(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 20 * MS)
    for place in range(5):
        built.op("aten::mm", 2 * place * MS, 100 * US if place else 2 * MS)
    assert codes(built.load(tmp_path)) == []


def test_compilation_is_a_cold_start_without_a_device_too(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 20 * MS)
    built.span("python_function", "torch/_dynamo/convert_frame.py(689): _compile", 1 * MS, 12 * MS)
    built.span("python_function", "triton/compiler/compiler.py(226): compile", 3 * MS, 9 * MS)
    trace = built.load(tmp_path)
    assert verdict(reason_of(trace)) == (
        "cold start: 60% of the time is one call of torch/_dynamo/convert_frame.py(689): _compile, 12.00 ms"
    )
    assert codes(trace) == [("cold_start", "warning", 2)]


def test_one_long_call_that_nothing_is_known_of_is_named_and_not_called_cold(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "all", 0, 10 * MS)
    built.launch(1, 1 * MS, 6 * MS, name="cudaGraphLaunch").kernel(GEMM, 8 * MS, 1 * MS, correlation=1)
    trace = built.load(tmp_path)
    assert verdict(reason_of(trace)) == (
        "host-bound: 60% of the time is one call of cudaGraphLaunch, 6.000 ms, while the device is idle"
    )
    assert "cold_start" not in [code for code, _, _ in codes(trace)]


@pytest.mark.parametrize(
    ("name", "call", "share"),
    [
        ("a100_particle_cold_start", "one call of cudaLaunchKernel, 1,337 ms", 74),
        ("norm_layers", "the longest one call of hipLaunchKernel, 331.6 ms", 82),
    ],
)
def test_the_cold_starts_of_real_traces_are_named(name: str, call: str, share: int) -> None:
    path = SHARED / "corpus_2" / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("needs ../shared/corpus_2, real traces that this project reads but does not ship")
    said = verdict(next(reason for reason in stage_reasons(real_trace(path)) if reason.stage == "unattributed"))
    assert said.startswith(f"cold start: {share}% of the time is ")
    assert call in said


def sample(image: str, prefill_ns: int, decode_ns: int) -> RequestSample:
    stages = {"prefill": StageSample(prefill_ns, None, 1), "decode": StageSample(decode_ns, None, 2)}
    stages["sampling"] = StageSample(1, None, 3)  # too short to say anything
    return RequestSample(100 * MS, 50 * MS, (50 * MS,), image, {}, stages)


def captured(decode_ns: int, **config: ConfigValue) -> TraceBuilder:
    """Two profiled requests of 120 ms; timed ones with the same images took 40 and 20, and 60 and 20 ms."""
    metadata = replace(
        METADATA,
        config=config,
        profiled_images=("a", "b"),
        timed_requests=(sample("a", 40 * MS, 20 * MS), sample("b", 60 * MS, 20 * MS), sample("a", 40 * MS, 20 * MS)),
    )
    built = TraceBuilder().metadata(metadata)
    for start in (0, 200 * MS):
        built.range("request", start, 120 * MS).range("prefill", start, 48 * MS)
        built.range("decode", start + 50 * MS, decode_ns).range("sampling", start + 110 * MS, 5 * MS)
    return built


def test_the_stage_that_the_profiler_distorts_most_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = captured(50 * MS)
    trace = built.load(tmp_path)
    found = {each.stage: each for each in summarize(trace).distortions}
    assert list(found) == ["decode", "prefill"]
    # prefill: 48 / 40 and 48 / 60; decode: 50 / 20 twice. The timed requests took 100 ms.
    assert (found["decode"].factor, found["decode"].timed_ns, found["decode"].profiled_ns) == (2.5, 20 * MS, 50 * MS)
    assert (found["decode"].added_share, found["decode"].requests) == (0.3, 2)
    assert found["prefill"].factor == pytest.approx(1.0)
    finding = next(each for each in summarize(trace).health.findings if each.code == "profiler_distortion")
    assert (finding.severity.value, finding.count) == ("warning", 1)
    assert (
        "distorts decode most: it takes 2.50 times as long as without it, 50.000 instead of 20.000 ms (2 requests)"
        in (finding.message)
    )
    assert cli.main(["check", str(tmp_path / "built.json")]) == 0
    printed = capsys.readouterr().out
    assert "The profiler distorts decode most." in printed
    assert ["decode", "20.00", "50.00", "2.50"] in [line.split() for line in printed.splitlines()]


@pytest.mark.parametrize(
    ("config", "lighter"),
    [
        (
            {"stacks": False, "memory": False, "shapes": True, "detail": "layer"},
            "with --no-shapes, with --detail stage",
        ),
        ({"stacks": True, "memory": True, "shapes": False, "detail": "stage"}, "without --stacks, without --memory"),
        ({"stacks": False, "memory": False, "shapes": False, "detail": "stage"}, ""),
    ],
)
def test_only_what_was_recorded_is_advised_against(
    config: dict[str, ConfigValue], lighter: str, tmp_path: Path
) -> None:
    findings = {
        each.code: each.advice for each in summarize(captured(50 * MS, **config).load(tmp_path)).health.findings
    }
    expected = f"use the timed columns, or capture {lighter}" if lighter else "use the timed columns"
    assert findings["profiler_distortion"].endswith(expected)
    expected = f"ones for shares, or capture {lighter}" if lighter else "ones for shares"
    assert findings["profiler_inflation"].endswith(expected)


@pytest.mark.parametrize(
    ("timed_ttft_ns", "codes"),
    [
        (100 * MS, ["profiler_distortion"]),  # the profiled one is 115 ms: × 1.15
        (92 * MS, ["profiler_distortion", "profiler_inflation"]),  # × 1.25
        (143 * MS, ["profiler_distortion"]),  # × 0.804
        (144 * MS, ["profiler_distortion", "slower_without_profiler"]),
    ],
)
def test_a_pass_that_the_profiler_cannot_have_made_quicker_is_a_finding(
    timed_ttft_ns: int, codes: list[str], tmp_path: Path
) -> None:
    built = captured(50 * MS)
    metadata = built.load(tmp_path).metadata
    assert metadata
    timed = tuple(replace(sample, ttft_ns=timed_ttft_ns) for sample in metadata.timed_requests)
    trace = built.metadata(replace(metadata, timed_requests=timed)).load(tmp_path)
    findings = {each.code: each.message for each in summarize(trace).health.findings}
    assert sorted(set(findings) & {"profiler_distortion", "profiler_inflation", "slower_without_profiler"}) == codes
    if "slower_without_profiler" in findings:
        assert findings["slower_without_profiler"].startswith("TTFT took 1.25 times as long without the profiler as")


def test_a_little_distortion_is_shown_and_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = captured(24 * MS).load(tmp_path)  # × 1.2
    assert "profiler_distortion" not in [each.code for each in summarize(trace).health.findings]
    assert cli.main(["check", str(tmp_path / "built.json")]) == 0
    assert "The profiler distorts decode most." in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*/*.json.gz")), ids=lambda path: path.parent.name)
def test_both_samples_say_which_stage_is_distorted_most(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(path)]) == 0
    assert "The profiler distorts decode most." in capsys.readouterr().out
