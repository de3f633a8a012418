from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.metadata import Environment, RunIdentity, RunMetadata, Workload
from gemma_trace.trace.trace import Trace, load
from tests.trace_builder import TraceBuilder, decimal_us

METADATA = RunMetadata(
    schema_version=1,
    created_utc="2025-01-01T00:00:00Z",
    run=RunIdentity("run", "tiny", "pretrained", "float32", "cpu", "torchvision"),
    workload=Workload(("64x64",), (10,), 3),
    environment=Environment("1", "3.11", "2.9", None, "5.17", "linux", "cpu", 4, 2**30, 4, "cpu"),
    config={"warmup": 1},
)


def found(trace: Trace) -> list[tuple[str, str, int]]:
    return [(finding.code, finding.severity.value, finding.count) for finding in examine(trace).findings]


def written(folder: Path, data: bytes) -> Trace:
    path = folder / "trace.json"
    path.write_bytes(data)
    return load(path)


def mended(folder: Path, old: bytes, new: bytes) -> Trace:
    """A sound trace in which something is replaced."""
    data = TraceBuilder().op("aten::mm", 0, 5000).op("victim", 9000, 77000).json()
    assert data.count(old) == 1
    return written(folder, data.replace(old, new))


def finding(severity: Severity) -> Finding:
    return Finding("code", severity, 1, "message", "advice")


def test_a_sound_trace_has_no_finding(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).launch(1, 10).kernel("gemm", 20, 5, correlation=1)
    health = examine(built.metadata(METADATA).load(tmp_path))
    assert health == Health(())
    assert health.verdict == "ok"


@pytest.mark.parametrize(
    ("old", "new", "expected", "verdict"),
    [
        (b"victim", b"vic\x01tim", ("control_characters", "info", 1), "ok"),
        (b"victim", rb"vic\tim\q\d", ("broken_escapes", "info", 2), "ok"),
        (b"victim", b"vic\xff\xfetim", ("bad_utf8", "info", 2), "ok"),
        (b'"dur": 77.000', b'"dur": 77.000, "x": NaN', ("not_a_number", "warning", 1), "warning"),
        (b'"dur": 77.000', b'"dur": "77.000"', ("text_numbers", "info", 1), "ok"),
        (b'"dur": 77.000', b'"dur": -77.000', ("negative_durations", "warning", 1), "warning"),
        (b'"dur": 77.000', b'"x": 1', ("missing_durations", "warning", 1), "warning"),
        (b'"ts": 9.000', b'"x": 9', ("undecodable_events", "error", 1), "error"),
        (b'"victim"', b"victim", ("bare_values", "warning", 1), "warning"),
        (b'"dur": 77.000', b'"dur": 77.000,', ("stray_commas", "info", 1), "ok"),
        (b'"victim"', b'{"victim"}', ("undecodable_events", "error", 1), "error"),
        (b'"schemaVersion": 1', b'"schemaVersion" 1', ("unreadable_header", "warning", 1), "warning"),
    ],
)
def test_each_repair_is_a_finding(
    tmp_path: Path, old: bytes, new: bytes, expected: tuple[str, str, int], verdict: str
) -> None:
    trace = mended(tmp_path, old, new)
    assert found(trace) == [expected]
    assert examine(trace).verdict == verdict


@pytest.mark.parametrize(("phase", "code"), [("B", "unpaired_begins"), ("E", "unpaired_ends")])
def test_a_mark_without_its_other_half_is_a_warning(tmp_path: Path, phase: str, code: str) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5).raw(ph=phase, name="x", pid=1, tid=1, ts=decimal_us(3))
    trace = built.load(tmp_path)
    assert found(trace) == [(code, "warning", 1)]
    assert examine(trace).verdict == "warning"


def test_a_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    data = TraceBuilder().op("aten::mm", 0, 5).op("aten::add", 9, 5).json()
    trace = written(tmp_path, data[: data.rindex(b"}", 0, -5)])
    assert found(trace) == [("truncated", "error", 1)]
    assert examine(trace).verdict == "error"
    assert ": only 1 span could be read" in examine(trace).findings[0].message


def test_a_compressed_file_that_ends_early_is_an_error(tmp_path: Path) -> None:
    trace = written(tmp_path, gzip.compress(TraceBuilder().op("aten::mm", 0, 5).json())[:-4])
    assert found(trace) == [("truncated", "error", 1)]


def test_damaged_compression_is_an_error(tmp_path: Path) -> None:
    # The first member of the file is whole, the second isn't gzip but for its first bytes.
    data = gzip.compress(TraceBuilder().op("aten::mm", 0, 5).json()) + b"\x1f\x8b" + bytes([99] * 50)
    trace = written(tmp_path, data)
    assert found(trace) == [("damaged", "error", 1)]
    assert examine(trace).verdict == "error"


def test_crossing_spans_are_worth_knowing(tmp_path: Path) -> None:
    # The second and the fourth cross the end of the one before; both are spans of which Perfetto shows nothing.
    built = TraceBuilder().op("a", 0, 10).op("b", 5, 10).op("c", 20, 10).op("d", 29, 10)
    trace = built.load(tmp_path)
    assert found(trace) == [("crossing_spans", "info", 2), ("dropped_by_perfetto", "info", 2)]
    assert examine(trace).verdict == "ok"


def test_activities_that_overlap_on_a_stream_are_a_warning(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).kernel("a", 10_000, 10_000, correlation=1)
    trace = built.kernel("b", 15_000, 10_000, correlation=1).kernel("c", 25_000, 5, correlation=1).load(tmp_path)
    assert ("overlaps_on_a_stream", "warning", 1) in found(trace)
    assert "by 0.005 ms together" in examine(trace).findings[0].message
    assert not any(code == "crossing_spans" for code, _, _ in found(trace))


