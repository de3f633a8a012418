from __future__ import annotations

from pathlib import Path

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.critical_path import critical_path
from gemma_trace.analysis.timeline import first_token_ns
from gemma_trace.report.tables.critical_path import critical_path_data, critical_path_table
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder


def test_the_records_add_up_to_wall_and_ttft() -> None:
    trace = real_trace(next((SAMPLES / "sample-tiny-cpu-pil").glob("*.json.gz")))
    requests = trace.requests
    first = [first_token_ns(trace, request) for request in requests]
    records = critical_path_data([critical_path(trace, request) for request in requests], first).records()
    for request, ttft_ns in zip(requests, breakdown(trace).ttfts_ns, strict=True):
        mine = [record for record in records if record["request"] == request.index]
        assert sum(record["path_ns"] for record in mine) == request.wall_ns
        assert all(
            record["path_ns"] == sum(record[f"{kind}_ns"] for kind in ("host", "launch", "device", "gap", "sync"))
            for record in mine
        )
        assert sum(record["to_first_token_ns"] for record in mine if record["stage"] != "image_load") == ttft_ns


def test_the_table_by_hand(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000_000).launch(1, 1_000_000).kernel("k", 1_005_000, 7_000_000)
    built.events[-1]["args"]["correlation"] = 1
    trace = built.span("cuda_runtime", "cudaDeviceSynchronize", 1_500_000, 6_600_000).load(tmp_path)
    (request,) = trace.requests
    section = critical_path_table([critical_path(trace, request)], [None]).as_text()
    headers = [column.header for column in section.columns]
    assert headers == ["stage", "path ms", "%", "host ms", "launch ms", "device ms", "sync ms"], "there is no gap"
    assert section.rows == (("unattributed", "10.00", "100.0", "2.900", "0.005", "7.000", "0.095"),)
    (note,) = section.notes
    assert "sync: a call returns after what it waited for." in note
    assert "gap:" not in note


def test_a_path_of_one_kind_is_not_split_by_kind(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 10_000_000).range("prefill", 1_000_000, 4_000_000).load(tmp_path)
    (request,) = trace.requests
    section = critical_path_table([critical_path(trace, request)], [None]).as_text()
    assert [column.header for column in section.columns] == ["stage", "path ms", "%"]
    assert section.rows == (("prefill", "4.000", "40.0"), ("unattributed", "6.000", "60.0"))
    assert section.notes == (
        "The chain of work that determines how long the requests take; it adds up to the wall time.",
    )
