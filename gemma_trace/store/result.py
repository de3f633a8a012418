"""What adding traces to a store came to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gemma_trace.printable import path_text
from gemma_trace.store.compact import Compaction
from gemma_trace.store.indexing import Outcome, Status
from gemma_trace.tabular import Tabular

MOST_KEPT: Final = 10_000
"""So many traces are told one by one; all are counted."""

_DAY_S: Final = 86_400


@dataclass(frozen=True)
class RawTrace:
    """A trace file whose run is in the store.

    Attributes:
        age_days: since it was changed last.
    """

    file: str
    run_id: str
    age_days: float
    file_bytes: int


@dataclass(repr=False)
class IndexResult(Tabular):
    """What became of some traces; it takes no more memory the more they are.

    Attributes:
        store: the store's path or URL.
        prune_after_s: raw traces that are older than this are listed; None lists none.
        counts: how many traces by what became of them.
        read_bytes: the size of the traces that are new.
        written_bytes, written_files: what was written into the store for them.
        shown: the first of those that are new or failed.
        prunable: the first of those that are in the store, and older than `prune_after_s`.
        prunable_count, prunable_bytes: all of those.
        compaction: what was merged, if that was asked for.
        has_rules: whether stages were defined for these traces.
    """

    store: str
    prune_after_s: float | None = None
    counts: Counter[Status] = field(default_factory=Counter)
    read_bytes: int = 0
    written_bytes: int = 0
    written_files: int = 0
    shown: list[Outcome] = field(default_factory=list)
    prunable: list[RawTrace] = field(default_factory=list)
    prunable_count: int = 0
    prunable_bytes: int = 0
    compaction: Compaction | None = None
    has_rules: bool = False
    _now_s: float = field(default_factory=time.time)

    def add(self, outcome: Outcome) -> None:
        """Count one more trace."""
        self.counts[outcome.status] += 1
        self.written_bytes += outcome.written_bytes
        self.written_files += outcome.written_files
        if outcome.status is Status.INDEXED:
            self.read_bytes += outcome.file_bytes
        if outcome.status is not Status.KNOWN and len(self.shown) < MOST_KEPT:
            self.shown.append(outcome)
        age_s = self._now_s - outcome.modified_s if outcome.modified_s else 0.0  # of a server that doesn't tell
        if self.prune_after_s is not None and outcome.status is not Status.FAILED and age_s > self.prune_after_s:
            self.prunable_count += 1
            self.prunable_bytes += outcome.file_bytes
            if len(self.prunable) < MOST_KEPT:
                raw = RawTrace(path_text(outcome.path), outcome.run_id, age_s / _DAY_S, outcome.file_bytes)
                self.prunable.append(raw)

    @property
    def failed(self) -> int:
        """How many are no trace, or can't be read."""
        return self.counts[Status.FAILED]

    @property
    def told(self) -> int:
        """How many are new or failed."""
        return self.counts[Status.INDEXED] + self.failed

    def headline(self) -> str:
        """What came of it, in a line."""
        parts = (f"{self.counts[status]:,} {status.value}" for status in Status)
        return f"{', '.join(parts)}; {self.written_bytes / 1e6:,.2f} MB written to {self.store}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per trace that is new or failed."""
        for each in self.shown:
            yield {
                "file": path_text(each.path),
                "status": each.status.value,
                "run_id": each.run_id,
                "file_bytes": each.file_bytes,
                "written_bytes": each.written_bytes,
                "message": each.message,
            }
