"""The drilldown: what costs a stage its time, by kernel, op, module, layer, family or shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal

import numpy as np

from gemma_trace.analysis.devices import label_of_device
from gemma_trace.analysis.grouping import By, Sort, parsed_choice
from gemma_trace.analysis.intervals import union_ns_by
from gemma_trace.analysis.sharing import clients_at_once
from gemma_trace.analysis.statistics import MIN_N_FOR_P90
from gemma_trace.analysis.timeline import Request, busy_ns
from gemma_trace.analysis.work_groups import Groups, families, group
from gemma_trace.analysis.work_pieces import Work, requests_of_work, select, waiting_ns
from gemma_trace.arguments import checked
from gemma_trace.tabular import Tabular, fields_of
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class KernelRow:
    """A row of the drilldown: on a device activities, on the host calls by self time.

    Attributes:
        family: what kind of work it is; of a row of several kinds, the kind that most of its time is.
        count: how many activities; on the host how many calls.
        sum_ns: the sum of their lengths.
        busy_ns: the length of the union of their intervals on each device, summed up; on the host that of their union.
        min_ns, median_ns, mean_ns, max_ns: of their lengths.
        p90_ns: the 90th percentile; None under ten.
        share_pct: of the sum of all rows' `sum_ns`, which is the stage's where one is selected.
        request_share_pct: of the same sum over all stages of the request, or of the trace where none is selected.
        devices: the indices of the devices that it ran on, e.g. "0, 1"; "" on the host.
        launch_latency_ns: median time from the start of the launching call to the start of the activity; None where
            nothing was launched. A device that is behind makes it long.
        grid, block: of the launches, as recorded; the commonest where `launch_shapes` is over 1.
        launch_shapes: how many different pairs of grid and block there are; 0 where none is recorded.
        occupancy_pct: mean of the estimated achieved occupancy, weighted by time; None where it isn't recorded.
    """

    name: str
    family: str
    count: int
    sum_ns: int
    busy_ns: int
    min_ns: int
    median_ns: float
    p90_ns: float | None
    max_ns: int
    mean_ns: float
    share_pct: float
    request_share_pct: float
    devices: str
    launch_latency_ns: float | None
    grid: str | None
    block: str | None
    launch_shapes: int
    occupancy_pct: float | None


@dataclass(frozen=True)
class KernelTotals:
    """Sums over the work that was selected.

    Attributes:
        activities: device activities.
        unlinked: those of them without a launch in the trace.
        device_sum_ns, device_busy_ns: the sum of their lengths, and of their union on each device, summed up.
        host_self_ns: the sum of the rows where they are of the host, else 0.
        waiting_ns: how long threads other than the requests' wait, which is in no row; 0 where the rows are a device's.
        shared_ns: what of the rows was for several requests of a server at once; it counts once.
    """

    activities: int
    unlinked: int
    device_sum_ns: int
    device_busy_ns: int
    host_self_ns: int
    waiting_ns: int
    shared_ns: int = 0


@dataclass(frozen=True, repr=False)
class KernelTable(Tabular):
    """Rows in the order that was asked for; their `sum_ns` add up to the total's to the nanosecond.

    Attributes:
        on: `device` (activities), or `host` (self time, where the selection has no activity).
        by: what a row is.
        stage: the stage that was selected, if one was.
        request: the request that was selected, if one was.
        device: the device that was selected, if one was.
        codes: the group of each row, as `work.group` numbers them.
    """

    on: Literal["device", "host"]
    by: By
    stage: str | None
    request: int | None
    device: int | None
    rows: tuple[KernelRow, ...]
    totals: KernelTotals
    codes: tuple[int, ...]

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"By {self.by.value}{f' of {self.stage}' if self.stage else ''}, on the {self.on}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per row of the drilldown."""
        yield from (dict(fields_of(row)) for row in self.rows)


