"""HTA inside: what it is given, what is read off its answers, what is declined, and why figures differ."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace import cli
from gemma_trace.cli.hta import named_analyses
from gemma_trace.errors import ConfigError, InputError, MissingExtraError
from gemma_trace.health.findings import Health
from gemma_trace.hta.answers import Analysis, Answer, Call, Declined, Figure, HtaResult, Parts, Scope, Task
from gemma_trace.hta.beside_ours import Causes, Own
from gemma_trace.hta.child_process import run_tasks
from gemma_trace.hta.copies import Copier
from gemma_trace.hta.figures import figures_of
from gemma_trace.hta.requirements import Requirements
from gemma_trace.hta.run import Wanted, run_hta
from gemma_trace.report.markdown import to_markdown
from gemma_trace.report.records import to_csv, to_json, to_parquet
from gemma_trace.report.tables.hta import hta_report, hta_tables
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES
from tests.trace_builder import TraceBuilder

WHOLE = Scope()


def two_stages() -> TraceBuilder:
    """Two stages of one request on one stream, with idle time between and inside; all in ns."""
    built = TraceBuilder().range("request", 0, 900_000)
    built.range("vision_tower", 10_000, 40_000).op("aten::conv2d", 11_000, 30_000)
    for correlation, start in ((1, 12_000), (2, 20_000), (3, 28_000)):
        built.launch(correlation, start, 4_000)
    built.range("prefill", 200_000, 90_000).op("aten::linear", 201_000, 20_000).launch(4, 205_000, 5_000)
    built.kernel("conv", 50_000, 20_000, correlation=1).kernel("conv", 80_000, 30_000, correlation=2)
    built.kernel("norm", 110_000, 10_000, correlation=3)
    return built.kernel("gemm", 215_000, 85_000, correlation=4)


def value(result: HtaResult, analysis: str, measure: str, of: str = "", scope: Scope = WHOLE) -> float:
    found = [f for f in result.figures if (f.analysis, f.measure, f.of, f.scope) == (analysis, measure, of, scope)]
    assert len(found) == 1, [f.measure for f in result.figures if f.analysis == analysis]
    return found[0].hta


def test_a_trace_and_its_stages_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("hta")
    heard: list[tuple[int, int]] = []
    result = run_hta(two_stages().load(tmp_path), on_step=lambda done, total: heard.append((done, total)))
    assert result.scopes == (WHOLE, Scope(0, "vision_tower"), Scope(0, "prefill"))
    tower, prefill = result.scopes[1:]
    assert [value(result, "temporal", name) for name in ("busy_ns", "idle_ns", "extent_ns")] == [
        145_000,
        105_000,
        250_000,
    ]
    assert value(result, "temporal", "busy_ns", scope=tower) == 60_000
    assert value(result, "temporal", "idle_ns", scope=tower) == 10_000
    assert value(result, "temporal", "extent_ns", scope=prefill) == 85_000
    # From 70 to 80 µs the next was launched already: a short gap. From 120 to 215 µs it wasn't: the host's.
    waits = [value(result, "idle", f"{name}_ns", "7") for name in ("host_wait", "kernel_wait", "other")]
    assert waits == [95_000, 10_000, 0]
    assert value(result, "kernels", "sum_ns", "conv") == 50_000
    assert [value(result, "kernels", f"{name}_ns", "conv") for name in ("mean", "min", "max")] == [
        25_000,
        20_000,
        30_000,
    ]
    assert [value(result, "kernels", name, scope=tower) for name in ("count", "names")] == [3, 2]
    assert value(result, "launches", "delay_max_ns") == 110_000 - 32_000
    assert value(result, "launches", "delay_median_ns", scope=prefill) == 5_000
    assert value(result, "queue", "length_max", "7") == 3
    assert value(result, "sequences", "device_ns", "aten::conv2d|conv|conv|norm") == 60_000
    # conv2d, linear up to its launch, the wait for the start, gemm: more than conv2d's own kernels with their gap.
    path = [value(result, "critical_path", f"{name}_ns", scope=Scope(0)) for name in ("host", "launching", "compute")]
    assert path == [34_000, 10_000, 85_000]
    compared = [figure for figure in result.figures if figure.ours is not None]
    assert {figure.analysis.value for figure in compared} == {"temporal", "idle", "kernels", "launches", "queue"}
    assert all(figure.agrees and not figure.cause for figure in compared)
    assert {(one.analysis, one.scope) for one in result.declined} == {
        (Analysis.BANDWIDTH, WHOLE),
        (Analysis.OVERLAP, WHOLE),
    }
    assert heard[-1] == (len(heard), len(heard))
    assert result.package.split()[0] in ("HolisticTraceAnalysis", "traceinsight")


def copied(trace: Trace, tmp_path: Path, **options: bool) -> list[dict[str, Any]]:
    file = tmp_path / "copy.json"
    every = np.ones(len(trace.activities), dtype=bool)
    Copier(trace, trace.requests).write(file, every, **options)
    events: list[dict[str, Any]] = json.loads(file.read_text())["traceEvents"]
    return events


def test_a_copy_holds_nothing_that_trips_hta_up(tmp_path: Path) -> None:
    built = TraceBuilder().range("ProfilerStep#1", 1000, 500).range("ProfilerStep#2", 1500, 500)
    built.span("python_function", "run.py(1): main", 1000, 900).span("cpu_op", "fused", 1005, 90, stream=7)
    built.span("cuda_sync", "Stream Sync", 1700, 50, pid=0, tid=0, stream=0, device=0, correlation=9)
    built.launch(5, 1010, name="hipModuleLaunchKernel").launch(6, 1020, name="hipMemcpyWithStream")
    built.launch(9, 1700, 50, name="hipStreamSynchronize")
    built.span("kernel", "k", 1100, 40, pid=0, tid=0, stream=0, device=0, correlation=5)
    built.span("gpu_memcpy", "CopyHostToDevice", 1150, 10, pid=0, tid=0, stream=0, device=0, correlation=6, bytes=80)
    trace = built.kernel("lost", 1200, 5).load(tmp_path)
    events = copied(trace, tmp_path, whole=True)
    assert all(isinstance(event[key], int) for event in events for key in ("ts", "dur", "pid", "tid"))
    named = {event["name"]: event for event in events}
    assert set(named) == {
        *("process_name", "hta::request", "hta::end", "Step#1", "Step#2", "fused", "cudaLaunchKernel"),
        *("cudaMemcpyAsync", "cudaStreamSynchronize", "k", "Memcpy CopyHostToDevice", "lost"),
    }
    assert "args" not in named["fused"], "an op that names a stream would be device work"
    assert (named["k"]["ts"], named["k"]["dur"], named["k"]["args"]["stream"]) == (100, 40, 1), "0 would be no stream"
    assert named["cudaLaunchKernel"]["args"]["correlation"] == named["k"]["args"]["correlation"]
    assert named["Memcpy CopyHostToDevice"]["args"]["memory bandwidth (GB/s)"] == 8
    assert "correlation" not in named["lost"]["args"]
    assert named["hta::end"]["ts"] > 2**32, "or HTA's columns of times are too narrow for their sums"
    waiting = {event["name"]: event for event in copied(trace, tmp_path, whole=True, syncs=True)}
    assert waiting["Stream Sync"]["args"] == {"stream": 1, "device": 0, "correlation": 9}
    assert {event["name"] for event in copied(trace, tmp_path)} & {"Step#1", "fused", "cudaStreamSynchronize"} == set()


@pytest.mark.parametrize(
    ("built", "reasons"),
    [
        (TraceBuilder().op("aten::add", 0, 10), {None: "nothing ran on a device in this trace"}),
        (
            TraceBuilder().range("ProfilerStep#1", 0, 50).kernel("k", 10, 20),
            {
                Analysis.LAUNCHES: "no launch of its device activities is in the trace",
                Analysis.QUEUE: "no launch of its device activities is in the trace",
                Analysis.BANDWIDTH: "has no copy or fill",
                Analysis.OVERLAP: "no communication kernel",
                Analysis.SEQUENCES: "no launch of its device activities is in the trace",
                Analysis.CRITICAL_PATH: "no launch of its device activities is in the trace",
            },
        ),
        (
            TraceBuilder()
            .op("aten::add", 0, 50)
            .launch(1, 1, name="cudaGraphLaunch")
            .kernel("k", 60, 5, correlation=1)
            # A replay: one call, many kernels.
            .kernel("k", 70, 5, correlation=1)
            .kernel("k", 80, 5, correlation=1),
            {
                Analysis.BANDWIDTH: "has no copy or fill",
                Analysis.OVERLAP: "no communication kernel",
                Analysis.CRITICAL_PATH: "can't hold a call that launches several activities",
            },
        ),
    ],
    ids=["cpu only", "nothing but a kernel", "a replay"],
)
@pytest.mark.usefixtures("hta_imported")
def test_what_hta_cannot_do_is_declined_in_a_line(
    tmp_path: Path, built: TraceBuilder, reasons: Mapping[Analysis | None, str]
) -> None:
    declined = {one.analysis: one.reason for one in run_hta(built.load(tmp_path)).declined if one.scope.stage is None}
    assert declined.keys() == reasons.keys()
    assert all(reason in declined[analysis] and "\n" not in declined[analysis] for analysis, reason in reasons.items())


@pytest.mark.usefixtures("hta_imported")
def test_a_stage_without_device_work_is_declined_once(tmp_path: Path) -> None:
    built = two_stages().range("tokenization", 1_000, 5_000)
    result = run_hta(built.load(tmp_path), Wanted(analyses=(Analysis.TEMPORAL, Analysis.KERNELS)))
    assert result.declined == (Declined(None, Scope(0, "tokenization"), "it launched no device activity"),)


@pytest.mark.usefixtures("hta_imported")
def test_one_stage_or_request_can_be_asked_for(tmp_path: Path) -> None:
    trace = two_stages().load(tmp_path)
    only = Wanted(analyses=(Analysis.TEMPORAL,), stage="prefill")
    assert run_hta(trace, only).scopes == (WHOLE, Scope(0, "prefill"))
    assert run_hta(trace, replace(only, stage=None, by=Parts.REQUEST)).scopes == (WHOLE, Scope(0))
    with pytest.raises(InputError, match=r"has no stage 'decode'; it has vision_tower, prefill"):
        run_hta(trace, replace(only, stage="decode"))
    with pytest.raises(InputError, match=r"request 3 not found: .* has request 0 alone"):
        run_hta(trace, replace(only, request=3))


def answer(analysis: Analysis, unit_ns: int = 1000, **frames: Mapping[str, list[Any]]) -> Answer:
    task = Task(Path("x.json"), unit_ns, (), {1: "7"}, np.ones(0, dtype=bool))
    return Answer(task, Call(analysis, WHOLE), frames)


def test_answers_are_read_in_their_units() -> None:
    table: dict[str, list[Any]] = {"compute_time(us)": [2.0], "non_compute_time(us)": [1.0]}
    table |= {"idle_time(us)": [0.5], "kernel_time(us)": [3.5]}
    found = {figure.measure: figure.hta for figure in figures_of(answer(Analysis.TEMPORAL, temporal=table))}
    assert found == {"busy_ns": 3000, "compute_ns": 2000, "idle_ns": 500, "extent_ns": 3500}
    idle: dict[str, list[Any]] = {
        "stream": [1, 1, 9],
        "idle_category": ["host_wait", "other", "kernel_wait"],
        "idle_time": [3.0, 1.0, 0.25],
    }
    streams = {(figure.of, figure.measure): figure.hta for figure in figures_of(answer(Analysis.IDLE, idle=idle))}
    assert (streams["7", "idle_ns"], streams["7", "host_wait_ns"], streams["9", "kernel_wait_ns"]) == (4000, 3000, 250)
    path: dict[str, list[Any]] = {"bound_by": ["cpu_bound", "gpu_kernel_launch_overhead"], "duration": [7, 2]}
    parts = {figure.measure: figure.hta for figure in figures_of(answer(Analysis.CRITICAL_PATH, 1, path=path))}
    assert (parts["length_ns"], parts["host_ns"], parts["launching_ns"], parts["compute_ns"]) == (9, 7, 2, 0)


def test_nothing_over_nothing_is_no_figure() -> None:
    assert figures_of(answer(Analysis.OVERLAP, overlap={"comp_comm_overlap_pctg": [float("nan")]})) == []


def figure(analysis: Analysis, measure: str, hta: float, of: str = "") -> Figure:
    return Figure(analysis, WHOLE, of, measure, hta)


def test_the_difference_is_taken_of_ours() -> None:
    one = figure(Analysis.TEMPORAL, "busy_ns", 1002)
    assert replace(one, ours=1000).difference_pct == pytest.approx(0.2)
    assert not replace(one, ours=1000).agrees
    assert replace(one, ours=1001.5).agrees
    assert (replace(one, ours=0).difference_pct, replace(one, ours=0).agrees) == (None, False)
    assert replace(one, hta=0, ours=0).agrees
    assert one.difference_pct is None


def cause(built: TraceBuilder, tmp_path: Path, one: Figure, *, as_is: bool) -> str:
    trace = built.load(tmp_path)
    own = Own(trace, np.ones(len(trace.activities), dtype=bool))
    return Causes(trace, as_is=as_is).compared(one, own).cause


def test_causes_are_named_where_figures_differ(tmp_path: Path) -> None:
    busy, count = figure(Analysis.TEMPORAL, "busy_ns", 99), figure(Analysis.LAUNCHES, "count", 0)
    plain = TraceBuilder().launch(1, 0).kernel("k", 10, 20, correlation=1)
    assert cause(plain, tmp_path, busy, as_is=True) == "unknown"
    assert cause(plain, tmp_path, figure(Analysis.TEMPORAL, "busy_ns", 20), as_is=True) == ""
    waits = TraceBuilder().kernel("k", 10, 20).span("cuda_sync", "Stream Sync", 30, 50, stream=7)
    assert "takes cuda_sync spans (1)" in cause(waits, tmp_path, busy, as_is=True)
    assert cause(waits, tmp_path, busy, as_is=False) == "unknown", "a copy has none"
    op = TraceBuilder().kernel("k", 10, 20).span("cpu_op", "triton", 0, 50, stream=7)
    assert "spans of the host that name a stream (1)" in cause(op, tmp_path, busy, as_is=True)
    hip = TraceBuilder().launch(1, 0, name="hipLaunchKernel").kernel("k", 10, 20, correlation=1)
    assert cause(hip, tmp_path, count, as_is=True) == "HTA doesn't know hipLaunchKernel"
    steps = TraceBuilder().range("ProfilerStep#1", 0, 20).range("ProfilerStep#2", 20, 20).kernel("k", 10, 20)
    assert "drops activities (1)" in cause(steps, tmp_path, busy, as_is=True)
    crossing = TraceBuilder().kernel("k", 10, 20).kernel("k", 20, 30)
    idle = figure(Analysis.IDLE, "idle_ns", -10, "7")
    assert "overlap of activities on a stream" in cause(crossing, tmp_path, idle, as_is=False)
    together = (
        TraceBuilder().launch(1, 0).launch(2, 10).kernel("k", 10, 5, correlation=1).kernel("k", 15, 5, correlation=2)
    )
    assert "at the instant of a launch" in cause(
        together, tmp_path, figure(Analysis.QUEUE, "length_max", 2, "7"), as_is=False
    )


def test_operators_are_those_whose_sequences_cost_most(tmp_path: Path) -> None:
    built = two_stages().op("aten::add", 300_000, 50_000)
    for index in range(3):
        built.launch(10 + index, 301_000 + 5_000 * index, 1_000)
        built.kernel("add", 400_000 + 5_000 * index, 1_000, correlation=10 + index)
    assert Requirements(built.load(tmp_path)).operators == ["aten::conv2d", "aten::add"]


@pytest.mark.usefixtures("hta_imported")
def test_a_file_that_hta_cannot_read_costs_its_own_calls_only(tmp_path: Path) -> None:
    trace = two_stages().load(tmp_path)
    every = np.ones(len(trace.activities), dtype=bool)
    (tmp_path / "bad.json").write_text("{")
    Copier(trace, trace.requests).write(tmp_path / "good.json", every)
    call = Call(Analysis.TEMPORAL, WHOLE)
    tasks = [Task(tmp_path / f"{name}.json", 1, (call,), {}, every) for name in ("bad", "gone", "good")]
    _, answers = run_tasks(tasks)
    assert [one.error.partition(":")[0] for one in answers] == ["JSONDecodeError", "FileNotFoundError", ""] or [
        bool(one.error) for one in answers
    ] == [True, True, False]
    assert figures_of(answers[2])


def test_a_process_that_hangs_or_dies_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(Analysis.TEMPORAL, WHOLE)
    task = Task(tmp_path / "x.json", 1, (call, call), {}, np.ones(1, dtype=bool))
    assert [one.error for one in run_tasks([task], timeout_s=0.001)[1]] == [
        "no answer within 0.001 s; raise --timeout"
    ] * 2
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert [one.error for one in run_tasks([task])[1]] == ["its process exited with code 1"] * 2


def test_without_hta_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "gemma-trace\[hta\]"'):
        run_hta(two_stages().load(tmp_path))
    assert cli.main(["hta", str(SAMPLES / "sample-tiny-cpu-pil")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_analyses_are_chosen_by_name() -> None:
    assert named_analyses("kernels, critical-path") == (Analysis.KERNELS, Analysis.CRITICAL_PATH)
    assert named_analyses(None) == tuple(Analysis)
    with pytest.raises(ConfigError, match=r"there is no analysis 'kernel'; give some of temporal, idle"):
        named_analyses("kernel")


@pytest.mark.usefixtures("hta_imported")
def test_the_file_itself_has_no_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = two_stages().write(tmp_path / "built.json")
    assert cli.main(["hta", str(file), "--as-is", "--stage", "prefill"]) == 2
    assert "leave out --stage prefill" in capsys.readouterr().err
    (tmp_path / "list.json").write_text(json.dumps(json.loads(file.read_text())["traceEvents"]))
    assert cli.main(["hta", str(tmp_path / "list.json"), "--as-is", "--analyses", "temporal", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["declined"].startswith("HTA failed: AttributeError")
    assert row["declined"].endswith("; without --as-is it gets a copy")


def some_result() -> HtaResult:
    tower = Scope(0, "vision_tower")
    figures = [
        *(replace(figure(Analysis.TEMPORAL, name, 3e6), ours=3e6) for name in ("busy_ns", "compute_ns", "extent_ns")),
        replace(figure(Analysis.TEMPORAL, "idle_ns", 1e6), ours=2e6, cause="a cause"),
        *(
            Figure(Analysis.TEMPORAL, tower, "", name, 1e6)
            for name in ("busy_ns", "compute_ns", "idle_ns", "extent_ns")
        ),
    ]
    declined = (
        Declined(Analysis.OVERLAP, WHOLE, "no such kernel"),
        Declined(None, Scope(0, "tokenization"), "no work"),
        Declined(None, Scope(0, "chat_template"), "no work"),
    )
    return HtaResult("hta 1.0", False, (WHOLE, tower), {0: 5_000_000}, tuple(figures), declined, ("A remark.",))


def test_tables_show_both_sides_the_stages_and_what_was_declined() -> None:
    comparison, temporal, declined = (table.as_text() for table in hta_tables(some_result(), "run", 0))
    assert comparison.title == "HTA and gemma-trace, run"
    assert ("device idle, ms", "1.000", "2.000", "-50.00", "a cause") in comparison.rows
    assert comparison.notes == (
        "hta 1.0. 3 of 4 figures that both tools have agree within 0.1%, including those of each kernel, stage and "
        "request.",
        "A remark.",
    )
    assert [row[0] for row in temporal.rows] == ["whole trace", "  vision_tower"]
    assert declined.rows == (
        ("overlap", "whole trace", "no such kernel"),
        ("all", "tokenization, chat_template", "no work"),
    )


def test_every_format_takes_a_report() -> None:
    report = hta_report(some_result(), "run", "x.json", Health(), 0)
    content = json.loads(to_json(report))
    assert content["totals"] == {"package": "hta 1.0", "as_is": False, "compared": 4, "agreeing": 3, "declined": 3}
    assert len(content["rows"]) == len(some_result().figures) + 3
    idle = next(row for row in content["rows"] if row["measure"] == "idle_ns" and row["stage"] is None)
    assert (idle["hta"], idle["gemma_trace"], idle["difference_pct"]) == (1_000_000, 2_000_000, -50.0)
    assert to_csv(report).count("\n") == 1 + len(content["rows"])
    assert to_parquet(report)
    assert "| overlap" in to_markdown(report)
