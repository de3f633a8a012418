from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gemma_trace.trace import cache as cache_module
from gemma_trace.trace.cache import TraceCache
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.trace import Trace, load
from tests.capture.test_writer import METADATA
from tests.trace_builder import TraceBuilder


@pytest.fixture(autouse=True)
def _every_trace_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1)


@pytest.fixture
def cache(tmp_path: Path) -> TraceCache:
    return TraceCache(tmp_path / "cache")


def written(folder: Path, name: str = "aten::mm") -> Path:
    built = TraceBuilder().metadata(METADATA).range("request", 0, 1000).op(name, 10, 50, dims=[[1, 2]])
    built.launch(1, 20).kernel("k", 300, 50, correlation=1).raw(ph="s", cat="ac2g", id="x", pid=1, tid=100, ts=0.02)
    return built.raw(ph="i", name="mark", ts=1).write(folder / "trace.json.gz")


def assert_same(one: Trace, other: Trace) -> None:
    for kind in ("spans", "flows"):
        for name, value in vars(getattr(one, kind)).items():
            again = getattr(getattr(other, kind), name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, again)
                assert value.dtype == again.dtype
            else:
                assert value == again
    assert one.read_report == other.read_report
    assert one.metadata == other.metadata


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read afresh from here on."""
    seen: list[Path] = []

    def noticed(path: Path, *rest: object, **more: object) -> TraceFile:
        seen.append(path)
        return read_trace(path)

    monkeypatch.setattr(cache_module, "read_trace", noticed)
    return seen


def test_a_second_load_is_the_same_and_reads_nothing(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    seen = reads(monkeypatch)
    first, second = load(path, cache=cache), load(path, cache=cache)
    assert seen == [path]
    assert_same(first, second)
    assert second.stage_names[int(second.stage_at(second.launch)[0])] == "unattributed"


def test_a_trace_that_changed_is_read_again(tmp_path: Path, cache: TraceCache) -> None:
    load(written(tmp_path), cache=cache)
    before = (tmp_path / "trace.json.gz").stat()
    path = written(tmp_path, "aten::bm")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "aten::bm" in load(path, cache=cache).spans.names


def test_a_copy_under_another_name_is_found(tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    load(path, cache=cache)
    seen = reads(monkeypatch)
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    assert load(copy, cache=cache).path == copy
    assert seen == []


@pytest.mark.parametrize("damage", [b"", b"no columns at all", None])
def test_a_damaged_cache_is_read_afresh_and_mended(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    path = written(tmp_path)
    load(path, cache=cache)
    (kept,) = cache.folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:-400] if damage is None else damage)
    seen = reads(monkeypatch)
    load(path, cache=cache)
    load(path, cache=cache)
    assert seen == [path]


def test_a_header_that_holds_secrets_is_not_kept(tmp_path: Path, cache: TraceCache) -> None:
    built = TraceBuilder().range("request", 0, 10)
    built.header["metadata"] = {"environment": {"HF_TOKEN": "hf_secret"}}
    load(built.write(tmp_path / "a.json"), cache=cache)
    (kept,) = cache.folder.iterdir()
    assert b"hf_secret" not in kept.read_bytes()


def test_without_a_cache_nothing_is_kept(tmp_path: Path, cache: TraceCache) -> None:
    load(written(tmp_path))
    assert not cache.folder.exists()


def test_small_traces_are_not_kept(tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1 << 20)
    load(written(tmp_path), cache=cache)
    assert not cache.folder.exists()


def test_a_folder_that_cant_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert len(load(written(tmp_path), cache=TraceCache(tmp_path / "file" / "cache")).spans) == 4


def test_what_was_used_longest_ago_goes_first(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [written(tmp_path / str(index), f"op{index}") for index in range(3)]
    for index, path in enumerate(paths[:2]):
        load(path, cache=cache)
        os.utime(cache.path_of(path), (1000 + index, 1000 + index))
    load(paths[0], cache=cache)
    monkeypatch.setattr(cache_module, "MAX_BYTES", int(2.5 * cache.path_of(paths[0]).stat().st_size))
    load(paths[2], cache=cache)
    assert {file.name for file in cache.folder.iterdir()} == {cache.path_of(path).name for path in (paths[0], paths[2])}
