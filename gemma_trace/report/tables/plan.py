"""The plan of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, GB, WORDS

if TYPE_CHECKING:
    from gemma_trace.capture.plan import CellPlan

RUN: Final = Col("run", "run", WORDS, definition="the cell's name")
PARAMETERS: Final = Col(
    "parameters", "parameters", COUNT, definition="of the model; none where only the Hub knows", priority=1
)
NEEDED: Final = Col(
    "needed_bytes",
    "needs",
    GB,
    definition="the size of the weights, and an estimate of what a request requires besides them",
)
FREE: Final = Col("free_bytes", "free", GB, definition="what the device has free; none without such a device")
OUTLOOK: Final = Col("outlook", "outlook", definition="`fits`, `too large`, `no device` or `unknown`")

PLAN_FILE: Final = (
    RUN,
    Col("model", definition="the cell's model"),
    Col("dtype", definition="its dtype"),
    Col("device", definition="its device"),
    Col("image_backend", definition="its image processor"),
    Col("runs", definition="how many requests the cell would time"),
    *(PARAMETERS, NEEDED, FREE, OUTLOOK),
)
"""A row per cell."""

PLAN_COLS: Final = (RUN, PARAMETERS, NEEDED, FREE, OUTLOOK)
"""The same rows for people."""


def plan_report(cells: Sequence[CellPlan], output: str) -> Report:
    """A row per cell, with the memory that it needs and what is free."""
    fits = sum(cell.outlook == "fits" for cell in cells)
    notes = (
        f"{fits} of {len(cells)} cells fit here.",
        "needs: the weights, and an estimate of what a request requires besides them.",
    )
    title = f"Plan of {len(cells)} cells"
    return Report(
        command="sweep",
        source=[output],
        tables=(Table(title, PLAN_COLS, cells, notes=notes),),
        data=Table(title, PLAN_FILE, cells),
        totals={"cells": len(cells), "fit": fits},
    )
