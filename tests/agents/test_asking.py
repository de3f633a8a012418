"""The tool that asks in SQL: one SELECT on the tables alone, in a process that takes no more than it may."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="needs the extra scale")

from gemma_trace import cli
from gemma_trace.agents import asking, sql_child
from gemma_trace.agents.asking import MOST_ROWS
from gemma_trace.agents.catalog import call
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.sql_child import LONGEST_CELL, AgentLimits, Order, answered
from gemma_trace.errors import InputError
from tests.agents.conftest import desk_of
from tests.agents.test_tools import asked, refusal, rows_of
from tests.conftest import ROOT
from tests.store.traces import built


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries run in this process, which takes less time."""
    monkeypatch.setattr(asking, "_asked", lambda order: json.loads(json.dumps(answered(order))))


@pytest.mark.usefixtures("here")
def test_a_result_is_paged_by_its_numbered_rows(small: Desk) -> None:
    query = "SELECT range AS n, 'x' || range AS name, range / 3 AS third FROM range(50)"
    first = asked(small, "sql", path="a", query=query)
    assert first["data"]["columns"] == ["key", "n", "name", "third"]
    assert first["data"]["rows"][4] == ["5", 4, "x4", 1.333]
    second = asked(small, "sql", path="a", query=query, cursor=first["next_cursor"], max_rows=100)
    assert [row["n"] for row in rows_of(first) + rows_of(second)] == list(range(50))
    (late,) = rows_of(asked(small, "sql", path="a", query="SELECT 1753000000123456789 AS at_ns"))
    assert late["at_ns"] == 1753000000123456789, "to the nanosecond"


@pytest.mark.usefixtures("here")
def test_of_a_huge_result_the_first_rows_can_be_paged_through(small: Desk) -> None:
    query = "SELECT range AS n, repeat('ab', 1_000) AS text FROM range(5_000)"
    answer = asked(small, "sql", path="a", query=query)
    assert answer["data"]["facts"] == {"rows_of_result": 5_000}
    assert answer["rows_total"] == MOST_ROWS
    assert any("LIMIT" in note for note in answer["data"]["notes"])
    assert len(rows_of(answer)[0]["text"]) <= 120


@pytest.mark.usefixtures("here")
def test_values_of_any_kind_are_numbers_texts_or_nothing(small: Desk) -> None:
    query = (
        "SELECT NULL AS a, true AS b, 1e400::DOUBLE AS c, DATE '2026-01-02' AS d, [1, 2] AS e, {'x': 1} AS f, "
        "'\\x00'::BLOB AS g, 170141183460469231731687303715884105727::HUGEINT AS h, "
        "E'a\\x1b[2J' AS i, 'nan'::FLOAT AS j"
    ).replace("1e400::DOUBLE", "'inf'::DOUBLE")
    (row,) = rows_of(asked(small, "sql", path="a", query=query))
    assert (row["a"], row["b"], row["c"], row["j"]) == (None, True, None, None)
    assert (row["d"], row["e"], row["f"]) == ("2026-01-02", "[1, 2]", "{'x': 1}")
    assert row["i"] == "a\ufffd[2J"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_parquet('https://127.0.0.1:9/x.parquet')",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "PRAGMA database_list; SELECT 1",
        "SELECT getenv('HOME')",
        "CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELEKT",
        "SELECT nothing FROM spans",
        "SELECT * FROM nothing",
        "SELECT " + "(" * 600 + "1" + ")" * 600,
    ],
)
def test_all_but_one_select_on_the_tables_is_refused(small: Desk, query: str) -> None:
    line = refusal(small, "sql", path="a", query=query)
    assert "root:" not in line
    assert len(line) <= 400
    assert "--schema" not in line, "what is said is for an agent"


def test_what_a_query_may_take_ends_with_its_process(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LIMITS", AgentLimits(timeout_s=0.3, memory_bytes=100_000_000))
    query = "SELECT sum(a.range * b.range) FROM range(1_000_000) a, range(1_000_000) b"
    assert refusal(small, "sql", path="a", query=query) == "the query took longer than 0.3 s; ask for less"
    assert asked(small, "check", path="a"), "the server goes on"


def test_a_process_that_is_killed_is_an_error_of_one_line(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PATIENCE_S", 0.0)
    assert "ask for less" in refusal(small, "sql", path="a", query="SELECT 1")


def test_the_process_ends_when_its_input_does(tmp_path: Path) -> None:
    import pickle

    path = built(tmp_path / "a.json")
    endless = "SELECT sum(a.range * b.range) FROM range(10_000_000) a, range(10_000_000) b"
    limits = AgentLimits(timeout_s=600, memory_bytes=10**9)
    text = pickle.dumps(Order(None, [path], (), endless, limits, 10, is_job=False, cached=False))
    command = [sys.executable, "-P", "-m", "gemma_trace.agents.sql_child"]
    with subprocess.Popen(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        process.stdin.write(sql_child.LENGTH.pack(len(text)) + text)
        process.stdin.flush()
        time.sleep(0.2)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(60) == 1


@pytest.mark.usefixtures("here")
def test_without_a_query_tables_and_columns_are_listed(small: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = asked(small, "sql", path="a", cursor=cursor, max_rows=1_000)
        found += rows_of(answer)
        cursor = answer["next_cursor"]
    assert cli.main(["sql", "--schema", str(small.roots.path("a")), "--format", "json"]) == 0
    theirs = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["table"], row["column"]) for row in found] == [(row["table"], row["column"]) for row in theirs]
    assert len({row["key"] for row in found}) == len(found)


@pytest.mark.usefixtures("here")
def test_a_folder_and_a_store_are_asked_too(small: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of(asked(small, "sql", path=".", query="SELECT run, max(dur_ns) AS ns FROM activities GROUP BY run"))
    assert {row["ns"] for row in rows} == {100, 180}
    assert cli.main(["index", str(tmp_path / "root"), "--to", str(tmp_path / "stores" / "s"), "--quiet"]) == 0
    desk = desk_of(tmp_path / "stores")
    (row,) = rows_of(asked(desk, "sql", path="s", query="SELECT count(*) AS n FROM runs"))
    assert row["n"] == 2
    found = sorted((tmp_path / "stores" / "s").rglob("*.parquet"))[0]
    copy = tmp_path / "outside.parquet"
    found.rename(copy)
    found.symlink_to(copy)
    assert "links to files outside" in refusal(desk, "sql", path="s", query="SELECT count(*) AS n FROM runs")


def test_a_long_cell_is_cut_before_it_is_passed_on(tmp_path: Path) -> None:
    order = Order(
        None, [built(tmp_path / "a.json")], (), "SELECT repeat('a', 9_999) AS t", asking.LIMITS, 5, False, False
    )
    ((text,),) = answered(order)["rows"]
    assert len(text) == LONGEST_CELL + 1
    with pytest.raises(InputError, match="DELETE"):
        answered(replace(order, sql="DELETE FROM spans"))


def test_the_extra_is_named_where_duckdb_is_missing(small: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_asked", lambda order: answered(order))
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert 'pip install "gemma-trace[scale]"' in refusal(small, "sql", path="a", query="SELECT 1")
    assert call(small, "stages", {"path": "a"})
