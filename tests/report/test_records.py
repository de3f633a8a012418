from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.report.records import to_csv, to_frame, to_json, to_parquet
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import MEASURE_MS


@dataclass(frozen=True)
class Run:
    run: str
    ttft: Distribution | None
    weights: str = "pretrained"


COLS = (Col("run"), Col("ttft_ms", "TTFT", MEASURE_MS, value="ttft"))
RUNS = (Run("a", Distribution((1.0, 3.0), "ms")), Run('b "quoted", comma', None))
HEALTH = Health((Finding("x", Severity.WARNING, 3, "m", "a"),))


def report_of(*rows: Run, cols: tuple[Col, ...] = COLS, totals: Any = None, health: Health = HEALTH) -> Report:
    return Report("summarize", ["traces/"], (), Table("T", cols, rows), totals or {"runs": 2}, health)


REPORT = report_of(*RUNS)


def test_json_has_the_keys_of_the_schema() -> None:
    found = json.loads(to_json(REPORT))
    assert list(found) == [
        *("schema_version", "command", "source", "rows_total", "rows_shown", "rows", "totals", "health"),
    ]
    assert found["schema_version"] == 1
    assert found["rows"][0]["ttft_ms"]["values"] == [1.0, 3.0]
    assert found["rows"][1]["ttft_ms"] is None
    assert found["health"] == {
        "verdict": "warning",
        "findings": [{"code": "x", "severity": "warning", "count": 3, "message": "m", "advice": "a"}],
    }


def test_a_table_among_the_totals_is_its_records_at_any_depth() -> None:
    inner = Table("T", COLS, RUNS[:1])
    found = json.loads(to_json(report_of(totals={"memory": {"devices": inner}, "runs": inner})))
    assert [row["run"] for row in found["totals"]["runs"]] == ["a"]
    assert found["totals"]["memory"]["devices"][0]["ttft_ms"]["median"] == 2.0


def test_a_cut_is_stated() -> None:
    whole, cut = REPORT, replace(REPORT, data=REPORT.data.cut(1))
    counts = [(found["rows_total"], found["rows_shown"]) for found in map(json.loads, map(to_json, (whole, cut)))]
    assert counts == [(2, 2), (2, 1)]
    metadata = pq.read_table(io.BytesIO(to_parquet(cut))).schema.metadata
    assert (metadata[b"rows_total"], metadata[b"rows_shown"]) == (b"2", b"1")


def test_csv_has_a_column_a_statistic_and_empty_cells_where_there_is_none() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(REPORT))))
    assert [row["run"] for row in rows] == ["a", 'b "quoted", comma']
    assert [row["ttft_ms_median"] for row in rows] == ["2.0", ""]
    assert rows[0]["ttft_ms_n"] == "2"


def test_parquet_and_a_frame_hold_what_csv_holds() -> None:
    table = pq.read_table(io.BytesIO(to_parquet(REPORT)))
    assert table.column("ttft_ms_median").to_pylist() == [2.0, None]
    assert table.column("ttft_ms_n").to_pylist() == [2, None]
    frame = to_frame(REPORT)
    assert list(frame.columns) == table.column_names == next(csv.reader(io.StringIO(to_csv(REPORT))))
    assert frame["ttft_ms_median"].iloc[0] == 2.0


def test_without_rows_there_are_still_columns() -> None:
    names = ["run", *(f"ttft_ms_{name}" for name in ("n", "median", "mean", "std", "min", "max", "q1", "q3"))]
    empty = report_of()
    assert list(csv.reader(io.StringIO(to_csv(empty)))) == [names]
    assert pq.read_table(io.BytesIO(to_parquet(empty))).column_names == names
    assert list(to_frame(empty).columns) == names


def test_random_weights_are_marked_in_flat_files_too() -> None:
    health = Health((Finding("random_weights", Severity.INFO, 1, "the weights are random", "a"),))
    marked = report_of(*RUNS, health=health)
    assert [row["weights"] for row in csv.DictReader(io.StringIO(to_csv(marked)))] == ["random", "random"]
    assert pq.read_table(io.BytesIO(to_parquet(marked))).column("weights").to_pylist() == ["random", "random"]
    assert "weights" not in to_csv(REPORT)
    named = report_of(RUNS[0], cols=(*COLS, Col("weights")), health=health)
    assert next(csv.DictReader(io.StringIO(to_csv(named))))["weights"] == "pretrained"
