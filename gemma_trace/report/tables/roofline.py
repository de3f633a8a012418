"""What ops achieve of what their device can do: by kernel, op or family, and by stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.analysis.roofline.achieved import AchievedRow, achieved_totals
from gemma_trace.analysis.roofline.devices import DevicePeaks
from gemma_trace.analysis.roofline.floor_sums import Floors, FloorSum
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.tables.floors import (
    BANDWIDTH,
    BOUND,
    BYTES,
    COVERED,
    DISTANCE,
    FLOOR,
    FLOPS,
    HAS_FLOOR,
    MATRIX_FLOPS,
    TFLOPS,
    floor_notes,
)
from gemma_trace.report.tables.kernels import FAMILY, KERNEL, KERNEL_FILE, MOST_ROWS, OF_FAMILIES, SHARE, SUM, name_col
from gemma_trace.report.units import PCT

OVER_PEAK_NOTE: Final = "Above 100% of the peak, the data came from the cache, which is faster than the memory."
RATES_NOTE: Final = (
    "Rates are over the time of the ops whose work follows from their shapes (covered); bytes: inputs and outputs, "
    "each counted once."
)

HAS_PEAKS: Final = "the device's peak rates are known"

PEAK: Final = Col(
    "peak_pct",
    "% of peak",
    replace(PCT, suffix=""),
    definition=(
        "100 · Σ over the ops of the larger of `matrix_flops` / the rate for their dtype and `bytes` / the memory's "
        "rate / the time that is covered; over 100 where the data came from the cache; none across the bus, and "
        "without rates"
    ),
    when=HAS_PEAKS,
)
ROOFLINE_FILE: Final = (
    replace(
        FLOPS,
        definition=(
            "as under *Floor*; an op's are spread over its activities by their durations. A copy moves its size, on "
            "the device twice"
        ),
    ),
    replace(MATRIX_FLOPS, definition="as under *Floor*"),
    replace(BYTES, definition="as under *Floor*"),
    TFLOPS,
    BANDWIDTH,
    PEAK,
    replace(BOUND, definition="`compute` or `memory`: which roof most of that sum is"),
    replace(COVERED, definition="100 · time of ops with a formula and of copies / `sum_ns`"),
)
"""What rows of the drilldown have beside their times."""


def _flops(row: AchievedRow) -> float | None:
    return row.achieved.flops or None


def _bytes(row: AchievedRow) -> float | None:
    return row.achieved.bytes or None


def _gb_per_s(row: AchievedRow) -> float | None:
    return row.achieved.gb_per_s if row.achieved.bytes else None


_COLS: Final = (
    FAMILY.at(5).within("row"),
    SUM.within("row"),
    SHARE.at(2).within("row"),
    FLOPS.at(6).of(_flops),
    BYTES.at(6).of(_bytes),
    TFLOPS.at(1).within("achieved"),
    BANDWIDTH.at(1).of(_gb_per_s),
    PEAK.within("achieved"),
    BOUND.at(3, when=HAS_PEAKS).within("achieved"),
    COVERED.at(4).within("achieved"),
)

STAGE_COLS: Final = (
    Col("stage", "stage"),
    FLOPS.at(4).of("mean_flops"),
    BYTES.at(4).of("mean_bytes"),
    TFLOPS.at(2),
    BANDWIDTH.at(2),
    FLOOR.at(0).of("mean_floor_ns"),
    DISTANCE.at(0),
    BOUND.at(3, when=HAS_FLOOR),
    COVERED.at(5),
)
"""A row per stage, the mean over the requests."""


def stage_rooflines(floors: Floors) -> Table[FloorSum]:
    """Every stage against its device. Without rows where no shapes tell anything."""
    conditions = holding({HAS_FLOOR: floors.are_known})
    notes = floor_notes(floors) or (floors.device.note,)
    return Table("Roofline", STAGE_COLS, floors.sums, notes=notes, conditions=conditions)


def with_rooflines(
    report: Report,
    table: KernelTable,
    rows: tuple[AchievedRow, ...],
    device: DevicePeaks,
    top: int | None = None,
    *,
    full_names: bool = False,
) -> Report:
    """The drilldown's report with what its rows achieve in place of their spread.

    Args:
        report: of the same table.
        rows: all rows of the table.
        top: as `kernels_report` has it.
    """
    shown = MOST_ROWS if top is None else top
    is_over = any((each.achieved.peak_pct or 0) > 100 for each in (rows[:shown] if shown else rows))
    conditions = {OF_FAMILIES: table.by is not By.FAMILY, HAS_PEAKS: device.peaks is not None}
    people = Table(
        report.tables[0].title,
        (name_col(table, full_names=full_names).within("row"), *_COLS),
        rows,
        _totals(rows),
        (RATES_NOTE, *((OVER_PEAK_NOTE,) if is_over else ()), device.note),
        holding(conditions),
    ).cut(shown)
    cols = (*(col.within("row") for col in KERNEL_FILE), *(col.within("achieved") for col in ROOFLINE_FILE))
    return replace(
        report,
        tables=(people,),
        data=Table(report.data.title, cols, rows).cut(top or 0),
        totals={**report.totals, "device": device.device, "peaks": device.note},
    )


def _totals(rows: tuple[AchievedRow, ...]) -> dict[str, Any]:
    totals = achieved_totals(rows)
    return {
        KERNEL.key: "all",
        SUM.key: totals.sum_ns,
        SHARE.key: 100.0,
        FLOPS.key: totals.flops,
        BYTES.key: totals.bytes,
        COVERED.key: totals.covered_pct,
    }
