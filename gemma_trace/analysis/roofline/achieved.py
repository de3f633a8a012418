"""Rows of the drilldown together with what they achieve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_trace.analysis.kernels import KernelRow, KernelTable
from gemma_trace.analysis.roofline.rows import RowRoofline


@dataclass(frozen=True)
class AchievedRow:
    """A row of the drilldown, and what it achieves."""

    row: KernelRow
    achieved: RowRoofline


@dataclass(frozen=True)
class AchievedTotals:
    """All rows of a drilldown together.

    Attributes:
        sum_ns: the sum of their time.
        covered_pct: the share of it that ops with a cost, or copies, take; None without time.
    """

    sum_ns: int
    flops: float
    bytes: float
    covered_pct: float | None


def achieved_rows(table: KernelTable, rooflines: Sequence[RowRoofline]) -> tuple[AchievedRow, ...]:
    """The rows of a drilldown, each with its roofline."""
    return tuple(AchievedRow(row, roofline) for row, roofline in zip(table.rows, rooflines, strict=True))


def achieved_totals(rows: Sequence[AchievedRow]) -> AchievedTotals:
    """The rows summed up."""
    sum_ns = sum(each.row.sum_ns for each in rows)
    covered_ns = sum(each.achieved.covered_pct / 100 * each.row.sum_ns for each in rows)
    return AchievedTotals(
        sum_ns,
        sum(each.achieved.flops for each in rows),
        sum(each.achieved.bytes for each in rows),
        100 * covered_ns / sum_ns if sum_ns else None,
    )
