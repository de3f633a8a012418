"""Kill -9 at counted moments of indexing and of compaction: run again, a store is as if nobody had killed anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemma_trace.cli import main
from tests.integration.test_kills import kills
from tests.store.traces import built, content_of, files_of


def test_a_store_that_was_killed_at_goes_on_where_it_was(quick_python: str, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    for mark in range(2):
        built(traces / f"{mark}.json", mark)
    index = ["index", str(traces), "--to", str(tmp_path / "store-OUTPUT"), "--jobs", "1"]
    jobs: list[dict[str, Any]] = [{"name": "index", "kills": 4, "command": [*index, "--compact"]}]
    found = kills(tmp_path, jobs, quick_python)
    assert [kill.killed for kill in found] == [True] * 4
    wanted = content_of(tmp_path / "store-whole")
    for kill in found:
        store = tmp_path / f"store-{kill.output}"
        partly = content_of(store)
        runs = {row["run_id"] for row in partly["runs"]}
        for table, rows in partly.items():
            assert [row for row in rows if row["run_id"] in runs] == rows, kill
            assert [row for row in wanted[table] if row["run_id"] in runs] == rows, kill
        again = ["index", str(traces), "--to", str(store), "--jobs", "1"]
        assert main(again) == 0
        assert content_of(store) == wanted, kill
        assert main([*again, "--compact"]) == 0
        assert content_of(store) == wanted, kill
        assert [name for name in files_of(store) if "/part-" not in name and name.endswith(".parquet")] == [], kill
    assert not list(tmp_path.rglob("*.partial"))
