"""What a machine can capture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import STATUS, WORDS

if TYPE_CHECKING:
    from gemma_trace.machine.checks import Check

CHECK_FILE: Final = (
    Col("name", "check", definition="what was looked at"),
    Col(
        "status",
        unit=STATUS,
        definition="`ok`; `missing`: a capture needs it; `absent`: something more could be done with it",
    ),
    Col("found", "found", WORDS, definition="what was found"),
    Col("mend", "mend", WORDS, definition="the command or step that mends it", priority=1),
)
"""A row per check."""


def doctor_report(checks: Sequence[Check], *, capable: bool) -> Report:
    """A row per check."""
    note = (
        "This machine can capture." if capable else "This machine can't capture yet; traces can be read all the same."
    )
    table = Table("What this machine can capture", CHECK_FILE, checks, notes=(note,))
    return Report("doctor", [], (table,), table, {"can_capture": capable})
