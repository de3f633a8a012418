"""Findings about what isn't torch.profiler's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Finding
from gemma_trace.trace.trace import Trace, load
from tests.conftest import SHARED
from tests.trace_builder import TraceBuilder, decimal_us


@pytest.fixture
def cases() -> Path:
    folder = SHARED / "cases"
    if not folder.is_dir():
        pytest.skip("needs ../shared/cases, small traces that this project reads but does not ship")
    return folder


def finding(trace: Trace, code: str) -> Finding:
    found = [each for each in examine(trace).findings if each.code == code]
    assert len(found) == 1
    return found[0]


def test_counters_are_worth_knowing(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5000)
    for at in range(1500):
        built.counter("SM Active %", at, 50).counter("DRAM", at, {"read": 1, "write": 2})
    trace = built.load(tmp_path)
    told = finding(trace, "counters")
    assert told.message == ("values of counters (phase C): 4,500, of 3 series: SM Active %, DRAM read, DRAM write")
    assert (told.count, examine(trace).verdict) == (4500, "ok")


def test_the_first_few_series_are_named(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5000)
    for number in range(6):
        built.counter(f"c{number}", 10, 1)
    assert finding(built.load(tmp_path), "counters").message.endswith("of 6 series: c0, c1, c2, c3 and 2 more")


def test_values_that_are_no_numbers_are_a_warning(tmp_path: Path) -> None:
    trace = TraceBuilder().op("aten::mm", 0, 5000).counter("a", 10, "N/A").load(tmp_path)
    assert [(each.code, each.severity.value) for each in examine(trace).findings] == [
        ("counter_values_not_numeric", "warning")
    ]


def test_phases_without_time_are_worth_knowing(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5000)
    for at in range(1200):
        built.raw(ph="P", name="sample", pid=1, tid=1, ts=at)
    told = finding(built.raw(ph="", name="x", pid=1, ts=1).load(tmp_path), "passed_over")
    assert told.message == ("not understood: 1,200 events of phase P, 1 event without a phase, none with a length")
    assert (told.count, told.severity.value) == (1201, "info")


def test_phases_that_cover_time_are_a_warning(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 400_000)
    for phase, at_ns in (("b", 100_000), ("e", 350_000)):
        built.raw(ph=phase, cat="x", id=1, name="n", pid=1, tid=1, ts=decimal_us(at_ns))
    told = finding(built.load(tmp_path), "passed_over")
    assert told.message == (
        "not understood: 1 event of phase b, 1 event of phase e, which cover 0.250 ms beside spans over 0.400 ms"
    )
    assert told.severity.value == "warning"


def test_a_category_nobody_knows_is_a_warning_with_its_share(tmp_path: Path) -> None:
    # 30 of the 40 µs that spans cover; the gap between them counts for nothing.
    built = TraceBuilder().op("aten::mm", 0, 20_000).span("mine", "x", 10_000, 10_000).span("mine", "y", 90_000, 20_000)
    told = finding(built.load(tmp_path), "unrecognised_spans")
    assert told.message == (
        "spans of a category that torch.profiler does not write: 2 of 3 (2 of 'mine'), over 75.0% of the time that "
        "spans cover"
    )
    assert told.advice == (
        "before you trust a figure, check what they were taken for: work of the host (2), since nothing tells what "
        "they are"
    )
    assert (told.count, told.severity.value) == (2, "warning")


def test_what_was_guessed_is_said(tmp_path: Path) -> None:
    built = TraceBuilder().span("", "aten::mm", 0, 10).span("", "aten::add", 10, 10).span("", "x", 20, 10)
    built.span("cuda", "gemm", 20, 20, pid="Device 0", tid="Stream 7")
    told = finding(built.load(tmp_path), "unrecognised_spans")
    assert told.message == (
        "spans of a category that torch.profiler does not write: 4 of 4 (3 without a category, 1 of 'cuda'), over "
        "100.0% of the time that spans cover"
    )
    assert told.advice == (
        "before you trust a figure, check what they were taken for: ops (2), device activities (1), by their names or "
        "tracks, and work of the host (1), since nothing tells what they are"
    )
    assert told.severity.value == "warning"


@pytest.mark.parametrize("category", ["FEE", "toplevel", ""])
def test_a_trace_of_which_nothing_is_recognised_is_an_error(tmp_path: Path, category: str) -> None:
    trace = TraceBuilder().span(category, "main (a.py:1)", 0, 100).span(category, "f", 10, 10).load(tmp_path)
    assert finding(trace, "unrecognised_spans").severity.value == "error"
    assert examine(trace).verdict == "error"


def test_mtia_is_recognised(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 50).span("mtia_runtime", "run", 10, 10, correlation=5)
    trace = built.span("mtia_ccp_events", "mm_fw", 40, 100, pid=0, tid=2, correlation=5).load(tmp_path)
    assert examine(trace).findings == ()
    assert trace.launch.tolist() == [1]


def test_the_legacy_export_among_the_cases(cases: Path) -> None:
    trace = load(cases / "legacy_autograd_export.json")
    assert (int(trace.is_op.sum()), len(trace.activities), int((trace.launch >= 0).sum())) == (4, 4, 4)
    assert examine(trace).verdict == "warning"
    assert finding(trace, "unrecognised_spans").count == 8


def test_the_bare_value_among_the_cases(cases: Path) -> None:
    trace = load(cases / "bare_na_value.json")
    assert [trace.spans.names[code] for code in trace.spans.name[trace.activities]][-1] == "k2"
    assert (trace.read_report.repairs, int((trace.launch >= 0).sum())) == ({"not_a_number": 1}, 2)
    assert finding(trace, "not_a_number").count == 1
