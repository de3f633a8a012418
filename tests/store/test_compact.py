"""Compaction: fewer files with the same rows, whoever reads, writes or compacts meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import gemma_trace
from gemma_trace.errors import OutputError
from gemma_trace.store import compact as compacting
from gemma_trace.store import reading
from gemma_trace.store.compact import compact
from gemma_trace.store.indexing import Status, index_file, job_for
from gemma_trace.store.layout import contents, small_file
from gemma_trace.store.places import LocalPlace, Place, open_place
from gemma_trace.store.schema import TABLES, UNKNOWN_DAY
from tests.store.traces import built, content_of, files_of, run_ids

DAY = "2026-01-01"


def parts_of(store: Path, table: str) -> list[str]:
    return [name for name in files_of(store) if name.startswith(f"v1/{table}/") and "/part-" in name]


def small_of(store: Path) -> list[str]:
    return [name for name in files_of(store) if name.endswith(".parquet") and "/part-" not in name]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three traces of one day, and a failure."""
    traces = [built(tmp_path / "traces" / f"{mark}.json", mark) for mark in range(3)]
    (tmp_path / "traces" / "bad.json").write_text("{}")
    gemma_trace.Store(tmp_path / "store").index([*traces, tmp_path / "traces" / "bad.json"])
    return tmp_path / "store"


def test_rows_stay_and_small_files_go(store: Path) -> None:
    before, small = content_of(store), small_of(store)
    done = compact(store)
    assert content_of(store) == before
    assert small_of(store) == []
    assert (done.runs, done.days, done.removed_files) == (3, 2, len(small))
    assert [len(parts_of(store, table)) for table in ("runs", "stages", "failures", "memory")] == [1, 1, 1, 0]
    files = files_of(store)
    again = compact(store)
    assert (again.days, again.removed_files, files_of(store)) == (0, 0, files), "there is nothing to do"
    assert gemma_trace.Store(store).index(store.parent / "traces").counts == {Status.KNOWN: 3, Status.FAILED: 1}


def test_a_part_is_sorted_and_says_its_table(store: Path) -> None:
    import pyarrow.parquet as pq

    compact(store)
    (part,) = parts_of(store, "stages")
    found = pq.ParquetFile(store / part).read()
    assert found.schema.names == TABLES["stages"].keys
    assert found["run_id"].to_pylist() == sorted(found["run_id"].to_pylist())
    assert found.schema.metadata[b"gemma_trace_schema"] == b"1"


def test_what_comes_later_is_a_further_part_and_many_parts_are_merged(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacting, "MOST_PARTS", 3)
    compact(store)
    for mark in range(3, 6):
        before = parts_of(store, "stages")
        gemma_trace.Store(store).index(built(store.parent / "traces" / f"{mark}.json", mark))
        rows = content_of(store)
        compact(store)
        assert content_of(store) == rows
        kept = set(before) <= set(parts_of(store, "stages"))
        assert (len(parts_of(store, "stages")), kept) == ((mark - 1, True) if mark < 5 else (1, False))
    assert len(run_ids(store)) == 6
    assert [name for name in files_of(store) if name.startswith(f"v1/parts/{DAY}")] == [f"v1/parts/{DAY}.000004.json"]


def test_parts_have_a_size(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_of(store)
    monkeypatch.setattr(compacting, "PART_BYTES", 1)
    compact(store)
    assert len(parts_of(store, "runs")) == 3
    assert content_of(store) == before


def test_an_indexer_that_is_late_repeats_nothing(store: Path) -> None:
    before, trace = content_of(store), store.parent / "traces" / "0.json"
    late = job_for(store.parent / "new")
    compact(store)
    job = type(late)(str(store))  # it began before the others' traces were in
    assert index_file(job, trace).status is Status.INDEXED
    assert small_of(store)
    assert content_of(store) == before
    compact(store)
    assert small_of(store) == []
    assert content_of(store) == before


def test_a_trace_that_was_cut_off_is_neither_read_nor_compacted(store: Path) -> None:
    before = content_of(store)
    (run, *_) = sorted(contents(open_place(store)).small["runs"])
    (store / small_file("runs", DAY, run)).unlink()
    compact(store)
    assert {row["run_id"] for row in content_of(store)["stages"]} == run_ids(store)
    assert len(run_ids(store)) == 2
    gemma_trace.Store(store).index(store.parent / "traces")
    assert content_of(store) == before


def test_of_two_compactions_one_counts(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, create = content_of(store), LocalPlace.create

    def second(place: LocalPlace, name: str, data: bytes) -> bool:
        monkeypatch.setattr(LocalPlace, "create", create)
        assert compact(store).runs == 3
        return create(place, name, data)

    monkeypatch.setattr(LocalPlace, "create", second)
    done = compact(store)
    assert done.lost_days + done.days == 2
    assert done.lost_days >= 1
    assert content_of(store) == before
    assert len(parts_of(store, "runs")) == 1, "the parts of the other are gone"


def test_what_a_killed_compaction_left_is_cleared_by_the_next(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content_of(store)

    def nothing(place: Place, names: Iterable[str]) -> int:
        return len(list(names))

    monkeypatch.setattr(compacting, "_remove", nothing)
    compact(store)
    assert small_of(store), "it was killed before it removed them"
    assert content_of(store) == before
    monkeypatch.undo()
    place = open_place(store)
    dead, alive = (f"v1/runs/day={DAY}/part-{number:06}-00000000.parquet" for number in (1, 2))
    place.write(dead, b"never listed")
    place.write(alive, b"of a compaction that is at work")
    compact(store)
    assert small_of(store) == []
    assert dead not in files_of(store)
    assert alive in files_of(store)
    assert content_of(store) == before


def test_a_mended_failure_goes(store: Path) -> None:
    compact(store)
    ((failure,),) = [
        manifest.failures for manifest in contents(open_place(store)).manifests.values() if manifest.failures
    ]
    place, run = open_place(store), built(store.parent / "x.json", 9)
    gemma_trace.Store(store).index(run)
    (name,) = small_of_runs(store)
    place.write(small_file("runs", DAY, failure), place.read(name))
    bad = store.parent / "traces" / "worse.json"
    bad.write_text("[1]")
    gemma_trace.Store(store).index(bad)
    compact(store)
    (manifest,) = [each for each in contents(place).manifests.values() if each.day == UNKNOWN_DAY]
    assert failure not in manifest.failures
    assert len(manifest.failures) == len(content_of(store)["failures"]) == 1


def small_of_runs(store: Path) -> list[str]:
    return [name for name in small_of(store) if name.startswith("v1/runs/")]


@pytest.mark.parametrize("step", ["write", "create"])
def test_a_full_disk_is_one_line_and_loses_nothing(store: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before, left = content_of(store), [3 if step == "write" else 1]
    real: Callable[..., object] = getattr(LocalPlace, step)

    def until_full(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(LocalPlace, step, until_full)
    with pytest.raises(OutputError, match="No space left on device; nothing is lost"):
        compact(store)
    assert content_of(store) == before
    monkeypatch.undo()
    compact(store)
    assert content_of(store) == before
    assert small_of(store) == []


def test_a_reader_that_finds_files_gone_lists_them_again(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, files = content_of(store), reading._files

    def then_compacted(place: Place, name: str) -> list[str]:
        found = files(place, name)
        compact(store)
        return found

    monkeypatch.setattr(reading, "_files", then_compacted)
    assert content_of(store) == before
