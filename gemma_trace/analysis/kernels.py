"""The drilldown: which kernels cost a stage its time; on a trace without device, which ops by self time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gemma_trace.analysis.intervals import union_ns
from gemma_trace.analysis.taxonomy import OTHER, family_of
from gemma_trace.analysis.timeline import UNLINKED, Request, find_requests
from gemma_trace.errors import InputError
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE, Stage
from gemma_trace.trace.events import NONE, BoolArray, Codes, IntArray
from gemma_trace.trace.trace import Trace

OUTSIDE_OPS: Final = "(host work outside ops)"
"""The row of host time in which no PyTorch op is the innermost span: Python, Pillow, waiting."""


@dataclass(frozen=True)
class KernelRow:
    """All activities of one name; on the host, all calls of one op by self time.

    Attributes:
        family: what kind of work it is.
        count: how many.
        sum_ns: the sum of their lengths.
        busy_ns: the length of the union of their intervals.
        share_pct: of the sum of all rows' `sum_ns`.
    """

    name: str
    family: str
    count: int
    sum_ns: int
    busy_ns: int
    min_ns: int
    median_ns: float
    max_ns: int
    share_pct: float


@dataclass(frozen=True)
class KernelTotals:
    """Of what was selected.

    Attributes:
        activities: device activities.
        unlinked: those of them without a launch in the trace.
        device_sum_ns, device_busy_ns: the sum of their lengths, and of their union.
        host_self_ns: the sum of the rows where they are ops on the host, else 0.
    """

    activities: int
    unlinked: int
    device_sum_ns: int
    device_busy_ns: int
    host_self_ns: int


@dataclass(frozen=True)
class KernelTable:
    """Rows by descending sum.

    Attributes:
        on: `device` (activities), or `host` (ops by self time, where the selection has no activity).
        stage: the stage that was selected, if one was.
    """

    on: Literal["device", "host"]
    stage: str | None
    rows: tuple[KernelRow, ...]
    totals: KernelTotals


def kernel_table(trace: Trace, stage: str | None = None, request: int | None = None) -> KernelTable:
    """Sum up device activities by name, or, where the selection has none, ops by self time.

    Args:
        stage: only what this stage launched; `preprocessing` comes with the stages inside it. None is everything.
        request: only this request's. None is all of the trace.

    Raises:
        InputError: no such stage or request in this trace.
    """
    codes = _stage_codes(trace, stage)
    windows = _windows(trace, stage, request)
    activities, unlinked = _select_activities(trace, stage, codes, windows)
    if stage is not None and not len(activities) and not _has_ranges(trace, codes):
        raise InputError(f"{trace.path} has no stage {stage!r}; it has {', '.join(_stages_of(trace)) or 'none'}")
    spans = trace.spans
    on_device = len(activities) > 0
    if on_device:
        names = [spans.names[code] for code in range(len(spans.names))]
        rows = _rows(spans.name[activities], names, spans.ts_ns[activities], spans.end_ns[activities])
    else:
        rows = _op_rows(trace, codes, windows)
    return KernelTable(
        on="device" if on_device else "host",
        stage=stage,
        rows=tuple(rows),
        totals=KernelTotals(
            activities=len(activities),
            unlinked=unlinked,
            device_sum_ns=int(spans.dur_ns[activities].sum()),
            device_busy_ns=union_ns(spans.ts_ns[activities], spans.end_ns[activities]),
            host_self_ns=0 if on_device else sum(row.sum_ns for row in rows),
        ),
    )


def _stage_codes(trace: Trace, stage: str | None) -> list[int]:
    if stage is None:
        return list(range(len(trace.stage_names)))
    if stage == UNLINKED:
        return []
    known = [name for name in trace.stage_names if name != Stage.REQUEST]
    if stage not in known:
        raise InputError(f"no stage {stage!r}; the stages are {', '.join(known)}, {UNLINKED}")
    return [trace.stage_names.index(stage)]


def _windows(trace: Trace, stage: str | None, request: int | None) -> list[Request] | None:
    """The requests to look at; None is everywhere."""
    requests = find_requests(trace)
    if request is not None:
        if not 0 <= request < len(requests):
            raise InputError(f"{trace.path} has {len(requests)} requests, 0 to {len(requests) - 1}; no {request}")
        return [requests[request]]
    ours = REQUEST_CODE in trace.stage_range
    return requests if ours and stage != UNLINKED and not len(trace.activities) else None


def _within(instants: IntArray, windows: list[Request] | None) -> BoolArray:
    if windows is None:
        return np.ones(len(instants), dtype=bool)
    inside = np.zeros(len(instants), dtype=bool)
    for window in windows:
        inside |= (window.start_ns <= instants) & (instants < window.end_ns)
    return inside


def _select_activities(
    trace: Trace, stage: str | None, codes: list[int], windows: list[Request] | None
) -> tuple[IntArray, int]:
    """The activities, and how many of them are unlinked."""
    launch = trace.launch
    linked = launch >= 0
    asked_at = np.where(linked, trace.spans.ts_ns[launch], trace.spans.ts_ns[trace.activities])
    chosen = _within(asked_at, windows)
    if stage == UNLINKED:
        chosen &= ~linked
    elif stage is not None:
        chosen &= linked & np.isin(trace.stage_at(launch), codes)
    return trace.activities[chosen], int((chosen & ~linked).sum())


def _has_ranges(trace: Trace, codes: list[int]) -> bool:
    return bool(np.isin(trace.stage_range, codes).any()) or codes == [UNATTRIBUTED_CODE]


def _stages_of(trace: Trace) -> list[str]:
    present = np.unique(trace.stage_range[trace.stage_range != NONE])
    return [trace.stage_names[code] for code in present if code != REQUEST_CODE]


def _op_rows(trace: Trace, codes: list[int], windows: list[Request] | None) -> list[KernelRow]:
    """Ops by self time, and the row of what lies outside them."""
    spans, segments = trace.spans, trace.segments
    stage = trace.stage_at(segments.owner)
    chosen = np.isin(stage, codes) & _within(segments.start_ns, windows)
    owner = segments.owner[chosen]
    start, end = segments.start_ns[chosen], segments.end_ns[chosen]
    is_op = trace.is_op[owner]
    names = [*spans.names, OUTSIDE_OPS]
    code = np.where(is_op, spans.name[owner], len(spans.names))
    # An op's call may have several segments; outside ops each segment stands for itself.
    call = np.where(is_op, owner, len(spans) + np.arange(len(owner)))
    return _rows(code, names, start, end, call)


def _rows(
    code: Codes, names: list[str], start: IntArray, end: IntArray, call: IntArray | None = None
) -> list[KernelRow]:
    """A row a name. Intervals with the same `call` count as one, of their summed length."""
    length = end - start
    total = max(1, int(length.sum()))
    rows = []
    order = np.argsort(code, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        if not len(group):
            continue
        lengths = length[group]
        if call is not None:
            ids, place = np.unique(call[group], return_inverse=True)
            summed = np.zeros(len(ids), dtype=np.int64)
            np.add.at(summed, place, lengths)
            lengths = summed
        name = names[code[group[0]]]
        rows.append(
            KernelRow(
                name=name,
                family=OTHER if name == OUTSIDE_OPS else family_of(name),
                count=len(lengths),
                sum_ns=int(lengths.sum()),
                busy_ns=union_ns(start[group], end[group]),
                min_ns=int(lengths.min()),
                median_ns=float(np.median(lengths)),
                max_ns=int(lengths.max()),
                share_pct=100 * int(lengths.sum()) / total,
            )
        )
    return sorted(rows, key=lambda row: (-row.sum_ns, row.name))
