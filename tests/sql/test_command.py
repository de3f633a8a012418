from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.errors import InputError
from gemma_trace.sql.engine import query
from gemma_trace.sql.limits import Limits
from gemma_trace.sql.sources import StoreSource, TraceSource
from gemma_trace.store.store import Store
from gemma_trace.trace.trace import load
from tests.conftest import HUNG_S, ROOT
from tests.store.traces import built
from tests.trace_builder import TraceBuilder


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return built(tmp_path / "run.json.gz")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of four runs: three in parts, one small."""
    folder = tmp_path / "traces"
    folder.mkdir()
    for mark in range(3):
        built(folder / f"{mark}.json.gz", mark)
    made = Store(tmp_path / "store")
    made.index(folder, jobs=1)
    made.compact()
    made.index(built(folder / "3.json.gz", 3), jobs=1)
    return tmp_path / "store"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_format_has_the_rows(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT stage, sum(dur_ns) AS sum_ns FROM activities GROUP BY stage ORDER BY sum_ns DESC"
    rows = [
        {"stage": "prefill", "sum_ns": 160},
        {"stage": "vision_tower", "sum_ns": 100},
        {"stage": "decode", "sum_ns": 20},
    ]
    code, out, _ = run(capsys, "sql", sql, trace, "--format", "json")
    found = json.loads(out)
    assert (code, found["schema_version"], found["rows"]) == (0, 1, rows)
    assert run(capsys, "sql", sql, trace, "--format", "csv")[1].splitlines()[:2] == ["stage,sum_ns", "prefill,160"]
    assert "| prefill" in run(capsys, "sql", sql, trace, "--format", "markdown")[1]
    assert "prefill" in run(capsys, "sql", sql, trace)[1]
    assert run(capsys, "sql", sql, trace, "-o", tmp_path / "x.parquet")[0] == 0
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == rows


def test_the_trace_may_come_first(
    trace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT name FROM activities ORDER BY span"
    expected = run(capsys, "sql", sql, trace, "--format", "csv")
    assert expected[0] == 0
    assert run(capsys, "sql", trace, sql, "--format", "csv") == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(sql))
    assert run(capsys, "sql", trace, "-", "--format", "csv") == expected
    assert "gone.json" in run(capsys, "sql", "gone.json", sql)[2]
    assert run(capsys, "sql", f"SELECT '{'x' * 5000}' AS x", trace)[0] == 0, "no name of a file is that long"


def test_the_sql_may_be_in_a_file_or_on_stdin(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    file = tmp_path / "q.sql"
    file.write_text("-- how many\nSELECT count(*) AS n FROM activities;\n")
    assert run(capsys, "sql", "--file", file, trace, "-f", "csv")[1].splitlines() == ["n", "5"]
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT count(*) AS n FROM launches"))
    assert run(capsys, "sql", "-", trace, "-f", "csv")[1].splitlines() == ["n", "5"]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("COPY spans TO 'x.csv'", "COPY is refused"),
        ("ATTACH 'x.db'", "ATTACH is refused"),
        ("INSTALL httpfs", "is refused"),
        ("PRAGMA database_list", "PRAGMA is refused"),
        ("SET enable_external_access = true", "SET is refused"),
        ("CREATE TABLE x (i INT)", "CREATE is refused"),
        ("INSERT INTO spans SELECT * FROM spans", "INSERT is refused"),
        ("WITH x AS (INSERT INTO spans VALUES (1) RETURNING *) SELECT * FROM x", "check the SQL"),
        ("EXPLAIN ANALYZE CREATE TABLE x (i INT)", "EXPLAIN is refused"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "no statements"),
        ("SELEC", "syntax error"),
        ("SELECT * FROM read_csv('{file}')", "disabled"),
        ("SELECT * FROM read_text('{file}')", "disabled"),
        ("SELECT * FROM glob('/*')", "disabled"),
        ("SELECT * FROM read_parquet('http://127.0.0.1:9/x')", "disabled"),
        ("SELECT * FROM '{file}'", "disabled"),
        ("SELECT * FROM query('COPY spans TO ''x''')", "single SELECT"),
        ("SELECT getenv('HOME')", "does not exist"),
        ("SELECT * FROM local_table", "does not exist"),
        ("SELECT nothing FROM spans", "gemma-trace sql --schema"),
        ("SELECT \ud800", "UTF-8"),
        ("SELECT " + "(" * 5000, "check the SQL"),
        ("SELECT error('\x1b[2J')", r"\x1b[2J"),
    ],
)
def test_what_is_no_select_on_the_tables_is_refused_in_one_line(
    sql: str,
    said: str,
    trace: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    local_table = [1]  # DuckDB would find a variable of Python's by its name
    code, out, err = run(capsys, "sql", sql.format(file=trace) if "{file}" in sql else sql, trace)
    assert (code, out, err.count("\n"), len(local_table)) == (1, "", 1, 1)
    assert said in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json.gz"]


@pytest.mark.parametrize(
    ("sql", "limits", "said"),
    [
        (
            "WITH RECURSIVE r AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM r) SELECT * FROM r",
            (0.3, 10**9),
            "longer than",
        ),
        (
            "SELECT count(*) FROM range(10**9::BIGINT) a, range(10**9::BIGINT) b WHERE a.range + b.range = 7",
            (0.3, 10**9),
            "longer than",
        ),
        ("SELECT * FROM range(10**12::BIGINT)", (60, 10**7), "more than 10 MB"),
        ("SELECT list(range) FROM range(10**9::BIGINT)", (60, 5 * 10**7), "more than 50 MB"),
    ],
)
def test_a_query_over_its_limits_ends(sql: str, limits: tuple[float, int], said: str, trace: Path) -> None:
    with pytest.raises(InputError, match=said):
        query(
            TraceSource(load(trace)),
            sql.replace("10**9::BIGINT", "1000000000").replace("10**12::BIGINT", "1000000000000"),
            Limits(*limits),
        )


def test_a_function_that_does_not_listen_ends_with_the_program(trace: Path) -> None:
    command = [sys.executable, "-m", "gemma_trace", "sql", "SELECT list_sum(range(1000000000))", str(trace)]
    done = subprocess.run(
        [*command, "--memory-limit", "50MB"], cwd=ROOT, capture_output=True, text=True, timeout=HUNG_S
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "more than 50 MB of memory" in done.stderr


def test_traces_of_a_folder_have_a_run_and_a_broken_one_costs_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        built(tmp_path / f"{name}.json.gz", timed=False)
    TraceBuilder().op("aten::other", 0, 7).write(tmp_path / "c.json.gz")
    (tmp_path / "d.json.gz").write_bytes(b"no trace")
    code, out, err = run(
        capsys, "sql", "SELECT run, name, sum(dur_ns) AS s FROM ops GROUP BY ALL ORDER BY ALL", tmp_path, "-f", "csv"
    )
    assert code == 0
    assert out.splitlines()[1:4] == ["a,aten::conv,15", "a,aten::gemm,45", "a,aten::softmax,15"]
    assert out.splitlines()[-1] == "c,aten::other,7"
    assert "d.json.gz" in err


def test_traces_of_a_job_have_a_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(2):
        trace = TraceBuilder().op("aten::mm", 0, 10 + rank)
        trace.header["distributedInfo"] = {"rank": rank, "world_size": 2}
        trace.write(tmp_path / f"rank{rank}.json.gz")
    _, out, _ = run(capsys, "sql", "SELECT rank, dur_ns FROM ops ORDER BY rank", tmp_path, "-f", "csv")
    assert out.splitlines() == ["rank,dur_ns", "0,10", "1,11"]


def test_a_stores_tables_have_the_rows_that_count(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT sum_ns FROM kernels JOIN runs USING (run_id, day) WHERE kernel = 'conv' AND day > '2000' ORDER BY 1"
    code, out, _ = run(capsys, "sql", sql, store, "-f", "csv")
    assert (code, out.split()) == (0, ["sum_ns", "100", "101", "102", "103"])
    assert Store(store).sql("SELECT count(*) AS n, min(ttft_ns) AS t FROM runs").values.tolist() == [[4, 510]]
    assert Store(store).sql("FROM failures").empty


def test_a_store_may_lie_behind_a_url(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}-sql/store"
    store = Store(url)
    store.index(built(tmp_path / "run.json.gz"), jobs=1)
    for _ in range(2):
        assert store.sql("SELECT sum_ns FROM kernels WHERE kernel = 'conv'").values.tolist() == [[100]]
        store.compact()


def test_files_that_a_compaction_takes_away_are_listed_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = StoreSource(store)
    opened = source.opened
    calls: list[list[str]] = []

    def opened_then_compacted(names: list[str]) -> object:
        found = opened(names)
        if not calls:
            Store(store).compact()
        calls.append(names)
        return found

    monkeypatch.setattr(source, "opened", opened_then_compacted)
    assert query(source, "SELECT count(*) AS n FROM stages WHERE stage = 'prefill'").to_pylist() == [{"n": 4}]
    assert len(calls) == 2


def test_without_the_extra_a_line_names_it(
    trace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    code, out, err = run(capsys, "sql", "SELECT 1", trace)
    assert (code, out) == (1, "")
    assert err == 'gemma-trace: duckdb is not installed; run: pip install "gemma-trace[scale]"\n'


def test_the_schema_of_what_is_given(trace: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, table, column in ((trace, "activities", "launch_span"), (store, "runs", "run_id")):
        _, out, _ = run(capsys, "sql", "--schema", path, "-f", "json")
        rows = json.loads(out)["rows"]
        assert all(row["definition"] for row in rows)
        assert (table, column) in {(row["table"], row["column"]) for row in rows}
    assert run(capsys, "sql", "--schema")[1].count("trace: activities") == 2


@pytest.mark.parametrize(
    "arguments", [("SELECT 1",), (), ("SELECT 1", ".", "--timeout", "0"), ("SELECT 1", ".", "--memory-limit", "1")]
)
def test_options_that_make_no_sense_are_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "sql", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
