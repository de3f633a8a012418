"""What can be wrong with a cache: none of it may change a figure or end a command."""

from __future__ import annotations

import os
import random
import resource
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from gemma_trace.errors import InputError
from gemma_trace.trace import cache as cache_module
from gemma_trace.trace.cache import TraceCache
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.trace import Trace, load
from tests.conftest import tries
from tests.trace_builder import TraceBuilder


@pytest.fixture(autouse=True)
def _every_trace_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1)


@pytest.fixture
def cache(tmp_path: Path) -> TraceCache:
    return TraceCache(tmp_path / "cache")


def written(path: Path, seed: int, spans: int = 40) -> Path:
    built = TraceBuilder().range("request", 0, 10_000)
    for index in range(spans):
        built.op(f"aten::op{seed}_{index % 5}", 10 + 100 * index, 50 + seed, dims=[[index, seed]])
        built.launch(index + 1, 20 + 100 * index).kernel(f"k{index % 3}", 30 + 100 * index, 40, correlation=index + 1)
    return built.counter("queue", 5, {"length": seed}).write(path)


def figures(read: Trace | TraceFile) -> tuple[object, ...]:
    """All that a trace holds, columns as bytes."""
    spans = read.spans if isinstance(read, Trace) else read.events
    parts: list[object] = [read.names, read.read_report if isinstance(read, Trace) else read.report]
    for part in (spans, read.flows, read.memory, read.counters):
        for name, value in vars(part).items():
            parts.append((name, value.dtype.str, value.tobytes()) if isinstance(value, np.ndarray) else (name, value))
    return tuple(parts)


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice([1, 3, 3, 3, 50])):
        changed[draw.randrange(len(changed))] ^= draw.randrange(1, 256)
    return bytes(changed)


def truncated(data: bytes, draw: random.Random) -> bytes:
    return draw.choice([data[: draw.randrange(len(data))], data + bytes(draw.randrange(1, 5000)), data[64:]])


def rewritten(data: bytes, draw: random.Random) -> bytes:
    """An entry as good as any, of other columns, types or lengths, with the old seal or with none."""
    (length,) = struct.unpack_from("<Q", data, 64)
    tables = msgspec.msgpack.decode(data[72 : 72 + length])
    columns = tables["columns"]
    name = draw.choice(list(columns))
    dtype, rows, is_repeated = columns[name]
    changes: list[Callable[[], object]] = [
        lambda: columns.pop(name),
        lambda: columns.update({f"{name}x": columns.pop(name)}),
        lambda: columns.update({name: [draw.choice(["<i2", "<f8", "|O", "?"]), rows, is_repeated]}),
        lambda: columns.update({name: [dtype, draw.choice([rows + 1, 1 << 62]), not is_repeated]}),
        lambda: tables.pop("columns"),
    ]
    draw.choice(changes)()
    text = msgspec.msgpack.encode(tables)
    content = struct.pack("<Q", len(text)) + text + data[72 + length :]
    return draw.choice([content, data[:64] + content])


def test_of_poisoned_entries_none_gives_a_wrong_figure(tmp_path: Path, cache: TraceCache) -> None:
    draw = random.Random(14)
    paths = [written(tmp_path / f"{seed}.json", seed) for seed in range(3)]
    wanted = [figures(read_trace(path)) for path in paths]
    for path in paths:
        load(path, cache=cache)
    kept = [cache.path_of(path) for path in paths]
    sound = [entry.read_bytes() for entry in kept]
    poisons: list[Callable[[bytes, random.Random], bytes]] = [flipped, truncated, rewritten]
    found = 0
    for attempt in range(tries(300)):
        which = attempt % len(paths)
        # Every fourth is another trace's entry, whole and sealed.
        poison = sound[which - 1] if attempt % 4 == 3 else poisons[attempt % 4](sound[which], draw)
        kept[which].write_bytes(poison)
        found += cache.load(kept[which]) is not None
        read = load(paths[which], cache=cache)
        assert figures(read) == wanted[which]
        assert kept[which].read_bytes() == sound[which], "mended"
    assert found == 0, "each was told from a sound one"


def test_a_sound_entry_is_found(tmp_path: Path, cache: TraceCache) -> None:
    path = written(tmp_path / "a.json", 1)
    load(path, cache=cache)
    again = cache.load(cache.path_of(path))
    assert again is not None
    assert figures(again) == figures(read_trace(path))
    assert again.events.bytes.strides == (0,), "a column of one value is kept as one"
    assert again.events.name.strides == (4,)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_file_that_is_replaced_before_it_is_read_is_not_kept_as_what_it_was(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, other = written(tmp_path / name, 1), written(tmp_path / f"other-{name}", 2)
    original = path.read_bytes()

    def replaced_before(read: Path, *rest: object, **more: object) -> TraceFile:
        shutil.copy(other, read)
        return read_trace(read)

    monkeypatch.setattr(cache_module, "read_trace", replaced_before)
    load(path, cache=cache)
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1)
    path.write_bytes(original)
    assert "aten::op1_0" in load(path, cache=cache).spans.names
    assert "aten::op2_0" in load(other, cache=cache).spans.names


