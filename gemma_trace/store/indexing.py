"""One trace file → its small files in a store. Files share nothing, so many processes may be at it at once."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

from gemma_trace._version import __version__
from gemma_trace.errors import ConfigError, GemmaTraceError, InputError, OutputError, UnreadableError
from gemma_trace.opening import fetched_once, opened
from gemma_trace.remote_errors import shown_url
from gemma_trace.stages import StageRule
from gemma_trace.store.layout import Contents, contents, small_file
from gemma_trace.store.places import Place, open_place
from gemma_trace.store.private import Texts
from gemma_trace.store.rows import Rows, rows_of
from gemma_trace.store.runs import day_of
from gemma_trace.store.schema import FAILURES, RUN_ID_DIGITS, RUNS, TABLES, UNKNOWN_DAY
from gemma_trace.store.tables import encoded, table_of
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.source import Fingerprint
from gemma_trace.trace.trace import Trace

_PIECE_BYTES: Final = 1 << 20


class Status(StrEnum):
    """What became of a trace."""

    INDEXED = "indexed"
    """It is in the store now."""
    KNOWN = "known"
    """It was already."""
    FAILED = "failed"
    """It is no trace, or can't be read."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        run_id: "" where the content can't be read.
        file_bytes: its size.
        modified_s: when it was changed last, in s since 1970.
        written_bytes, written_files: what it takes in the store, by what was written now.
        message: why it failed; "" where it didn't.
    """

    path: Path
    status: Status
    run_id: str = ""
    file_bytes: int = 0
    modified_s: float = 0.0
    written_bytes: int = 0
    written_files: int = 0
    message: str = ""


@dataclass(frozen=True)
class IndexJob:
    """What is done with each file.

    Attributes:
        store: the store's path or URL.
        keep_names: leave the names of runs, hosts, users and folders in.
        known: the ids of the runs that are in the store.
        failed: the ids of those that failed before, which aren't tried again.
        jobs: how many processes may read one file; None is as many as there are cores.
        rules: which spans are ranges of which stage, on top of those that are known.
    """

    store: str
    keep_names: bool = False
    known: frozenset[str] = field(default=frozenset(), repr=False)
    failed: frozenset[str] = field(default=frozenset(), repr=False)
    jobs: int | None = 1
    rules: tuple[StageRule, ...] = ()

    @cached_property
    def place(self) -> Place:
        """Where the store lies."""
        return open_place(self.store)


def job_for(
    store: str | Path, *, keep_names: bool = False, retry: bool = False, rules: Sequence[StageRule] = ()
) -> IndexJob:
    """The job of adding traces to a store, as it is now.

    Args:
        retry: try again what failed before.
        rules: which spans are ranges of which stage; see `stage_rule`.

    Raises:
        UnreadableError: the store can't be listed, or is of a newer gemma-trace.
    """
    place = open_place(store)
    listed = _listed(store, place)
    place.tidy()
    failed = frozenset[str]() if retry else listed.failures
    return IndexJob(str(store), keep_names, listed.runs, failed, rules=tuple(rules))


def _listed(store: str | Path, place: Place) -> Contents:
    try:
        return contents(place, ["failures"])
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableError(f"can't read {shown_url(str(store))}: {reason}; check the store") from error


def index_file(job: IndexJob, path: Path) -> Outcome:
    """Add one trace to the store; one that can't be read costs itself alone, and becomes a row of `failures`.

    Raises:
        OutputError: the store can't be written.
        ConfigError: a rule can't be held against the trace's names within its time.
    """
    with contextlib.ExitStack() as copies:
        try:
            copies.enter_context(fetched_once(path))
            content = _Content.of(path)
        except (OSError, GemmaTraceError) as error:
            return _failed(job, path, None, _as_ours(error, path))
        return _index(job, path, content)


def _index(job: IndexJob, path: Path, content: _Content) -> Outcome:
    if content.run_id in job.known:
        return content.outcome(path, Status.KNOWN)
    if content.run_id in job.failed:
        return content.outcome(path, Status.FAILED, message="it failed before; --retry tries it again")
    file = None
    try:
        file = read_trace(path, jobs=job.jobs)
        if file.content != content.fingerprint:
            return content.outcome(path, Status.FAILED, message=f"{path} changed while it was read; index it again")
        rows = rows_of(content.run_id, Trace(file, path, job.rules), file, keep_names=job.keep_names)
        files = small_files(content.run_id, rows)
    except MemoryError:  # says nothing of the trace
        message = f"there is not enough memory for {path}; close other programs, or set GEMMA_TRACE_JOBS=1"
        return content.outcome(path, Status.FAILED, message=message)
    except ConfigError:  # says nothing of the trace either
        raise
    except Exception as error:
        return _failed(job, path, content, error, file)
    for name, data in files.items():
        _stored(job, lambda name=name, data=data: job.place.write(name, data))  # type: ignore[misc]
    return content.outcome(path, Status.INDEXED, sum(map(len, files.values())), len(files))


def small_files(run_id: str, rows: dict[str, Rows]) -> dict[str, bytes]:
    """A run's small files by their names, that of `runs` last, as they have to be written.

    Args:
        rows: by table; a table without a row has no file.
    """
    (run,) = rows[RUNS.name]
    day = day_of(run["created_ns"])
    tables = [table for table in TABLES.values() if rows.get(table.name) and table is not RUNS]
    return {
        small_file(table.name, day, run_id): encoded(table_of(rows[table.name], table), small=True)
        for table in (*tables, RUNS)
    }


def _failed(
    job: IndexJob, path: Path, content: _Content | None, error: Exception, file: TraceFile | None = None
) -> Outcome:
    """Note that a file is no trace, or can't be read."""
    if not isinstance(error, InputError):
        error = UnreadableError(f"{path} can't be analysed: {type(error).__name__}: {error}; please report it")
    texts = Texts(path, file, keep_names=job.keep_names)
    # A file without content is told by its path, which a hash doesn't give away.
    by_path = hashlib.sha256(b"no content:" + bytes(path.absolute())).hexdigest()
    run_id = content.run_id if content else by_path[:RUN_ID_DIGITS]
    row = {
        "run_id": run_id,
        "file": texts.path,
        "file_bytes": content.fingerprint.size_bytes if content else None,
        "error": type(error).__name__,
        "message": texts.message(" ".join(str(error).split())),
        "indexer": __version__,
    }
    data = encoded(table_of([row], FAILURES), small=True)
    _stored(job, lambda: job.place.write(small_file(FAILURES.name, UNKNOWN_DAY, run_id), data))
    if content is None:
        return Outcome(path, Status.FAILED, written_bytes=len(data), written_files=1, message=str(error))
    return content.outcome(path, Status.FAILED, len(data), 1, str(error))


