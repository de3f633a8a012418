"""The drilldown of one trace."""

from __future__ import annotations

from dataclasses import asdict

from gemma_trace.analysis.devices import devices_of
from gemma_trace.analysis.kernels import KernelRow, KernelTable
from gemma_trace.analysis.work import By
from gemma_trace.health.findings import Health
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, microseconds, milliseconds
from gemma_trace.trace.trace import Trace


def kernels_report(table: KernelTable, trace: Trace, health: Health, top: int, *, full_names: bool = False) -> Report:
    """The drilldown's `top` rows; 0 is all.

    Args:
        full_names: names as they are recorded, not folded for reading.
    """
    shown = table.rows[:top] if top else table.rows
    on_device = table.on == "device"
    has_grid = table.by in (By.KERNEL, By.SHAPE) and any(row.grid for row in shown)
    has_occupancy = any(row.occupancy_pct is not None for row in shown)
    of_stage = table.stage is not None
    has_devices = on_device and len(devices_of(trace)) > 1
    columns = (
        Column(table.by.value if on_device or table.by is not By.KERNEL else "op", align="left", overflow="ellipsis"),
        *((Column("family", 3, align="left"),) if table.by is not By.FAMILY else ()),
        *((Column("device", 2, align="left"),) if has_devices else ()),
        Column("sum ms"),
        Column("%", 1),
        *((Column("% of request", 7),) if of_stage else ()),
        Column("count", 2),
        Column("busy ms", 8),
        Column("min µs", 7),
        Column("median µs", 4),
        Column("mean µs", 7),
        Column("p90 µs", 6),
        Column("max µs", 5),
        *((Column("latency µs", 6),) if on_device else ()),
        *((Column("grid", 9), Column("block", 9)) if has_grid else ()),
        *((Column("occupancy %", 8),) if has_occupancy else ()),
    )
    rows = tuple(
        (
            row.name if full_names else folded(row.name),
            *((row.family,) if table.by is not By.FAMILY else ()),
            *((row.devices,) if has_devices else ()),
            milliseconds(row.sum_ns),
            f"{row.share_pct:.1f}",
            *((f"{row.request_share_pct:.1f}",) if of_stage else ()),
            f"{row.count:,}",
            milliseconds(row.busy_ns),
            microseconds(row.min_ns),
            microseconds(row.median_ns),
            microseconds(row.mean_ns),
            ABSENT if row.p90_ns is None else microseconds(row.p90_ns),
            microseconds(row.max_ns),
            *((ABSENT if row.launch_latency_ns is None else microseconds(row.launch_latency_ns),) if on_device else ()),
            *(_launch(row) if has_grid else ()),
            *((ABSENT if row.occupancy_pct is None else f"{row.occupancy_pct:.0f}",) if has_occupancy else ()),
        )
        for row in shown
    )
    notes = []
    if any(row.launch_shapes > 1 for row in shown):
        notes.append("+n: grid and block are the commonest of n more.")
    if len(shown) < len(table.rows):
        notes.append(f"{len(table.rows) - len(shown)} more rows: --top 0 shows all.")
    if has_devices and table.device is None:
        notes.append("busy is that of each device, summed up over the devices.")
    if table.totals.waiting_ns:
        notes.append(
            f"Other threads wait for {milliseconds(table.totals.waiting_ns)} ms, which is no work and in no row."
        )
    whole = sum(row.sum_ns for row in table.rows)
    blank = ("",) * (len(columns) - 4 - (table.by is not By.FAMILY) - has_devices - of_stage)
    footer = (
        "all",
        *(("",) if table.by is not By.FAMILY else ()),
        *(("",) if has_devices else ()),
        milliseconds(whole),
        "100.0",
        *((f"{sum(row.request_share_pct for row in table.rows):.1f}",) if of_stage else ()),
        f"{sum(row.count for row in table.rows):,}",
        *blank,
    )
    return Report(
        command="kernels",
        source=[str(trace.path)],
        sections=(Section(_title(table, trace), columns, rows, footer=footer, notes=tuple(notes)),),
        records=[asdict(row) for row in shown],
        totals=asdict(table.totals) | {"on": table.on, "by": table.by.value},
        health=health,
    )


def _title(table: KernelTable, trace: Trace) -> str:
    what = "Device activities" if table.on == "device" else "Ops on the host by self time"
    if table.by not in (By.KERNEL, By.OP):
        what += f" by {table.by.value}" if table.on == "device" else f", by {table.by.value}"
    elif table.by is By.OP and table.on == "device":
        what += " by launching op"
    where = f" of {table.stage}" if table.stage else ""
    which = f", request {table.request}" if table.request is not None else ""
    ran_on = f", device {table.device}" if table.device is not None else ""
    return f"{what}{where}, {trace.label}{which}{ran_on}"


def _launch(row: KernelRow) -> tuple[str, str]:
    more = f" +{row.launch_shapes - 1}" if row.launch_shapes > 1 else ""
    return (f"{row.grid}{more}" if row.grid else ABSENT, row.block or ABSENT)