def test_padding_behind_a_gzip_file_belongs_to_its_content(tmp_path: Path, cache: TraceCache) -> None:
    path = written(tmp_path / "a.json.gz", 1)
    path.write_bytes(path.read_bytes() + bytes(5000))
    load(path, cache=cache)
    assert cache.load(cache.path_of(path)) is not None


def test_a_damaged_trace_is_kept_as_far_as_it_goes(tmp_path: Path, cache: TraceCache) -> None:
    path = written(tmp_path / "a.json.gz", 1, spans=400)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    first = load(path, cache=cache)
    again = cache.load(cache.path_of(path))
    assert again is not None
    assert first.read_report.damaged
    assert figures(again) == figures(first)


def test_entries_are_for_their_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache = TraceCache()
    before = os.umask(0)
    try:
        load(written(tmp_path / "a.json", 1), cache=cache)
    finally:
        os.umask(before)
    (entry,) = cache.folder.iterdir()
    assert [oct(path.stat().st_mode & 0o777) for path in (entry, cache.folder, cache.folder.parent)] == [
        "0o600",
        "0o700",
        "0o700",
    ]


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path, cache: TraceCache) -> None:
    cache.folder.mkdir(mode=0o755)
    load(written(tmp_path / "a.json", 1), cache=cache)
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path, cache: TraceCache) -> None:
    cache.folder.mkdir()
    (cache.folder / ".1234.columns.77.partial").write_bytes(b"left")
    with atomic_file(cache.folder / "being-written.columns") as out:
        out.write(b"so far")
        load(written(tmp_path / "a.json", 1), cache=cache)
        assert len(list(cache.folder.glob(".*.partial"))) == 1
    assert sorted(path.suffix for path in cache.folder.iterdir()) == [".columns", ".columns"]


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_costs_the_cache_alone(tmp_path: Path, cache: TraceCache) -> None:
    path = written(tmp_path / "a.json", 1)
    with files_up_to(2000):
        read = load(path, cache=cache)
    assert figures(read) == figures(read_trace(path))
    assert list(cache.folder.iterdir()) == []


def a_symlink(entry: Path) -> None:
    target = entry.with_name("target")
    target.write_bytes(b"somebody's")
    entry.symlink_to(target)


def a_loop(entry: Path) -> None:
    entry.symlink_to(entry)


@pytest.mark.parametrize("put", [a_symlink, a_loop, Path.mkdir, os.mkfifo])
def test_an_entry_that_is_no_file_is_no_entry(tmp_path: Path, cache: TraceCache, put: Callable[[Path], None]) -> None:
    path = written(tmp_path / "a.json", 1)
    cache.folder.mkdir()
    put(cache.path_of(path))
    for _ in range(2):
        assert figures(load(path, cache=cache)) == figures(read_trace(path))
    target = cache.folder / "target"
    assert not target.exists() or target.read_bytes() == b"somebody's", "nothing is written through a link"


def test_a_folder_that_can_only_be_read_still_gives_what_it_holds(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.json", 1)
    load(path, cache=cache)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refused)
    assert cache.load(cache.path_of(path)) is not None


def test_many_write_and_read_one_entry_at_once(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [written(tmp_path / f"{seed}.json", seed) for seed in range(2)]
    wanted = [figures(read_trace(path)) for path in paths]
    monkeypatch.setattr(cache_module, "MAX_BYTES", 1)  # each that is kept drives the other one out
    wrong: list[object] = []

    def work(which: int) -> None:
        try:
            for _ in range(10):
                if figures(load(paths[which], cache=cache)) != wanted[which]:
                    wrong.append(which)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(index % 2,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not list(cache.folder.glob("*.partial"))


def test_a_trace_that_cant_be_read_is_one_line(
    tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.json", 1)

    real = Path.open

    def refused(self: Path, *rest: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *rest, **more)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InputError, match=r"can't read .*Permission denied"):
        load(path, cache=cache)


def test_what_cant_be_kept_is_no_error(tmp_path: Path, cache: TraceCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise msgspec.ValidationError("no")

    monkeypatch.setattr(cache_module, "_encode", refused)
    load(written(tmp_path / "a.json", 1), cache=cache)
    assert list(cache.folder.iterdir()) == []
