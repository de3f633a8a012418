"""The baselines of a store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, LABEL
from gemma_trace.store.baselines import Baseline


def _created(row: Baseline) -> str:
    return datetime.fromtimestamp(row.created_ns // 10**9, UTC).isoformat(timespec="seconds")


def _count(row: Baseline) -> int:
    return len(row.runs)


def _ids(row: Baseline) -> str:
    return " ".join(row.runs)


BASELINE_FILE: Final = (
    Col("baseline", "baseline", definition="its name", value="name"),
    Col("created_utc", "set at (UTC)", definition="when it was set, in UTC", value=_created),
    Col("runs", "runs", COUNT, definition="how many runs it has", value=_count),
    Col("run_ids", "ids", LABEL, definition="the ids of its runs in the store, separated by spaces", value=_ids),
)
"""A row per baseline."""


def baseline_report(baselines: Sequence[Baseline], store: str) -> Report:
    """Baselines, by name."""
    table: Table[Any] = Table(f"Baselines of {store}", BASELINE_FILE, baselines)
    return Report("baseline", [store], (table,), table, {"store": store})
