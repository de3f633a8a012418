"""Each example of analysis/docs/sql.md runs, and finds something."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.store.store import Store
from tests.conftest import ROOT
from tests.store.traces import built

EXAMPLES = re.findall(r"```sql\n-- on (.*)\n((?:.+\n)+)```", (ROOT / "analysis" / "docs" / "sql.md").read_text())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("examples")
    traces = [built(folder / "traces" / f"{mark}.json.gz", mark) for mark in range(2)]
    Store(folder / "store").index(folder / "traces", jobs=1)
    return {"a trace": traces[0], "several traces": folder / "traces", "a store": folder / "store"}


def test_there_are_examples_of_each_kind() -> None:
    assert {on for on, _ in EXAMPLES} == {"a trace", "several traces", "a store"}


@pytest.mark.parametrize(("on", "sql"), EXAMPLES)
def test_an_example_finds_something(
    on: str, sql: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sql", sql, str(places[on]), "-f", "csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert "," in header
    assert rows
    assert rows[0].replace(",", "")
