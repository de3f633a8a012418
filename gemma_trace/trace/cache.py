"""A large trace's columns on disk, so that the next command on the same trace starts at once.

An Arrow file a trace, keyed by the trace's content and by the code that read it: a trace that changes, or a reader
that does, has another key, so what is found is never stale. What can't be read is read afresh.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from gemma_trace.metadata import METADATA_KEY
from gemma_trace.trace.events import CounterEvents, CounterSeries, Events, Flows, MemoryEvents, Track, TrackNames
from gemma_trace.trace.reader import ReadReport, TraceFile

WORTHWHILE_BYTES: Final = 8 * 1024 * 1024
"""Smaller files are read faster than a cache is looked up and kept."""

MAX_BYTES: Final = 4 << 30
"""What the cache may take on disk; what was used longest ago goes first."""

KEPT_MEMBERS: Final = frozenset({METADATA_KEY, "deviceProperties", "baseTimeNanoseconds", "schemaVersion"})
"""The top-level members of a trace that are kept. The rest is nobody's business here: some profilers write the whole
environment of their process, tokens and all, into it."""

_FLOWS: Final = "flow_"
_MEMORY: Final = "memory_"
_COUNTERS: Final = "counter_"
_TABLES: Final = b"gemma_trace"
_BOOLEAN: Final = frozenset({"flow_is_start"})


class _Tables(msgspec.Struct):
    """All of a `TraceFile` that is no column."""

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
        import hashlib

        digest = hashlib.blake2b(digest_size=20)
        for module in sorted(Path(__file__).parent.glob("*.py")):
            digest.update(module.read_bytes())
        with trace.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
        return self.folder / f"{digest.hexdigest()}.arrow"

    def load(self, path: Path) -> TraceFile | None:
        """The trace kept at this path; None if there is none that can be read. Columns are mapped, not copied."""
        import pyarrow as pa

        try:
            content = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            tables = msgspec.msgpack.decode(content.schema.metadata[_TABLES], type=_Tables)
            columns: dict[str, Any] = {}
            for name in content.column_names:
                values = content.column(name).chunk(0).values.to_numpy()
                columns[name] = values.view(np.bool_) if name in _BOOLEAN else values
            os.utime(path)
        except (OSError, pa.ArrowException, msgspec.MsgspecError, KeyError, IndexError):
            return None
        flows, memory, counters = (
            {name.removeprefix(prefix): columns.pop(name) for name in list(columns) if name.startswith(prefix)}
            for prefix in (_FLOWS, _MEMORY, _COUNTERS)
        )
        tracks = tuple(Track(pid, tid) for pid, tid in tables.tracks)
        return TraceFile(
            Events(**columns, names=tables.names, cats=tables.cats, tracks=tracks, texts=tables.texts),
            Flows(**flows, cats=tables.flow_cats),
            MemoryEvents(**memory),
            CounterEvents(**counters, table=tables.counters),
            TrackNames(tables.processes, tables.labels, {(pid, tid): name for pid, tid, name in tables.threads}),
            {name: msgspec.Raw(text) for name, text in tables.header.items()},
            tables.report,
        )

    def keep(self, file: TraceFile, path: Path) -> None:
        """Keep a trace, whole or not at all. A folder that can't be written is no error: there is no cache then."""
        import pyarrow as pa

        arrays = {name: column for name, column in vars(file.events).items() if isinstance(column, np.ndarray)}
        for name, column in vars(file.flows).items():
            if isinstance(column, np.ndarray):
                arrays[_FLOWS + name] = column.view(np.int8) if column.dtype == np.bool_ else column
        arrays |= {_MEMORY + name: column for name, column in vars(file.memory).items()}
        arrays |= {_COUNTERS + name: getattr(file.counters, name) for name in ("ts_ns", "value", "series")}
        tables = _Tables(
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
        # One row, each column a list: the columns of events and of flows differ in length.
        rows = {name: pa.LargeListArray.from_arrays([0, len(column)], column) for name, column in arrays.items()}
        table = pa.table(rows).replace_schema_metadata({_TABLES: msgspec.msgpack.encode(tables)})
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with pa.OSFile(str(partial), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
                    writer.write_table(table)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            self._make_room(path)

    def _make_room(self, newest: Path) -> None:
        """Remove what was used longest ago until the rest is within bounds."""
        kept = sorted(self.folder.glob("*.arrow"), key=lambda file: -file.stat().st_mtime)
        total = 0
        for file in kept:
            total += file.stat().st_size
            if total > MAX_BYTES and file != newest:
                file.unlink(missing_ok=True)
