"""Work of the drilldown, group by group, split by the stages that it is for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.kernels import KernelRow, KernelTable
from gemma_trace.analysis.timeline import rows_in_order
from gemma_trace.analysis.work_groups import Groups, group
from gemma_trace.analysis.work_pieces import Work, stage_of_work
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class Split:
    """A sum by stage: those that have any, in the order of `stages`."""

    by_stage_ns: tuple[tuple[str, int], ...]

    @property
    def sum_ns(self) -> int:
        """The sum over the stages."""
        return sum(ns for _, ns in self.by_stage_ns)


@dataclass(frozen=True)
class FamilyLine:
    """One kind of work and its time in each stage."""

    name: str
    split: Split


@dataclass(frozen=True)
class KernelLine:
    """A kernel; on a CPU an op by its self time."""

    row: KernelRow
    split: Split


def family_lines(trace: Trace, work: Work) -> tuple[FamilyLine, ...]:
    """The kinds of work, the largest first; those that took no time are left out."""
    groups = group(trace, work, By.FAMILY)
    splits = _splits(trace, work, groups)
    lines = [FamilyLine(name, split) for name, split in zip(groups.names, splits, strict=True) if split.sum_ns]
    return tuple(sorted(lines, key=lambda line: (-line.split.sum_ns, line.name)))


def kernel_lines(trace: Trace, work: Work, table: KernelTable, top: int) -> tuple[KernelLine, ...]:
    """The first rows of a drilldown by kernel.

    Args:
        work: what the table is of.
        top: how many rows.
    """
    groups = group(trace, work, By.KERNEL)
    splits = _splits(trace, work, groups)
    # A name alone may be two groups': a trace can call a kernel what we call a rest.
    by_row = {(name, split.sum_ns): split for name, split in zip(groups.names, splits, strict=True)}
    return tuple(KernelLine(row, by_row[row.name, row.sum_ns]) for row in table.rows[:top])


def _splits(trace: Trace, work: Work, groups: Groups) -> list[Split]:
    """The work of each group by stage."""
    order = rows_in_order(trace)
    sums = np.zeros((len(groups.names), len(trace.stage_names) + 1), dtype=np.int64)
    np.add.at(sums, (groups.code, stage_of_work(trace, work)), work.length_ns)
    return [Split(tuple((name, row[index]) for index, name in order if row[index])) for row in sums.tolist()]
