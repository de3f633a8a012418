from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pyarrow.parquet as pq

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.report.files import to_csv, to_json, to_parquet
from gemma_trace.report.model import Report

REPORT = Report(
    "summarize",
    ["traces/"],
    (),
    [{"run": "a", "ttft_ms": Distribution((1.0, 3.0), "ms")}, {"run": 'b "quoted", comma', "ttft_ms": None}],
    {"runs": 2},
    Health((Finding("x", Severity.WARNING, 3, "m", "a"),)),
)


def test_json_has_the_keys_of_the_schema() -> None:
    found = json.loads(to_json(REPORT))
    assert list(found) == ["schema_version", "command", "source", "rows", "totals", "health"]
    assert found["schema_version"] == 1
    assert found["rows"][0]["ttft_ms"]["values"] == [1.0, 3.0]
    assert found["rows"][1]["ttft_ms"] is None
    assert found["health"] == {
        "verdict": "warning",
        "findings": [{"code": "x", "severity": "warning", "count": 3, "message": "m", "advice": "a"}],
    }


def test_csv_has_a_column_a_statistic_and_empty_cells_where_there_is_none() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(REPORT))))
    assert [row["run"] for row in rows] == ["a", 'b "quoted", comma']
    assert [row["ttft_ms_median"] for row in rows] == ["2.0", ""]
    assert rows[0]["ttft_ms_n"] == "2"


def test_parquet_holds_what_csv_holds() -> None:
    table = pq.read_table(io.BytesIO(to_parquet(REPORT)))
    assert table.column("ttft_ms_median").to_pylist() == [2.0, None]
    assert table.column("ttft_ms_n").to_pylist() == [2, None]


def test_random_weights_are_marked_in_flat_files_too() -> None:
    finding = Finding("random_weights", Severity.INFO, 1, "the weights are random", "a")
    marked = replace(REPORT, health=Health((finding,)))
    assert [row["weights"] for row in csv.DictReader(io.StringIO(to_csv(marked)))] == ["random", "random"]
    assert pq.read_table(io.BytesIO(to_parquet(marked))).column("weights").to_pylist() == ["random", "random"]
    assert "weights" not in to_csv(REPORT)
    named = replace(marked, records=[{"run": "a", "weights": "pretrained"}])
    assert next(csv.DictReader(io.StringIO(to_csv(named))))["weights"] == "pretrained"
