"""A server's traces: told from those that were there, waited for, copied."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gemma_trace.remote import path_of
from gemma_trace.served import trace_files
from gemma_trace.served.trace_files import keep, known_files, wait_for_new


@pytest.fixture(autouse=True)
def _settles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_files, "SETTLED_S", 0.0)


def test_new_files_alone_are_kept(tmp_path: Path) -> None:
    source, folder = tmp_path / "traces", tmp_path / "out"
    (source / "a").mkdir(parents=True)
    (source / "old.json").write_text("{}")
    before = known_files(source)
    (source / "notes.txt").write_text("no trace")
    (source / "rank0.json.gz").write_bytes(gzip.compress(b"{}"))
    (source / "a" / "rank0.json.gz").write_bytes(gzip.compress(b"[]"))
    (source / "gemma_trace_stamps.7.jsonl").write_text("")
    kept, notes = keep(wait_for_new(source, before, 5), folder)
    assert notes == []
    assert len(set(kept)) == 2
    assert {gzip.decompress((folder / name).read_bytes()) for name in kept} == {b"{}", b"[]"}
    assert (folder / "processes" / "gemma_trace_stamps.7.jsonl").exists()


def test_a_file_that_has_gone_takes_no_other_with_it(tmp_path: Path) -> None:
    source, folder = tmp_path / "traces", tmp_path / "out"
    source.mkdir()
    (source / "front.json").write_text("{}")
    (source / "rank0.json").symlink_to(source / "nowhere")
    kept, (note,) = keep([source / "rank0.json", source / "front.json"], folder)
    assert kept == ["processes/front.json"]
    assert "rank0.json" in note
    assert list(known_files(source)) == [source / "front.json"]


def test_nothing_comes(tmp_path: Path) -> None:
    assert wait_for_new(tmp_path / "nowhere", {}, 0) == []


def test_a_folder_behind_a_url() -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs the extra scale")
    files = fsspec.filesystem("memory")
    files.pipe("/served-traces/old.json", b"{}")
    folder = path_of("memory://served-traces")
    before = known_files(folder)
    assert [path.name for path in before] == ["old.json"]
    files.pipe("/served-traces/new.json", b"[]")
    assert [path.name for path in wait_for_new(folder, before, 5)] == ["new.json"]
    files.rm("/served-traces", recursive=True)
