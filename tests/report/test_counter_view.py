"""Counters under `stages`, in all formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.counter_means import CounterMean, CounterUse
from gemma_trace.report.tables.counters import MOST_ROWS, counter_table
from tests.report.test_definitions import defined, keys_of
from tests.trace_builder import TraceBuilder


def use(name: str, source: str, mean: float | None, known_ns: int) -> CounterUse:
    found = CounterMean(mean, mean, mean, known_ns, 200)
    return CounterUse(name, source, 3, found, {"prefill": found})


def test_a_row_a_series_and_a_column_a_stage() -> None:
    section = counter_table([use("SM", "device 0", 37.5, 100), use("DRAM", "device 0", None, 0)]).as_text()
    assert [column.header for column in section.columns] == ["counter", "all", "prefill", "known %"]
    assert section.rows == (("SM", "37.50", "37.50", "50.0"), ("DRAM", "–", "–", "0.0"))


def test_series_of_several_processes_say_whose_they_are() -> None:
    section = counter_table([use("SM", "device 0", 1.0, 200), use("SM", "device 1", 2.0, 200)]).as_text()
    assert [row[:3] for row in section.rows] == [("SM", "device 0", "1.000"), ("SM", "device 1", "2.000")]


def test_a_long_table_ends() -> None:
    section = counter_table([use(str(number), "", 1.0, 200) for number in range(MOST_ROWS + 2)]).as_text()
    assert len(section.rows) == MOST_ROWS
    assert section.notes[-1] == "2 more series are in JSON."


@pytest.fixture
def counted(tmp_path: Path) -> str:
    built = TraceBuilder().range("request", 0, 100_000).range("prefill", 0, 100_000)
    built.counter("SM Active %", 0, 25).counter("SM Active %", 50_000, 75)
    return str(built.write(tmp_path / "counted.json"))


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_people_get_a_table(counted: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stages", counted, "--format", form]) == 0
    printed = capsys.readouterr().out
    assert "Counters" in printed
    (row,) = [line for line in printed.splitlines() if "SM Active %" in line and "50.00" in line]
    assert row.split()[-1 if form == "table" else -2] == "100.0"


def test_machines_get_all_of_it(counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stages", counted, "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["totals"]["counters"]
    known = {"mean": 50.0, "min": 25.0, "max": 75.0, "known_pct": 100.0}
    assert found == {
        "counter": "SM Active %",
        "of": "process 0",
        "samples": 2,
        **known,
        "stages": [{"stage": "prefill", **known}],
    }
    assert set(keys_of(found)) <= defined("stages")


def test_csv_keeps_to_the_stages(counted: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stages", counted, "--format", "csv"]) == 0
    assert "SM Active" not in capsys.readouterr().out