def test_activities_that_overlap_on_two_streams_are_sound(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).kernel("a", 10, 10, correlation=1)
    assert found(built.kernel("b", 15, 10, correlation=1, stream=8).load(tmp_path)) == []


def test_unlinked_activities_are_a_warning_with_their_share(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).kernel("a", 10, 60, correlation=1)
    trace = built.kernel("b", 100, 30, correlation=2).kernel("c", 200, 10, correlation=0).load(tmp_path)
    assert found(trace) == [("unlinked_activities", "warning", 2)]
    message = examine(trace).findings[0].message
    assert "2 of 3 (40.0% of device time)" in message


def test_activities_launched_outside_of_all_stages_are_worth_knowing(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).launch(1, 10).launch(2, 110)
    trace = built.kernel("in", 120, 30, correlation=1).kernel("out", 160, 10, correlation=2).load(tmp_path)
    assert found(trace) == [("launched_outside_stages", "info", 1)]
    assert "(25.0% of device time)" in examine(trace).findings[0].message


def test_replays_of_a_graph_are_worth_knowing(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).launch(2, 10, name="cudaGraphLaunch").kernel("a", 20, 5, correlation=1)
    trace = built.kernel("b", 30, 5, correlation=2).kernel("c", 40, 5, correlation=2).load(tmp_path)
    assert found(trace) == [("graph_replays", "info", 2)]
    message = examine(trace).findings[0].message
    assert "2 of 3, each replay as a whole for the stage that launched it" in message


def test_an_activity_before_its_launch_is_a_warning(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 10).launch(2, 20).kernel("a", 9, 1, correlation=1)
    assert found(built.kernel("b", 20, 5, correlation=2).load(tmp_path)) == [("activities_before_launch", "warning", 1)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([100, 100, 100], []),
        ([100, 149, 150], []),
        ([200, 100, 100], [("uneven_steps", "warning", 3)]),
        ([201, 100, 100], [("slow_first_step", "warning", 1)]),
        ([100, 100, 151], [("uneven_steps", "warning", 3)]),
        ([900, 100], []),
    ],
)
def test_steps_that_differ_much_are_a_warning(
    tmp_path: Path, lengths: list[int], expected: list[tuple[str, str, int]]
) -> None:
    built = TraceBuilder()
    for index, length in enumerate(lengths):
        built.span("user_annotation", f"ProfilerStep#{index}", 1000 * index, length)
    assert found(built.load(tmp_path)) == expected


def test_negative_thread_ids_are_worth_knowing(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 5, tid=-7).op("b", 9, 5, tid=-7).op("c", 9, 5, tid=-8).op("d", 0, 5)
    assert found(built.load(tmp_path)) == [("negative_thread_ids", "info", 2)]


def test_unlinked_activities_without_length_have_no_share(tmp_path: Path) -> None:
    trace = TraceBuilder().op("a", 0, 5).kernel("b", 100, 0, correlation=2).load(tmp_path)
    assert "(0.0% of device time)" in examine(trace).findings[0].message


def test_what_the_capture_had_to_say_is_a_warning_each(tmp_path: Path) -> None:
    metadata = replace(METADATA, warnings=("no device activity", "the clock was throttled"))
    trace = TraceBuilder().op("a", 0, 5).metadata(metadata).load(tmp_path)
    assert found(trace) == [("capture_warning", "warning", 1), ("capture_warning", "warning", 1)]
    assert [each.message for each in examine(trace).findings] == ["no device activity", "the clock was throttled"]


@pytest.mark.parametrize(("warmup", "expected"), [(0, [("no_warmup", "warning", 1)]), (1, []), (10, [])])
def test_a_capture_without_warmup_is_a_warning(tmp_path: Path, warmup: int, expected: list[Any]) -> None:
    trace = TraceBuilder().op("a", 0, 5).metadata(replace(METADATA, config={"warmup": warmup})).load(tmp_path)
    assert found(trace) == expected


def test_the_worst_findings_come_first(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 10).op("b", 5, 10).kernel("c", 20, 5, correlation=9)
    built.raw(ph="X", name="no time", pid=1, tid=1)
    trace = built.load(tmp_path)
    assert found(trace) == [
        ("undecodable_events", "error", 1),
        ("unlinked_activities", "warning", 1),
        ("crossing_spans", "info", 1),
        ("dropped_by_perfetto", "info", 1),
    ]


@pytest.mark.parametrize(
    ("severities", "verdict"),
    [
        ([], "ok"),
        ([Severity.INFO], "ok"),
        ([Severity.INFO, Severity.WARNING], "warning"),
        ([Severity.WARNING, Severity.ERROR, Severity.INFO], "error"),
    ],
)
def test_the_verdict_is_the_worst_severity(severities: list[Severity], verdict: str) -> None:
    assert Health(tuple(map(finding, severities))).verdict == verdict


def test_every_finding_says_what_to_do_in_one_line(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 10).op("b", 5, 10).kernel("c", 20, 5, correlation=9)
    findings = examine(built.raw(ph="X", name="no time", pid=1, tid=1).load(tmp_path)).findings
    assert len(findings) == 4
    for each in findings:
        assert each.message
        assert each.advice
        assert "\n" not in each.message + each.advice


def test_random_weights_are_worth_knowing_in_every_table(tmp_path: Path) -> None:
    metadata = replace(METADATA, run=replace(METADATA.run, model="27b", weights="random"))
    trace = TraceBuilder().op("a", 0, 5).metadata(metadata).load(tmp_path)
    assert found(trace) == [("random_weights", "info", 1)]
    assert examine(trace).verdict == "ok"
    assert examine(trace).findings[0].message == "the weights of 27b are random"
