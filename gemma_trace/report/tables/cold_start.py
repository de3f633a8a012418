"""Cold starts: one row per part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gemma_trace.analysis.cold_start import ColdPart
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.errors import InputError
from gemma_trace.health.merge import told_apart
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.tables.requests import RUN_LABEL
from gemma_trace.report.tables.summary import health_of
from gemma_trace.report.units import COUNT, MS, RATIO, TEXT


@dataclass(frozen=True)
class ColdLine:
    """A part under the label of its run."""

    run: str
    cold: ColdPart


COLD_FILE: Final = (
    RUN_LABEL,
    Col(
        "part",
        "cold start",
        TEXT,
        definition="`import` of torch and transformers; `load`: model and processor made or read, and moved to the "
        "device; `first request`: its TTFT; `until steady`: import, load and all requests up to the last one whose "
        "TTFT is over 1.1 times that of the timed requests with the same image",
        value="cold.part",
    ),
    Col("time_ns", "time", MS, definition="how long it took", value="cold.time_ns"),
    Col(
        "steady_ns",
        "later",
        MS,
        definition="the median TTFT of the timed requests with the same image",
        value="cold.steady_ns",
    ),
    Col("factor", "× later", RATIO, definition="`time_ns` / `steady_ns`", value="cold.factor"),
    Col("requests", "requests", COUNT, definition="how many requests `until steady` has", value="cold.requests"),
)
"""A row per part of a cold start."""


def cold_table(runs: Sequence[RunSummary]) -> Table[ColdLine] | None:
    """The cold starts of these runs; None where none was captured."""
    labels = told_apart([run.run for run in runs], [run.source for run in runs])
    lines = [ColdLine(label, part) for label, run in zip(labels, runs, strict=True) for part in run.cold_start]
    cols = tuple(col for col in COLD_FILE if col.key != "run" or len(runs) > 1)
    return Table("Cold start", cols, lines) if lines else None


def cold_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """One row per part of each run's cold start.

    Raises:
        InputError: none was captured.
    """
    table = cold_table(runs)
    if table is None:
        raise InputError("no cold start was captured; capture with --cold")
    data = Table(table.title, COLD_FILE, table.rows)
    return Report("summarize", source, (table,), data, {"runs": len(runs)}, health_of(runs))
