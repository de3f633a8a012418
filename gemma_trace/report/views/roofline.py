"""What ops achieve of what their device can do, and how far stages are from their floor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.analysis.roofline.devices import DevicePeaks, device_peaks
from gemma_trace.analysis.roofline.floors import StageFloor, stage_floors
from gemma_trace.analysis.roofline.peaks import Peaks
from gemma_trace.analysis.roofline.rows import RowRoofline
from gemma_trace.analysis.work import By
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, milliseconds, percent, significant
from gemma_trace.trace.trace import Trace

OVER_PEAK_NOTE: Final = "over 100 % of peak: the data came from the cache, which is faster than the memory."
RATES_NOTE: Final = (
    "rates are over the time of ops whose shapes tell their work (covered); bytes: inputs and outputs, once."
)
FLOOR_NOTE: Final = (
    "floor: the least time in which the device can do the stage's ops; × floor: its busy time over that."
)
HOST_FLOOR_NOTE: Final = "floor: the least time in which the CPU can do the stage's ops; × floor: its time over that."
CONFIG_NOTE: Final = "from the model's config, for want of shapes: the floor of {stages}."


@dataclass(frozen=True)
class _Sum:
    """A stage's floors, summed up over the requests."""

    stage: str
    requests: int
    flops: float
    bytes: float
    floor_ns: float | None
    measured_ns: int
    compute_ns: float
    memory_ns: float
    covered_pct: float
    by_config: bool

    @property
    def distance(self) -> float | None:
        """Measured over floor."""
        return self.measured_ns / self.floor_ns if self.floor_ns else None


class Floors:
    """The floors of a breakdown as its table shows them.

    Args:
        floors: of all its requests.
        device: what they were held against.
    """

    def __init__(self, floors: Sequence[StageFloor], device: DevicePeaks) -> None:
        self.floors, self.device = tuple(floors), device
        self._sums = {found.stage: found for found in _summed(floors)}

    @property
    def shown(self) -> bool:
        """Whether any stage has a floor."""
        return any(found.floor_ns for found in self._sums.values())

    def columns(self) -> tuple[Column, ...]:
        """Two columns for a table of stages; none where no stage has a floor."""
        return (Column("floor ms", 3), Column("× floor", 3)) if self.shown else ()

    def cells(self, stage: str) -> tuple[str, ...]:
        """A stage's cells in these columns."""
        if not self.shown:
            return ()
        found = self._sums.get(stage)
        return (ABSENT, ABSENT) if found is None else _floor_cells(found)

    def notes(self) -> tuple[str, ...]:
        """What the columns mean and what they were held against; on a device without known rates why there are none."""
        if not self.shown:
            return (self.device.note,) if self.device.peaks is None and self.floors and self._on_device else ()
        return (
            FLOOR_NOTE if self._on_device else HOST_FLOOR_NOTE,
            *_config_note(self._sums.values()),
            self.device.note,
        )

    def totals(self) -> dict[str, Any]:
        """For machines: a row a stage of each request, and the device."""
        return {
            "floors": [asdict(floor) for floor in self.floors],
            "device": self.device.device,
            "peaks": self.device.note,
        }

    def sums(self) -> tuple[_Sum, ...]:
        """By stage."""
        return tuple(self._sums.values())

    @property
    def _on_device(self) -> bool:
        return any(floor.on == "device" for floor in self.floors)


def floors_of(trace: Trace, request: int | None = None, own: Sequence[Peaks] = ()) -> Floors:
    """The floors of a trace's stages.

    Args:
        request: only this one's; None is all.
        own: the user's own peaks.
    """
    device = device_peaks(trace, own)
    return Floors(stage_floors(trace, breakdown(trace, request), device.peaks), device)


def roofline_section(trace: Trace, request: int | None = None, own: Sequence[Peaks] = ()) -> Section:
    """Every stage of a trace against its device: for the report. Without rows where no shapes tell anything.

    Args:
        request: only the request of this index; None is the mean of all.
        own: the user's own peaks.
    """
    found = floors_of(trace, request, own)
    columns = (
        Column("stage", align="left"),
        Column("GFLOP", 4),
        Column("MB", 4),
        Column("TFLOP/s", 2),
        Column("GB/s", 2),
        *((Column("floor ms"), Column("× floor"), Column("bound", 3, align="left")) if found.shown else ()),
        Column("covered %", 5),
    )
    rows = []
    for stage in found.sums():
        seconds = stage.measured_ns / 1e9
        bound = ABSENT if not stage.floor_ns else "compute" if stage.compute_ns >= stage.memory_ns else "memory"
        rows.append(
            (
                stage.stage,
                significant(stage.flops / 1e9 / stage.requests),
                significant(stage.bytes / 1e6 / stage.requests),
                significant(stage.flops / 1e12 / seconds) if seconds else ABSENT,
                significant(stage.bytes / 1e9 / seconds) if seconds else ABSENT,
                *((*_floor_cells(stage), bound) if found.shown else ()),
                f"{stage.covered_pct:.1f}",
            )
        )
    notes = found.notes() or (found.device.note,)
    return Section("Roofline", columns, tuple(rows), notes=notes)


