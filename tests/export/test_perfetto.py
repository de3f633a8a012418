"""Perfetto's own engine loses nothing of what we export, and finds our figures in it by SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.export.viewer import export_trace
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, SHARED, quick_first, real_trace
from tests.trace_builder import TraceBuilder

Perfetto = Callable[..., list[list[dict[str, Any]]]]

CORPUS = sorted((SHARED / "corpus").glob("*.json.gz"))

STAGES = """
    select thread.name as track, slice.name as stage, sum(slice.dur) as sum_ns, sum(
        slice.dur - (select coalesce(sum(child.dur), 0) from slice child where child.parent_id = slice.id)) as self_ns
    from slice join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)
    where process.name = 'stages' group by 1, 2
"""
COUNTS = "select (select count(*) from slice) as slices, (select count(*) from flow) as flows"


def export_and_ask(perfetto: Perfetto, trace: Trace, folder: Path) -> list[list[dict[str, Any]]]:
    export_trace(trace, folder / "out.json.gz")
    return perfetto(folder / "out.json.gz", STAGES, COUNTS)


def holds_the_figures(trace: Trace, stages: list[dict[str, Any]]) -> None:
    """What `stages` prints is what the slices of the stage tracks add up to."""
    rows = breakdown(trace).summed()
    shown = {(row["track"], row["stage"]): row for row in stages}
    time = {stage: seen["sum_ns"] for (track, stage), seen in shown.items() if track == "time"}
    assert time == {row.stage: row.time_ns for row in rows if row.time_ns}
    device = {stage: seen["sum_ns"] for (track, stage), seen in shown.items() if track == "device"}
    assert device == {row.stage: row.device_ns for row in rows if row.device_ns}
    path = sum(seen["sum_ns"] for (track, _), seen in shown.items() if track == "critical path")
    assert path == (sum(row.time_ns for row in rows) if len(trace.activities) else 0)
    host: dict[str, int] = {}
    for (track, stage), seen in shown.items():
        if track.startswith("host"):
            host[stage] = host.get(stage, 0) + seen["self_ns"]
    for row in rows:
        if row.stage not in ("unattributed", "unlinked"):
            assert host.get(row.stage, 0) == row.host_ns


@pytest.mark.parametrize(
    "path",
    quick_first(sorted(SAMPLES.rglob("*.json.gz")), lambda path: "torchvision" in path.parent.name),
    ids=lambda path: path.parent.name,
)
def test_the_samples(perfetto: Perfetto, tmp_path: Path, path: Path) -> None:
    trace = real_trace(path)
    lost, stages, _ = export_and_ask(perfetto, trace, tmp_path)
    assert lost == []
    holds_the_figures(trace, stages)
    host = [row["stage"] for row in stages if row["track"] == "host"]
    assert {"request 0", "request 1", "vision_tower", "prefill", "decode"} <= set(host)


@pytest.mark.parametrize(
    "path",
    quick_first(CORPUS, lambda path: path.stat().st_size < 400_000),
    ids=lambda path: path.name.removesuffix(".json.gz"),
)
def test_the_corpus(perfetto: Perfetto, tmp_path: Path, path: Path) -> None:
    trace = real_trace(path)
    lost, stages, ((counts),) = export_and_ask(perfetto, trace, tmp_path)
    assert lost == []
    holds_the_figures(trace, stages)
    assert counts["slices"] >= len(trace.spans), "every span is a slice"
    _, ((as_it_was),) = perfetto(path, COUNTS)
    assert counts["flows"] == as_it_was["flows"], "every arrow is there"


def test_counters_of_the_trace_are_there(perfetto: Perfetto, tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 1000).kernel("gemm", 2000, 5000, correlation=1).counter("odd", 3000, "N/A")
    for at in range(0, 10_000, 1000):
        built.counter("SM Active %", at, at / 100).counter("SM Active %", at, 7, pid=9)
        built.counter("DRAM", at, {"read": "1.5", "write": 2, "note": "x"}, tid=5)
    export_trace(built.load(tmp_path), tmp_path / "out.json.gz")
    lost, found, threads = perfetto(
        tmp_path / "out.json.gz",
        "select name, count(*) as n, sum(value) as total, min(ts) as first, max(ts) as last from counter "
        "join counter_track on counter.track_id = counter_track.id where name not like 'device %' group by track_id",
        "select count(*) as n from thread where name in ('thread', 'stream 5', 'thread 5')",
    )
    assert lost == []
    assert sorted(tuple(row.values()) for row in found) == [
        ("DRAM read", 10, 15.0, 0, 9000),
        ("DRAM write", 10, 20.0, 0, 9000),
        ("SM Active % value", 10, 70.0, 0, 9000),
        ("SM Active % value", 10, 450.0, 0, 9000),
    ]
    assert threads == [{"n": 0}], "a counter is its process's"
