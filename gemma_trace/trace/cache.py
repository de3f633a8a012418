"""A large trace's columns on disk, so that the next command on the same trace starts at once.

One file per trace behind a seal (`cache_seal.py`), its columns as they lie in memory, so that opening it is mapping it.
Its key is the trace's content and the code that read it: a trace that changes, or a reader that does, has another key,
so what is found is never stale. What isn't, to the last byte, what was kept under its key is no entry: any doubt means
that the trace is read afresh, without a word.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from gemma_trace.remote import RemotePath
from gemma_trace.trace.cache_seal import sealed_content, sealing
from gemma_trace.trace.events import (
    CounterEvents,
    CounterSeries,
    DetailedEvents,
    Events,
    Flows,
    MemoryEvents,
    Track,
    TrackNames,
)
from gemma_trace.trace.files import atomic_file, clear_partials
from gemma_trace.trace.header import BASE_KEY, DEVICES_KEY, DISTRIBUTED_KEY, METADATA_KEY
from gemma_trace.trace.reader import ReadReport, TraceFile, read_trace
from gemma_trace.trace.source import CHUNK_BYTES, GZIP_MAGIC, Fingerprint, expected_json_bytes

WORTHWHILE_BYTES: Final = 24 << 20
"""JSON below this is read as fast as a cache is looked up and kept."""

MAX_BYTES: Final = 4 << 30
"""What the cache may take on disk; what was used longest ago goes first."""

KEPT_MEMBERS: Final = frozenset({METADATA_KEY, DEVICES_KEY, BASE_KEY, DISTRIBUTED_KEY, "schemaVersion"})
"""The top-level members of a trace that are kept. The rest is nobody's business here: some profilers write the whole
environment of their process, tokens and all, into it."""

_FLOWS: Final = "flow_"
_MEMORY: Final = "memory_"
_COUNTERS: Final = "counter_"
_LENGTH: Final = struct.Struct("<Q")
_ALIGNED: Final = 64
_SUFFIX: Final = ".columns"
_KEY_DIGITS: Final = 40


class _Column(msgspec.Struct, array_like=True):
    """A column: its dtype, as numpy writes it, its length, and whether it is one value, repeated."""

    dtype: str
    length: int
    is_repeated: bool


class _Tables(msgspec.Struct):
    """All of a `TraceFile` that is no column."""

    columns: dict[str, _Column]
    """In the order in which they lie behind the tables."""
    names: tuple[str, ...]
    cats: tuple[str, ...]
    tracks: tuple[tuple[str, str], ...]
    texts: tuple[str, ...]
    flow_cats: tuple[str, ...]
    counters: tuple[CounterSeries, ...]
    processes: dict[str, str]
    labels: dict[str, str]
    threads: tuple[tuple[str, str, str], ...]
    header: dict[str, bytes]
    report: ReadReport


class TraceCache:
    """The cached traces in a folder.

    Args:
        folder: made when the first trace is kept; by default the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    @staticmethod
    def is_worth(trace: Path) -> bool:
        """Whether a trace is so large, and a file that stays the same, that keeping it helps the next command."""
        try:
            status = trace.stat()
            if not stat.S_ISREG(status.st_mode):  # nothing may be read off a pipe
                return False
            with trace.open("rb") as file:
                compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        except OSError:  # whoever reads it says why it can't be read
            return False
        return expected_json_bytes(status.st_size, compressed=compressed) >= WORTHWHILE_BYTES

    @property
    def folder(self) -> Path:
        """Where the traces are kept."""
        if self._folder is None:
            import platformdirs

            self._folder = Path(platformdirs.user_cache_dir("gemma-trace", appauthor=False)) / "traces"
        return self._folder

    def path_of(self, trace: Path) -> Path:
        """Where the columns of this trace are, if they are.

        Raises:
            OSError: the trace can't be read.
        """
        return self.look_up(trace)[0]

    def look_up(self, trace: Path) -> tuple[Path, Fingerprint]:
        """Where the columns of this trace are, if they are, and what its content was when that was looked up.

        Raises:
            OSError: the trace can't be read.
        """
        import hashlib  # OpenSSL, which a command without a cache needn't load

        digest = hashlib.sha256()  # by the processor's own instructions, over twice as fast as BLAKE2b
        for module in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(module.read_bytes())
        content = Fingerprint()
        with trace.open("rb") as file:
            while part := file.read(CHUNK_BYTES):
                digest.update(part)
                content.add(part)
        return self.folder / f"{digest.hexdigest()[:_KEY_DIGITS]}{_SUFFIX}", content

    def load(self, path: Path) -> TraceFile | None:
        """The trace kept at this path; None if there is none that is whole. Columns are mapped, not copied."""
        content = sealed_content(path)
        if content is None:
            return None
        try:
            file = _decoded(content)
        except Exception:  # whatever comes of an entry that another program has sealed
            return None
        with contextlib.suppress(OSError):  # a folder that can only be read is as good
            os.utime(path, follow_symlinks=False)
        return file

    def keep(self, file: TraceFile, path: Path, content: Fingerprint | None = None) -> None:
        """Keep a trace, whole or not at all. What can't be kept is no error: there is no cache then.

        Args:
            content: what the trace's was when the path was looked up. If another was read, since the trace was replaced
                meanwhile, it isn't kept.
        """
        if content is not None and content != file.content:
            return
        with contextlib.suppress(Exception):  # a full disk, a folder of others', a number that is too large to be kept
            _make_private(path.parent)
            with atomic_file(path, private=True) as out, sealing(out, path.name) as sealed:
                _encode(file, sealed)
            self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Remove what killed processes left, and what was used longest ago until the rest is within bounds."""
        clear_partials(self.folder)
        kept: list[tuple[float, int, Path]] = []
        for file in self.folder.glob("[!.]*"):  # those of older versions, too
            with contextlib.suppress(OSError):  # another process may make room at the same time
                status = file.lstat()
                kept.append((status.st_mtime, status.st_size, file))
        total = 0
        for _, size, file in sorted(kept, reverse=True):
            total += size
            if total > MAX_BYTES and file != newest:
                with contextlib.suppress(OSError):
                    file.unlink()


def read(
    path: Path,
    on_bytes: Callable[[int], None] | None = None,
    cache: TraceCache | None = None,
    jobs: int | None = None,
    *,
    detailed: bool = True,
) -> TraceFile:
    """A trace file's content, out of the cache where it is kept there; see `trace.load`."""
    if isinstance(path, RemotePath):  # to know whether it is in the cache is to read it; and nobody is asked twice
        return read_trace(path, on_bytes, jobs)
    if cache is None or not cache.is_worth(path):
        return read_trace(path, on_bytes, jobs, detailed=detailed)
    try:
        kept, content = cache.look_up(path)
    except OSError:
        return read_trace(path, on_bytes, jobs, detailed=detailed)  # which says what is wrong
    file = cache.load(kept)
    if file is not None and (file.is_detailed or not detailed):
        return replace(file, content=content)
    file = read_trace(path, on_bytes, jobs, detailed=detailed)
    cache.keep(file, kept, content)
    return file