@checked
def kernel_table(
    trace: Trace,
    stage: str | None = None,
    request: int | Request | None = None,
    by: By | str = By.KERNEL,
    sort: Sort | str = Sort.SUM,
    device: int | None = None,
) -> KernelTable:
    """Sum up device activities, or, where the selection has none, the host's self time.

    Args:
        stage: only what this stage launched; `preprocessing` comes with the stages inside it. None is everything.
        request: only this request's. None is all of the trace.
        by: what a row is: `kernel`, `op`, `module`, `layer`, `family` or `shape`.
        sort: what comes first: the largest `sum`, `busy`, `count`, `mean`, `median`, `max` or `latency`, or by `name`.
        device: only what ran on the device of this index. None is all of them.

    Raises:
        InputError: no such stage or request in this trace, or nothing of it ran on that device.
        ConfigError: no such `by` or `sort`.

    >>> kernel_table(load("trace.json.gz"), "prefill", by="family").rows      # doctest: +SKIP
    """
    by, sort = parsed_choice(By, by), parsed_choice(Sort, sort)
    work = select(trace, stage, request, device)
    whole = work if stage is None else select(trace, None, request, device)
    # A stage that ran on the host alone is held against the host's time of the request.
    whole_ns = int(whole.length_ns.sum()) if whole.on == work.on else 0
    groups = group(trace, work, by)
    rows = dict(zip(distinct(groups.code).tolist(), _rows(trace, work, groups, whole_ns), strict=True))
    order = sorted(rows, key=lambda code: _rank(rows[code], sort))
    on_device = work.on == "device"
    length = int(work.length_ns.sum())
    return KernelTable(
        on=work.on,
        by=by,
        stage=stage,
        request=None if request is None else trace.chosen(request)[0].index,
        device=device,
        rows=tuple(rows[code] for code in order),
        totals=KernelTotals(
            activities=len(work) if on_device else 0,
            unlinked=int((work.caller == NONE).sum()),
            device_sum_ns=length if on_device else 0,
            device_busy_ns=busy_ns(trace, work.span) if on_device else 0,
            host_self_ns=0 if on_device else length,
            waiting_ns=0 if on_device else waiting_ns(trace),
            shared_ns=_shared_ns(trace, work),
        ),
        codes=tuple(order),
    )


def _shared_ns(trace: Trace, work: Work) -> int:
    """How much of some work was for several of a server's clients at once."""
    if not clients_at_once(trace):
        return 0
    requests = np.bincount(requests_of_work(trace, work, trace.requests).piece, minlength=len(work))
    return int(work.length_ns[requests > 1].sum())


def _rank(row: KernelRow, sort: Sort) -> tuple[float, str]:
    values: dict[Sort, float | None] = {
        Sort.SUM: row.sum_ns,
        Sort.BUSY: row.busy_ns,
        Sort.COUNT: row.count,
        Sort.MEAN: row.mean_ns,
        Sort.MEDIAN: row.median_ns,
        Sort.MAX: row.max_ns,
        Sort.LATENCY: row.launch_latency_ns,
        Sort.NAME: 0,
    }
    value = values[sort]
    return (-value if value is not None else float("inf"), row.name)


def _rows(trace: Trace, work: Work, groups: Groups, whole_ns: int) -> list[KernelRow]:
    """A row a group that has any work, by the groups' codes."""
    used, code = np.unique(groups.code, return_inverse=True)
    if not len(used):
        return []
    lengths, owner = _call_lengths(work, groups, code)
    edges = np.searchsorted(owner, np.arange(len(used) + 1))
    busy = _busy_ns(trace, work, code, len(used))
    family = _dominant_family(trace, work, code, len(used))
    latency = _launch_latencies(trace, work, code, len(used))
    launches = _launch_shapes(trace, work, code, len(used))
    occupancy = _occupancies(trace, work, code, len(used))
    devices = _devices(trace, work, code, len(used))
    total = max(1, int(work.length_ns.sum()))
    rows = []
    for index, name_code in enumerate(used.tolist()):
        call_ns = lengths[edges[index] : edges[index + 1]]
        summed = int(call_ns.sum())
        grid, block, shapes = launches[index]
        rows.append(
            KernelRow(
                name=groups.names[name_code],
                family=family[index],
                count=len(call_ns),
                sum_ns=summed,
                busy_ns=int(busy[index]),
                min_ns=int(call_ns[0]),
                median_ns=_percentile(call_ns, 50),
                p90_ns=_percentile(call_ns, 90) if len(call_ns) >= MIN_N_FOR_P90 else None,
                max_ns=int(call_ns[-1]),
                mean_ns=summed / len(call_ns),
                share_pct=100 * summed / total,
                request_share_pct=100 * summed / (whole_ns or total),
                devices=devices[index],
                launch_latency_ns=latency[index],
                grid=grid,
                block=block,
                launch_shapes=shapes,
                occupancy_pct=occupancy[index],
            )
        )
    return rows


def _busy_ns(trace: Trace, work: Work, code: IntArray, groups: int) -> IntArray:
    """int64 [groups], the length of the union of each group's intervals, on a device that on each, summed up."""
    if work.on == "host":
        return union_ns_by(code, work.start_ns, work.end_ns, groups)
    known, device = np.unique(trace.spans.device[work.span], return_inverse=True)
    both = union_ns_by(code * len(known) + device, work.start_ns, work.end_ns, groups * len(known))
    summed: IntArray = both.reshape(groups, len(known)).sum(axis=1)
    return summed


