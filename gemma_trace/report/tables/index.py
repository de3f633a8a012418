"""What became of traces that were added to a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from gemma_trace.printable import path_text
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, LABEL, MB, NUMBER, WORDS
from gemma_trace.store import columns
from gemma_trace.store.indexing import Outcome, Status
from gemma_trace.store.result import IndexResult
from gemma_trace.wording import counted

MOST_SHOWN: Final = 20
"""So many failures, and files that could go, people see."""


def _file(row: Outcome) -> str:
    return path_text(row.path)


FILE: Final = Col("file", "file", LABEL, definition="the trace's file", value=_file)
STATUS_COL: Final = Col(
    "status", "status", definition="`indexed`: it is new in the store; `failed`: it is no trace, or can't be read"
)
RUN_ID: Final = Col("run_id", "run", definition="the id of the run in the store; empty if the content can't be read")
FILE_BYTES: Final = Col.stored(columns.FILE_BYTES, "size", MB)
WRITTEN: Final = Col("written_bytes", "written", MB, definition="the size of its rows in the store")
MESSAGE: Final = Col("message", "why", WORDS, definition="why it failed; empty if it did not")

OUTCOME_FILE: Final = (FILE, STATUS_COL, RUN_ID, FILE_BYTES, WRITTEN, MESSAGE)
"""A row per trace that is new or failed."""

PRUNE_FILE: Final = (
    Col("file", "file", LABEL, definition="a trace's file, whose run is in the store"),
    Col("run_id", "run", definition="the run"),
    Col("age_days", "age days", NUMBER, definition="how long ago the file was changed last, in days"),
    FILE_BYTES,
)
"""A row per raw trace that could go; with `--prune-raw-after` in place of those above."""


class _Counts:
    """The result as the one row of a table."""

    def __init__(self, result: IndexResult) -> None:
        self.indexed, self.known = result.counts[Status.INDEXED], result.counts[Status.KNOWN]
        self.failed, self.read_bytes = result.failed, result.read_bytes
        self.written_bytes, self.written_files = result.written_bytes, result.written_files


_COUNT_COLS: Final = (
    *(Col(name, name, COUNT) for name in ("indexed", "known", "failed")),
    Col("read_bytes", "read", MB),
    Col("written_bytes", "written", MB),
    Col("written_files", "files", COUNT),
)


def index_report(result: IndexResult, source: Sequence[str]) -> Report:
    """What became of the traces: for people counts and the failures, for files a row per trace that is new or failed.

    Args:
        source: the paths as they were given.
    """
    counts = _Counts(result)
    tables: list[Table[Any]] = [Table(f"Store {result.store}", _COUNT_COLS, [counts], notes=tuple(_notes(result)))]
    failures = [outcome for outcome in result.shown if outcome.status is Status.FAILED]
    if failures:
        tables.append(Table("Failed", (FILE, MESSAGE), failures).cut(MOST_SHOWN, "{} more in the table failures."))
    data: Table[Any] = Table("Traces", OUTCOME_FILE, result.shown, rows_total=result.told)
    if result.prune_after_s is not None:
        data = Table("Raw traces that can be removed", PRUNE_FILE, result.prunable, rows_total=result.prunable_count)
        tables += [data.cut(MOST_SHOWN, "{} more: --format csv lists them.")] if result.prunable else []
    totals: dict[str, Any] = {"store": result.store, **vars(counts)}
    if result.prune_after_s is not None:
        totals |= {"prunable": result.prunable_count, "prunable_bytes": result.prunable_bytes}
    if result.compaction:
        totals["compaction"] = asdict(result.compaction)
    return Report("index", source, tuple(tables), data, totals)


def _notes(result: IndexResult) -> list[str]:
    notes = []
    if result.counts[Status.KNOWN]:
        notes.append("known: the store already has a trace with the same content.")
        if result.has_rules:
            notes.append("The rules don't change traces that the store has; index them into a new store for that.")
    if done := result.compaction:
        notes.append(
            f"Compacted {counted(done.runs, 'run')} of {counted(done.days, 'day')} into "
            f"{counted(done.written_files, 'part')} of {done.written_bytes / 1e6:,.2f} MB; "
            f"removed {counted(done.removed_files, 'file')}."
        )
    if result.prune_after_s is not None:
        notes.append(
            f"{result.prunable_count:,} raw traces of {result.prunable_bytes / 1e6:,.1f} MB can be removed; none was."
        )
    return notes