def _as_ours(error: OSError | GemmaTraceError, path: Path) -> Exception:
    """An error of the system as the reader of traces says it."""
    if isinstance(error, FileNotFoundError):
        return UnreadableError(f"no file at {path}; check the path")
    return UnreadableError(f"can't read {path}: {error.strerror or error}") if isinstance(error, OSError) else error


def _stored(job: IndexJob, write: Callable[[], None]) -> None:
    try:
        write()
    except OSError as error:
        raise OutputError(
            f"can't write to {shown_url(job.store)}: {error.strerror or error}; what was indexed until then is in the "
            "store, and the same command goes on from there"
        ) from error


def run_id_of(path: Path) -> str:
    """The id that a trace's file has in a store.

    Raises:
        OSError: it can't be read.
    """
    return _Content.of(path).run_id


@dataclass(frozen=True)
class _Content:
    """What a file held when it was hashed."""

    run_id: str
    fingerprint: Fingerprint
    modified_s: float

    @staticmethod
    def of(path: Path) -> _Content:
        digest, crc32, size = hashlib.sha256(), 0, 0
        with opened(path) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                crc32, size = zlib.crc32(piece, crc32), size + len(piece)
        return _Content(digest.hexdigest()[:RUN_ID_DIGITS], Fingerprint(size, crc32), path.stat().st_mtime)

    def outcome(self, path: Path, status: Status, written: int = 0, files: int = 0, message: str = "") -> Outcome:
        return Outcome(path, status, self.run_id, self.fingerprint.size_bytes, self.modified_s, written, files, message)