def _call_lengths(work: Work, groups: Groups, code: IntArray) -> tuple[IntArray, IntArray]:
    """The length of every call, by group and ascending, and the group of each."""
    length = work.length_ns
    if work.on == "host":
        # Several stretches of self time are one call.
        order = np.lexsort((groups.call, code))
        fresh = np.append(True, (np.diff(code[order]) != 0) | (np.diff(groups.call[order]) != 0))
        first = np.flatnonzero(fresh)
        length, code = np.add.reduceat(length[order], first), code[order][first]
    order = np.lexsort((length, code))
    return length[order], code[order]


def _percentile(ascending: IntArray, percent: int) -> float:
    """Interpolated linearly, as `Distribution` does it."""
    place = (len(ascending) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ascending) - 1)
    return float(ascending[low] + (place - low) * (ascending[high] - ascending[low]))


def _dominant_family(trace: Trace, work: Work, code: IntArray, groups: int) -> list[str]:
    """The family that most of each group's time is."""
    family, names = families(trace, work)
    sums = np.zeros((groups, len(names)), dtype=np.int64)
    np.add.at(sums, (code, family), work.length_ns)
    return [names[index] for index in sums.argmax(axis=1).tolist()]


def _launch_latencies(trace: Trace, work: Work, code: IntArray, groups: int) -> list[float | None]:
    """Median time from the launching call to the activity."""
    if work.on == "host":
        return [None] * groups
    linked = work.caller >= 0
    waited = work.start_ns[linked] - trace.spans.ts_ns[work.caller[linked]]
    owner = code[linked]
    order = np.lexsort((waited, owner))
    edges = np.searchsorted(owner[order], np.arange(groups + 1))
    ascending = waited[order]
    return [
        _percentile(ascending[low:high], 50) if high > low else None
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]


def _launch_shapes(trace: Trace, work: Work, code: IntArray, groups: int) -> list[tuple[str | None, str | None, int]]:
    """The commonest grid and block of each group, and how many different ones it has."""
    shapes: list[tuple[str | None, str | None, int]] = [(None, None, 0)] * groups
    spans = trace.spans
    grid, block = (column[work.span].astype(np.int64) for column in (spans.grid, spans.block))
    known = (grid >= 0) & (block >= 0)
    if work.on == "host" or not known.any():
        return shapes
    texts = len(spans.texts)
    keys, counts = np.unique((code[known] * texts + grid[known]) * texts + block[known], return_counts=True)
    owners = keys // texts**2
    best = np.lexsort((-counts, owners))  # of each group the commonest first
    first = best[np.append(True, np.diff(owners[best]) != 0)]
    for index, owner in zip(first.tolist(), owners[first].tolist(), strict=True):
        _, pair = divmod(int(keys[index]), texts**2)
        shapes[owner] = (
            _dimensions(spans.texts[pair // texts]),
            _dimensions(spans.texts[pair % texts]),
            int((owners == owner).sum()),
        )
    return shapes


def _devices(trace: Trace, work: Work, code: IntArray, groups: int) -> list[str]:
    """The devices that each group ran on."""
    if work.on == "host":
        return [""] * groups
    known, device = np.unique(trace.spans.device[work.span], return_inverse=True)
    labels = [label_of_device(each) for each in known.tolist()]
    ran = np.zeros((groups, len(known)), dtype=bool)
    ran[code, device] = True
    return [", ".join(compress(labels, row)) for row in ran.tolist()]


def _dimensions(text: str) -> str:
    """Kineto's `[128, 1, 1]` as people write it.

    >>> _dimensions("[128, 1, 1]")
    '128×1×1'
    """
    return "×".join(part.strip() for part in text.strip("[] \n").split(","))


def _occupancies(trace: Trace, work: Work, code: IntArray, groups: int) -> list[float | None]:
    """Mean occupancy of each group, weighted by time."""
    recorded = trace.spans.occupancy_pct[work.span] >= 0
    if work.on == "host" or not recorded.any():
        return [None] * groups
    weight = np.bincount(code[recorded], work.length_ns[recorded], groups)
    summed = np.bincount(
        code[recorded], work.length_ns[recorded] * trace.spans.occupancy_pct[work.span[recorded]], groups
    )
    return [total / length if length else None for total, length in zip(summed.tolist(), weight.tolist(), strict=True)]
