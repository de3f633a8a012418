"""The plan of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import ABSENT

if TYPE_CHECKING:
    from gemma_trace.capture.plan import CellPlan


def plan_report(cells: Sequence[CellPlan], output: str) -> Report:
    """A row a cell, with the memory that it needs and what is free."""
    columns = (
        Column("run", align="left", overflow="fold"),
        Column("parameters", 1),
        Column("needs GB"),
        Column("free GB"),
        Column("outlook", align="left"),
    )
    rows = tuple(
        (
            cell.run,
            ABSENT if cell.parameters is None else f"{cell.parameters:,}",
            _gigabytes(cell.needed_bytes),
            _gigabytes(cell.free_bytes),
            cell.outlook,
        )
        for cell in cells
    )
    fits = sum(cell.outlook == "fits" for cell in cells)
    notes = (
        f"{fits} of {len(cells)} cells fit here.",
        "needs: the weights, and an estimate of what a request takes beside them.",
    )
    return Report(
        command="sweep",
        source=[output],
        sections=(Section(f"Plan of {len(cells)} cells", columns, rows, notes=notes),),
        records=[asdict(cell) for cell in cells],
        totals={"cells": len(cells), "fit": fits},
    )


def _gigabytes(count: int | None) -> str:
    return ABSENT if count is None else f"{count / 1e9:.1f}"
