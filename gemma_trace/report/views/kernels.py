"""The kernels of one trace, or the ops on a CPU."""

from __future__ import annotations

from dataclasses import asdict

from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import microseconds, milliseconds
from gemma_trace.trace.health import Health
from gemma_trace.trace.trace import Trace


def kernels_report(table: KernelTable, trace: Trace, health: Health, top: int) -> Report:
    """The drilldown's `top` rows; 0 is all."""
    shown = table.rows[:top] if top else table.rows
    columns = (
        Column("kernel" if table.on == "device" else "op", align="left", overflow="ellipsis"),
        Column("family", 3, align="left"),
        Column("sum ms"),
        Column("%", 1),
        Column("count", 2),
        Column("busy ms", 7),
        Column("min µs", 6),
        Column("median µs", 4),
        Column("max µs", 5),
    )
    rows = tuple(
        (
            row.name,
            row.family,
            milliseconds(row.sum_ns),
            f"{row.share_pct:.1f}",
            f"{row.count:,}",
            milliseconds(row.busy_ns),
            microseconds(row.min_ns),
            microseconds(row.median_ns),
            microseconds(row.max_ns),
        )
        for row in shown
    )
    what = "Device activities" if table.on == "device" else "Ops on the host by self time"
    where = f" of {table.stage}" if table.stage else ""
    notes = []
    if len(shown) < len(table.rows):
        notes.append(f"{len(table.rows) - len(shown)} more rows: --top 0 shows all.")
    whole = sum(row.sum_ns for row in table.rows)
    return Report(
        command="kernels",
        source=[str(trace.path)],
        sections=(
            Section(
                f"{what}{where}, {trace.label}",
                columns,
                rows,
                footer=(
                    "all",
                    "",
                    milliseconds(whole),
                    "100.0",
                    f"{sum(r.count for r in table.rows):,}",
                    *[""] * 4,
                ),
                notes=tuple(notes),
            ),
        ),
        records=[asdict(row) for row in shown],
        totals=asdict(table.totals) | {"on": table.on},
        health=health,
    )
