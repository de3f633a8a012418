"""What costs each stage of a trace its time: kernels, or, in a trace without a device, ops by self time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.analysis.work_groups import Groups, families, group
from gemma_trace.analysis.work_pieces import Work, select, stage_of_work
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.trace import Trace

MOST_ROWS: Final = 500
"""So many rows of a trace have a name; all others are one row a stage."""

OTHERS: Final = "(others)"


@dataclass(frozen=True)
class StageKernel:
    """A kernel, or an op, in a stage.

    Attributes:
        side: `device` or `host`.
        family: what kind of work most of its time is.
        count: how many activities, or calls.
        sum_ns, min_ns, median_ns, max_ns: of their lengths; the median is rounded down.
    """

    stage: str
    side: str
    kernel: str
    family: str
    count: int
    sum_ns: int
    min_ns: int
    median_ns: int
    max_ns: int


def stage_kernels(trace: Trace, most: int | None = MOST_ROWS) -> list[StageKernel]:
    """The rows by stage, and in a stage those with the most time first. Their `sum_ns` is that of `kernel_table`.

    Args:
        most: so many rows have a name; None is all.
    """
    work = select(trace)
    if not len(work):
        return []
    groups = group(trace, work, By.KERNEL)
    stage_names = (*trace.stage_names, UNLINKED)
    kernels = len(groups.names) + 1
    key = stage_of_work(trace, work) * kernels + groups.code
    key = key if most is None else _with_others(key, work.length_ns, kernels, most)
    used, row = np.unique(key, return_inverse=True)
    length, owner = _calls(work, groups, row)
    edges = np.searchsorted(owner, np.arange(len(used) + 1)).tolist()
    family = _families(trace, work, row, len(used))
    kernel_rows = []
    for place, each in enumerate(used.tolist()):
        stage, kernel = divmod(each, kernels)
        calls = length[edges[place] : edges[place + 1]]
        is_rest = kernel == kernels - 1
        kernel_rows.append(
            StageKernel(
                stage=stage_names[stage],
                side=work.on,
                kernel=OTHERS if is_rest else groups.names[kernel],
                family=OTHERS if is_rest else family[place],
                count=len(calls),
                sum_ns=int(calls.sum()),
                min_ns=int(calls[0]),
                median_ns=int(calls[(len(calls) - 1) // 2] + calls[len(calls) // 2]) // 2,
                max_ns=int(calls[-1]),
            )
        )
    order = {name: place for place, name in enumerate(stage_names)}
    return sorted(kernel_rows, key=lambda row: (order[row.stage], -row.sum_ns, row.kernel))


def _with_others(key: IntArray, length_ns: IntArray, kernels: int, most: int) -> IntArray:
    """The keys of pieces, those beyond the `most` with the most time as the last kernel of their stage."""
    used, place = np.unique(key, return_inverse=True)
    if len(used) <= most:
        return key
    total = np.zeros(len(used), dtype=np.int64)
    np.add.at(total, place, length_ns)
    rest = np.ones(len(used), dtype=bool)
    rest[np.argsort(-total, kind="stable")[:most]] = False
    merged: IntArray = np.where(rest, used // kernels * kernels + kernels - 1, used)[place]
    return merged


def _calls(work: Work, groups: Groups, row: IntArray) -> tuple[IntArray, IntArray]:
    """The length of every call, by row and ascending, and the row of each; several pieces may be one call."""
    order = np.lexsort((groups.call, row))
    fresh = np.append(True, (np.diff(row[order]) != 0) | (np.diff(groups.call[order]) != 0))
    first = np.flatnonzero(fresh)
    length, owner = np.add.reduceat(work.length_ns[order], first), row[order][first]
    order = np.lexsort((length, owner))
    return length[order], owner[order]


def _families(trace: Trace, work: Work, row: IntArray, rows: int) -> list[str]:
    """The family that most of each row's time is."""
    family, names = families(trace, work)
    sums = np.zeros((rows, len(names)), dtype=np.int64)
    np.add.at(sums, (row, family), work.length_ns)
    return [names[place] for place in sums.argmax(axis=1).tolist()]
