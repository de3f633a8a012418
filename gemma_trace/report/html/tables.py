"""The tables that only the page has: kernels with their split by stage, runs beside each other, changes with bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from gemma_trace.analysis.changes import Change, TraceDiff
from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.analysis.stage_splits import KernelLine
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.report.html.cells import CHART
from gemma_trace.report.html.model import RunView
from gemma_trace.report.table import Col, Table, holding
from gemma_trace.report.tables import diff, kernels, summary
from gemma_trace.report.units import STATUS

CHANGES: Final = 15
"""How many families, ops and kernels each a comparison shows."""

_KERNEL, *_OTHERS = (col.within("row") for col in kernels.PAGE_COLS)
_KERNEL_COLS: Final = (*_OTHERS[:2], Col("split", "by stage", CHART), *_OTHERS[2:])


def page_kernels(table: KernelTable, lines: Sequence[KernelLine], *, has_several_devices: bool) -> Table[KernelLine]:
    """The kernels of the page.

    Args:
        table: all of them.
        lines: those that are shown.
    """
    on_device = table.on == "device"
    conditions = {
        kernels.OF_FAMILIES: True,
        kernels.ON_DEVICE: on_device,
        kernels.SEVERAL_DEVICES: on_device and has_several_devices,
    }
    name = replace(_KERNEL, header=kernels.name_col(table, full_names=False).header)
    return Table("Kernels" if on_device else "Ops", (name, *_KERNEL_COLS), lines, conditions=holding(conditions))


def _measure(key: str, view: RunView) -> Distribution | None:
    return view.overview.measures[key]


def page_runs(runs: Sequence[RunView], notes: Sequence[str]) -> Table[RunView]:
    """A row per run: the measures that a run has."""
    known = [col for col in summary.PAGE_MEASURES if any(run.overview.measures[col.key] for run in runs)]
    cols = (
        summary.RUN.of("label"),
        *(col.of(partial(_measure, col.key)) for col in known),
        summary.INFLATION.of("headline.inflation"),
        summary.RUNS.of("overview.runs"),
    )
    return Table("All runs", cols, runs, notes=tuple(notes))


@dataclass(frozen=True)
class _ChangeLine:
    """A stage of a comparison.

    Attributes:
        sides_pct: before and after, in percent of the longest.
    """

    change: Change
    sides_pct: tuple[float, float]


def changed(change: Change) -> str:
    """What is said of a change: also of one that isn't certain."""
    if change.status != "same":
        return change.status
    return "not certain" if change.relative_pct is not None and abs(change.relative_pct) >= 1 else "same"


_STATUS: Final = Col("status", "change", STATUS, value=changed)
_STAGE, *_SIDES_AND_MORE = diff.STAGE_COLS[:-1]
_STAGE_COLS: Final = (
    _STAGE.within("change"),
    Col("sides_pct", "before, after", CHART),
    *(col.within("change") for col in (*_SIDES_AND_MORE, _STATUS)),
)
_INSIDE_COLS: Final = (diff.WHAT, diff.STAGE_NAME, *(*diff.SIDES, diff.DIFFERENCE, diff.RELATIVE), _STATUS)
_LEVELS: Final = ("family", "op", "kernel")


def page_stages(diff: TraceDiff, notes: Sequence[str]) -> Table[Any]:
    """The stages of a comparison, with bars."""
    widest = max((_median(side) for change in diff.stages for side in (change.before, change.after)), default=0.0)
    lines = [
        _ChangeLine(change, (_share(change.before, widest), _share(change.after, widest))) for change in diff.stages
    ]
    return Table("Stages before and after", _STAGE_COLS, lines, notes=tuple(notes))


def page_changes(comparison: TraceDiff) -> list[Table[Change]]:
    """The largest changes inside of the stages: a table per level that has any."""
    tables = []
    for level in _LEVELS:
        changed = [change for change in comparison.inside if change.level == level and change.status != "same"]
        if changed:
            table = Table(f"{diff.LEVELS[level]}, by the size of the change", _INSIDE_COLS, changed)
            tables.append(table.cut(CHANGES, "{} more changed; gemma-trace diff --top 0 shows all."))
    return tables


def _median(measured: Distribution | None) -> float:
    return measured.median if measured else 0.0


def _share(measured: Distribution | None, widest: float) -> float:
    return 100 * _median(measured) / (widest or 1.0)
