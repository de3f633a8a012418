"""The drilldown of one trace: kernels, ops, modules, layers, families or shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from gemma_trace.analysis.devices import devices_of
from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.kernels import KernelRow, KernelTable
from gemma_trace.health.findings import Health
from gemma_trace.report.number_text import NO_FIGURE, milliseconds
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.units import COUNT, FIGURES, MS, NAME, PCT, US, whole
from gemma_trace.store import columns
from gemma_trace.trace.trace import Trace

MOST_ROWS: Final = 20
"""The rows that people see, unless they say how many."""

OF_FAMILIES: Final = "rows have a family"
SEVERAL_DEVICES: Final = "there are several devices"
OF_STAGE: Final = "a stage was selected"
ON_DEVICE: Final = "rows are of a device"
HAS_GRID: Final = "a launch has its dimensions"
HAS_OCCUPANCY: Final = "an occupancy is recorded"

KERNEL: Final = Col(
    "name",
    "kernel",
    NAME,
    definition=(
        "`--by kernel`: the activity's; `op`, `shape`: the innermost op around the launching call, with the dimensions "
        "of its tensors; `module`, `layer`: the innermost `nn.Module` frame or range around it; `family`: the kind of "
        "work"
    ),
)
FAMILY: Final = Col.stored(columns.FAMILY, "family", priority=3, when=OF_FAMILIES)
CALLS: Final = Col("count", "count", COUNT, definition="activities of this row", priority=2)
SUM: Final = Col.stored(columns.SUM_NS, "sum", MS)
BUSY: Final = Col(
    "busy_ns",
    "busy",
    MS,
    definition="length of the union of their intervals on each device, summed over the devices",
    priority=8,
)
LEAST: Final = Col.stored(columns.MIN_NS, "min", US, priority=7)
MEDIAN: Final = Col.stored(columns.MEDIAN_NS, "median", US, priority=4)
P90: Final = Col(
    "p90_ns", "p90", US, definition="90th percentile of the durations, interpolated linearly; from n = 10", priority=6
)
LONGEST: Final = Col.stored(columns.MAX_NS, "max", US, priority=5)
MEAN: Final = Col("mean_ns", "mean", US, definition="their mean", priority=7)
SHARE: Final = Col("share_pct", "", PCT, definition="100 · `sum_ns` / Σ `sum_ns` of all rows", priority=1)
REQUEST_SHARE: Final = Col(
    "request_share_pct",
    "% of request",
    replace(PCT, suffix=""),
    definition="100 · `sum_ns` / Σ `sum_ns` of all stages",
    priority=7,
    when=OF_STAGE,
)
DEVICES: Final = Col(
    "devices",
    "device",
    definition=(
        'the indices of the devices that it ran on, of those that `--device` leaves; "?" where an activity doesn\'t '
        "say; empty on the host. Tables show it where there are several"
    ),
    priority=2,
    when=SEVERAL_DEVICES,
)
LATENCY: Final = Col(
    "launch_latency_ns",
    "latency",
    US,
    definition=("median of: start of the activity less start of the launching call; long where the device is behind"),
    priority=6,
    when=ON_DEVICE,
)
_LAUNCH_SHAPES: Final = "+n: there are n more pairs of grid and block; the most common one is shown."
_SUMMED: Final = "busy is summed over the devices."

GRID: Final = Col(
    "grid", "grid", FIGURES, definition="the most common dimensions of the launches' grids", priority=9, when=HAS_GRID
)
BLOCK: Final = Col("block", "block", FIGURES, definition="the dimensions of their blocks", priority=9, when=HAS_GRID)
OCCUPANCY: Final = Col(
    "occupancy_pct",
    "occupancy",
    PCT,
    show=whole,
    definition=("Σ occupancy · duration / Σ duration, of the estimated achieved occupancy that Kineto records"),
    priority=8,
    when=HAS_OCCUPANCY,
)

KERNEL_FILE: Final = (
    *(KERNEL, FAMILY, CALLS, SUM, BUSY, LEAST, MEDIAN, P90, LONGEST, MEAN, SHARE, REQUEST_SHARE, DEVICES, LATENCY),
    *(GRID, BLOCK, Col("launch_shapes", definition="how many different pairs of grid and block there are"), OCCUPANCY),
)
"""A row per kernel, op, module, layer, family or shape."""


def _grid(row: KernelRow) -> str:
    more = f" +{row.launch_shapes - 1}" if row.launch_shapes > 1 else ""
    return f"{row.grid}{more}" if row.grid else NO_FIGURE


def _block(row: KernelRow) -> str:
    return row.block or NO_FIGURE


KERNEL_COLS: Final = (
    *(KERNEL, FAMILY, DEVICES, SUM, SHARE, REQUEST_SHARE, CALLS, BUSY, LEAST, MEDIAN, MEAN, P90, LONGEST, LATENCY),
    *(GRID.of(_grid), BLOCK.of(_block), OCCUPANCY),
)
"""The same rows for people."""

PAGE_COLS: Final = (KERNEL, SUM, SHARE, FAMILY, DEVICES, CALLS, MEDIAN, MEAN, LONGEST, LATENCY)
"""The kernels of the page."""


def kernels_report(
    table: KernelTable, trace: Trace, health: Health, top: int | None = None, *, full_names: bool = False
) -> Report:
    """The table of `gemma-trace kernels`: one row per kernel, op, module, layer, family or shape.

    Args:
        top: how many rows there are, 0 is all; None is `MOST_ROWS` for people, and all for files.
        full_names: names as they are recorded, not folded for reading.
    """
    data = Table("Kernels", KERNEL_FILE, table.rows).cut(top or 0)
    return Report(
        command="kernels",
        source=[str(trace.path)],
        tables=(kernels_table(table, trace, MOST_ROWS if top is None else top, full_names=full_names),),
        data=data,
        totals=asdict(table.totals) | {"on": table.on, "by": table.by.value},
        health=health,
    )


def kernels_table(table: KernelTable, trace: Trace, top: int, *, full_names: bool = False) -> Table[KernelRow]:
    """The drilldown for people; the totals are of all rows.

    Args:
        top: how many rows there are; 0 is all.
    """
    shown = table.rows[:top] if top else table.rows
    has_devices = table.on == "device" and len(devices_of(trace)) > 1
    conditions = {
        OF_FAMILIES: table.by is not By.FAMILY,
        SEVERAL_DEVICES: has_devices,
        OF_STAGE: table.stage is not None,
        ON_DEVICE: table.on == "device",
        HAS_GRID: table.by in (By.KERNEL, By.SHAPE) and any(row.grid for row in shown),
        HAS_OCCUPANCY: any(row.occupancy_pct is not None for row in shown),
    }
    rows = table.rows
    totals = {
        KERNEL.key: "all",
        SUM.key: sum(row.sum_ns for row in rows),
        SHARE.key: 100.0,
        REQUEST_SHARE.key: sum(row.request_share_pct for row in rows),
        CALLS.key: sum(row.count for row in rows),
    }
    return Table(
        title_of(table, trace),
        (name_col(table, full_names=full_names), *KERNEL_COLS[1:]),
        rows,
        totals,
        _notes(table, shown, has_devices=has_devices),
        holding(conditions),
        about={_LAUNCH_SHAPES: (GRID.key, BLOCK.key), _SUMMED: (BUSY.key,)},
    ).cut(top)


def name_col(table: KernelTable, *, full_names: bool) -> Col:
    """The column of names, called after what the rows are."""
    header = table.by.value if table.on == "device" or table.by is not By.KERNEL else By.OP.value
    show: Callable[[Any], str] | None = str if full_names else None
    return replace(KERNEL, header=header, show=show)


def title_of(table: KernelTable, trace: Trace) -> str:
    """What the rows are of."""
    what = "Device activities" if table.on == "device" else "Ops on the host by self time"
    if table.by not in (By.KERNEL, By.OP):
        what += f" by {table.by.value}" if table.on == "device" else f", by {table.by.value}"
    elif table.by is By.OP and table.on == "device":
        what += " by launching op"
    where = f" of {table.stage}" if table.stage else ""
    which = f", request {table.request}" if table.request is not None else ""
    ran_on = f", device {table.device}" if table.device is not None else ""
    return f"{what}{where}, {trace.label}{which}{ran_on}"


def _notes(table: KernelTable, shown: Sequence[KernelRow], *, has_devices: bool) -> tuple[str, ...]:
    notes = []
    if any(row.launch_shapes > 1 for row in shown):
        notes.append(_LAUNCH_SHAPES)
    if has_devices and table.device is None:
        notes.append(_SUMMED)
    if table.totals.waiting_ns:
        waiting = milliseconds(table.totals.waiting_ns)
        notes.append(f"Other threads wait for {waiting} ms; that is not work and is in no row.")
    if table.totals.shared_ns:
        shared = milliseconds(table.totals.shared_ns)
        once = "they count once" if table.request is None else "they are in full here"
        notes.append(f"Of this, {shared} ms are in steps of the engine that several requests share; {once}.")
    return tuple(notes)