def with_rooflines(
    report: Report, table: KernelTable, rows: Sequence[RowRoofline], device: DevicePeaks, *, full_names: bool = False
) -> Report:
    """The drilldown's report with what its rows achieve in place of their spread.

    Args:
        report: of the same table, with as many records as it shows.
        rows: a roofline each row of the table.
    """
    shown = list(zip(table.rows, rows, strict=True))[: len(report.records)]
    has_family, has_peaks = table.by is not By.FAMILY, device.peaks is not None
    columns = (
        Column(report.sections[0].columns[0].header, align="left", overflow="ellipsis"),
        *((Column("family", 5, align="left"),) if has_family else ()),
        Column("sum ms"),
        Column("%", 2),
        Column("GFLOP", 6),
        Column("MB", 6),
        Column("TFLOP/s", 1),
        Column("GB/s", 1),
        *((Column("% of peak"), Column("bound", 3, align="left")) if has_peaks else ()),
        Column("covered %", 4),
    )
    cells = tuple(
        (
            row.name if full_names else folded(row.name),
            *((row.family,) if has_family else ()),
            milliseconds(row.sum_ns),
            f"{row.share_pct:.1f}",
            significant(found.flops / 1e9) if found.flops else ABSENT,
            significant(found.bytes / 1e6) if found.bytes else ABSENT,
            ABSENT if found.tflop_per_s is None else significant(found.tflop_per_s),
            ABSENT if found.gb_per_s is None or not found.bytes else significant(found.gb_per_s),
            *((_percent(found.peak_pct), found.bound or ABSENT) if has_peaks else ()),
            f"{found.covered_pct:.1f}",
        )
        for row, found in shown
    )
    covered_ns = sum(found.covered_pct / 100 * row.sum_ns for row, found in zip(table.rows, rows, strict=True))
    whole_ns = sum(row.sum_ns for row in table.rows)
    footer = (
        "all",
        *(("",) if has_family else ()),
        milliseconds(whole_ns),
        "100.0",
        significant(sum(found.flops for found in rows) / 1e9),
        significant(sum(found.bytes for found in rows) / 1e6),
        *("",) * (4 if has_peaks else 2),
        percent(covered_ns, whole_ns),
    )
    over = any(found.peak_pct is not None and found.peak_pct > 100 for _, found in shown)
    hidden = (f"{len(rows) - len(shown)} more rows: --top 0 shows all.",) if len(shown) < len(rows) else ()
    notes = (*hidden, RATES_NOTE, *((OVER_PEAK_NOTE,) if over else ()), device.note)
    section = Section(report.sections[0].title, columns, cells, footer=footer, notes=notes)
    return Report(
        command=report.command,
        source=report.source,
        sections=(section,),
        records=[dict(record) | asdict(found) for record, (_, found) in zip(report.records, shown, strict=True)],
        totals={**report.totals, "device": device.device, "peaks": device.note},
        health=report.health,
    )


def _summed(floors: Iterable[StageFloor]) -> list[_Sum]:
    by_stage: dict[str, list[StageFloor]] = {}
    for floor in floors:
        by_stage.setdefault(floor.stage, []).append(floor)
    return [_sum(stage, each) for stage, each in by_stage.items()]


def _sum(stage: str, floors: list[StageFloor]) -> _Sum:
    measured = sum(floor.measured_ns for floor in floors)
    known = [floor.floor_ns for floor in floors if floor.floor_ns is not None]
    return _Sum(
        stage=stage,
        requests=len(floors),
        flops=sum(floor.flops for floor in floors),
        bytes=sum(floor.bytes for floor in floors),
        floor_ns=sum(known) if len(known) == len(floors) else None,
        measured_ns=measured,
        compute_ns=sum(floor.compute_ns or 0 for floor in floors),
        memory_ns=sum(floor.memory_ns or 0 for floor in floors),
        covered_pct=sum(floor.covered_pct * floor.measured_ns for floor in floors) / measured if measured else 0.0,
        by_config=any(floor.floor_source == "config" for floor in floors),
    )


def _floor_cells(found: _Sum) -> tuple[str, str]:
    if not found.floor_ns or found.distance is None:
        return ABSENT, ABSENT
    return milliseconds(found.floor_ns / found.requests), significant(found.distance)


def _config_note(sums: Iterable[_Sum]) -> tuple[str, ...]:
    stages = [found.stage for found in sums if found.by_config]
    return (CONFIG_NOTE.format(stages=", ".join(stages)),) if stages else ()


def _percent(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.1f}"
