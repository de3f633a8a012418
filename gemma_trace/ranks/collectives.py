"""The collectives of one rank: what its device, or where there is none its host, spent in them.

One row per device activity of communication; where a trace has no device, one per range in which the host waits for
the others. What a collective is comes from the arguments of its activity, else from those of the call that launched it
(`record_param_comms`), else, in traces older than torch 2.3, from the range around it (`nccl:all_reduce`) and the
shapes of its inputs, else from the kernel's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import first_come, intersect, union
from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.foreign import NONE
from gemma_trace.ranks.collective_names import Group, Identities, Identity
from gemma_trace.ranks.host_calls import host_calls
from gemma_trace.ranks.kinds import COMMS
from gemma_trace.trace.events import CodeArray, Codes, IntArray
from gemma_trace.trace.trace import Trace

COMMUNICATION: Final = "communication"
"""The family of kernels that talk to other devices."""


@dataclass(frozen=True)
class Collectives:
    """The collectives of one rank, by start. All columns have the length k.

    Attributes:
        kind: int8, codes into `COMMS`.
        dtype: int16, codes into `dtypes`.
        group: int16, codes into `groups`.
        seq: int64, counts the group's collectives; `NONE` where the trace doesn't tell.
        size_bytes: int64, as nccl-tests counts it; `NONE` where the trace doesn't tell.
        peer: int32, the other rank of a send or a receive; `NONE` for all else.
        start_ns, dur_ns: int64, on the trace's clock.
        launch_ns: int64, when the host called for it; `NONE` where its call isn't in the trace.
        stage: int16, the stage code of that call; where it isn't known the code behind the last, `unlinked`.
        part: int64, along `part_start_ns`: the collective whose time each part is.
        part_start_ns, part_end_ns: int64, the exposed parts: instants in which the collective runs and no computation
            does, and that no collective before it has; disjoint.
        splits: int64 [s, 3], of each all-to-all whose sizes differ by rank: its place, the least and the greatest
            number of bytes for one rank.
        dtypes, groups: the tables.
        on_device: whether they are device activities.
    """

    kind: npt.NDArray[np.int8]
    dtype: npt.NDArray[np.int16]
    group: npt.NDArray[np.int16]
    seq: IntArray
    size_bytes: IntArray
    peer: CodeArray
    start_ns: IntArray
    dur_ns: IntArray
    launch_ns: IntArray
    stage: npt.NDArray[np.int16]
    part: IntArray
    part_start_ns: IntArray
    part_end_ns: IntArray
    splits: IntArray
    dtypes: tuple[str, ...]
    groups: tuple[Group, ...]
    on_device: bool

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def exposed_ns(self) -> IntArray:
        """int64 [k], how long each is exposed."""
        exposed = np.zeros(len(self), dtype=np.int64)
        np.add.at(exposed, self.part, self.part_end_ns - self.part_start_ns)
        return exposed


def first_of(collectives: Collectives, count: int) -> Collectives:
    """The first of the collectives, with their parts."""
    rows = {
        name: getattr(collectives, name)[:count]
        for name in ("kind", "dtype", "group", "seq", "size_bytes", "peer", "start_ns", "dur_ns", "launch_ns", "stage")
    }
    parts = collectives.part < count
    of_parts = {name: getattr(collectives, name)[parts] for name in ("part", "part_start_ns", "part_end_ns")}
    return replace(collectives, **rows, **of_parts, splits=collectives.splits[collectives.splits[:, 0] < count])


def communication_activities(trace: Trace) -> IntArray:
    """int64, the indices of the device activities that are communication, by start."""
    named = np.array([family_of(name) == COMMUNICATION for name in trace.spans.names], dtype=bool)
    activities = trace.activities
    chosen: IntArray = activities[named[trace.spans.name[activities]] | (trace.spans.collective[activities] != NONE)]
    return chosen


def collectives_of(trace: Trace) -> Collectives:
    """The collectives of a trace of one rank."""
    identities = Identities(trace)
    on_device = bool(len(trace.activities))
    if on_device:
        rows = communication_activities(trace)
        calls = trace.launch[np.searchsorted(trace.activities, rows)]
    else:
        rows = identities.host_ranges()
        calls = host_calls(trace, rows)
    said_by = calls if on_device else rows
    known = [identities.of(row, call) for row, call in zip(rows.tolist(), said_by.tolist(), strict=True)]
    real = np.array([identity is not None for identity in known], dtype=bool)
    return _columns(trace, rows[real], calls[real], [identity for identity in known if identity is not None], on_device)


def _stages(trace: Trace, rows: IntArray, calls: IntArray, on_device: bool) -> Codes:
    """The stage code of each collective; the number of stages where its call isn't in the trace."""
    if on_device:
        return trace.activity_stage[np.searchsorted(trace.activities, rows)]
    return np.where(calls >= 0, trace.stage_at(calls), len(trace.stage_names))


def _columns(
    trace: Trace, rows: IntArray, calls: IntArray, identities: Sequence[Identity], on_device: bool
) -> Collectives:
    spans = trace.spans
    start, end = spans.ts_ns[rows], spans.ends_ns(rows)
    part, part_start, part_end = _exposed_parts(trace, rows) if on_device else _disjoint_parts(start, end)
    dtypes = {dtype: code for code, dtype in enumerate(dict.fromkeys(each.dtype for each in identities))}
    groups = {group: code for code, group in enumerate(dict.fromkeys(each.group for each in identities))}
    splits = [
        (place, each.least_bytes, each.most_bytes)
        for place, each in enumerate(identities)
        if each.least_bytes < each.most_bytes
    ]
    return Collectives(
        kind=np.array([COMMS.index(each.kind) for each in identities], dtype=np.int8),
        dtype=np.array([dtypes[each.dtype] for each in identities], dtype=np.int16),
        group=np.array([groups[each.group] for each in identities], dtype=np.int16),
        seq=np.array([each.seq for each in identities], dtype=np.int64),
        size_bytes=np.array([each.size_bytes for each in identities], dtype=np.int64),
        peer=np.array([each.peer for each in identities], dtype=np.int32),
        start_ns=start,
        dur_ns=end - start,
        launch_ns=np.where(calls >= 0, spans.ts_ns[calls], NONE),
        stage=_stages(trace, rows, calls, on_device).astype(np.int16),
        part=part,
        part_start_ns=part_start,
        part_end_ns=part_end,
        splits=np.array(splits, dtype=np.int64).reshape(-1, 3),
        dtypes=tuple(dtypes),
        groups=tuple(groups),
        on_device=on_device,
    )


def _exposed_parts(trace: Trace, rows: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Of each activity the parts in which nothing computes on any device of the process, and none before it runs.

    Args:
        rows: int64 [k], indices of spans, by start.

    Returns:
        int64 each: the place in `rows`, the start and the end of each part, by start.
    """
    spans = trace.spans
    computing = np.setdiff1d(trace.activities, rows)
    busy = union(spans.ts_ns[computing], spans.ends_ns(computing))
    place, start, end = _disjoint_parts(spans.ts_ns[rows], spans.ends_ns(rows))
    if not len(place):
        return place, start, end
    low, high = int(start.min()), int(end.max())
    idle = (np.append(low, busy[1]), np.append(busy[0], high))
    real = idle[1] > idle[0]
    part_start, part_end, owner, _ = intersect((start, end), (idle[0][real], idle[1][real]))
    return place[owner], part_start, part_end


def _disjoint_parts(start: IntArray, end: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Of each interval what no interval before it has; see `_exposed_parts`."""
    start, end = first_come(start, end)
    place = np.flatnonzero(end > start)
    return place, start[place], end[place]