def _make_private(folder: Path) -> None:
    """Make the folder, and the one of ours that it stands in, so that nobody else can look into it."""
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)


def _encode(file: TraceFile, out: Any) -> None:
    """Write a trace: the length of its tables, the tables, and its columns as they lie in memory, each aligned."""
    arrays = _columns_of(file)
    tables = _Tables(
        columns={name: _Column(column.dtype.str, len(column), _is_repeated(column)) for name, column in arrays.items()},
        names=file.events.names,
        cats=file.events.cats,
        tracks=tuple((track.pid, track.tid) for track in file.events.tracks),
        texts=file.events.texts,
        flow_cats=file.flows.cats,
        counters=file.counters.table,
        processes=dict(file.names.processes),
        labels=dict(file.names.labels),
        threads=tuple((*track, name) for track, name in file.names.threads.items()),
        header={name: bytes(text) for name, text in file.header.items() if name in KEPT_MEMBERS},
        report=file.report,
    )
    text = msgspec.msgpack.encode(tables)
    out.write(_LENGTH.pack(len(text)))
    out.write(text)
    end = _LENGTH.size + len(text)
    for column in arrays.values():
        out.write(bytes(-end % _ALIGNED))
        out.write(np.ascontiguousarray(column[:1] if _is_repeated(column) else column).data)
        end = out.tell()


def _is_repeated(column: np.ndarray) -> bool:
    """Whether a column is one value, of which it keeps one."""
    return len(column) > 1 and column.strides == (0,)


def _columns_of(file: TraceFile) -> dict[str, np.ndarray]:
    parts = {"": file.events, _FLOWS: file.flows, _MEMORY: file.memory, _COUNTERS: file.counters}
    return {
        prefix + name: column
        for prefix, part in parts.items()
        for name, column in ({} if part is None else vars(part)).items()
        if isinstance(column, np.ndarray)
    }


def _decoded(content: memoryview) -> TraceFile:
    """What `_encode` wrote. Columns are views of it.

    Raises:
        Exception: of any kind, where it isn't.
    """
    (length,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + length
    tables = msgspec.msgpack.decode(content[_LENGTH.size : end], type=_Tables)
    columns: dict[str, Any] = {}
    for name, column in tables.columns.items():
        begin = end + -end % _ALIGNED
        values = np.frombuffer(content, column.dtype, 1 if column.is_repeated else column.length, begin)
        columns[name] = np.broadcast_to(values, column.length) if column.is_repeated else values
        end = begin + values.nbytes
    flows, memory, counters = (
        {name.removeprefix(prefix): columns.pop(name) for name in list(columns) if name.startswith(prefix)}
        for prefix in (_FLOWS, _MEMORY, _COUNTERS)
    )
    tracks = tuple(Track(pid, tid) for pid, tid in tables.tracks)
    columns |= {"names": tables.names, "cats": tables.cats, "tracks": tracks, "texts": tables.texts}
    return TraceFile(
        DetailedEvents(**columns) if memory else Events(**columns),
        Flows(**flows, cats=tables.flow_cats),
        MemoryEvents(**memory) if memory else None,
        CounterEvents(**counters, table=tables.counters),
        TrackNames(tables.processes, tables.labels, {(pid, tid): name for pid, tid, name in tables.threads}),
        {name: msgspec.Raw(text) for name, text in tables.header.items()},
        tables.report,
    )
