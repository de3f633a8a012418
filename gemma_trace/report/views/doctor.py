"""What a machine can capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from gemma_trace.report.model import Column, Report, Section

if TYPE_CHECKING:
    from gemma_trace.capture.doctor import Check


def doctor_report(checks: Sequence[Check], *, capable: bool) -> Report:
    """A row a check."""
    columns = (
        Column("check", align="left"),
        Column("", align="left", holds="status"),
        Column("found", align="left", overflow="fold"),
        Column("mend", 1, align="left", overflow="fold"),
    )
    rows = tuple((check.name, check.status.value, check.found, check.mend) for check in checks)
    notes = (
        "This machine can capture." if capable else "This machine can't capture yet; traces can be read all the same.",
    )
    return Report(
        command="doctor",
        source=[],
        sections=(Section("What this machine can capture", columns, rows, notes=notes),),
        records=[asdict(check) for check in checks],
        totals={"can_capture": capable},
    )
