"""The partition of a request's wall time into stages.

At every instant a request belongs to exactly one stage: the one whose activity runs on a device (the earliest started,
where several do); when all devices are idle, the innermost stage open on the request's thread; where that has none, or
only waits, the one open on another thread of the request (the earliest opened, where several are); else
`unattributed`. So the parts add up to the wall time, to the nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import Intervals, clip, first_come, gaps, intersect, union, union_ns, union_ns_by
from gemma_trace.analysis.other_threads import host_ns_of_others, stages_of_others, waiting_in
from gemma_trace.analysis.stretches import Stretches, overlaid, stage_stretches
from gemma_trace.errors import InputError
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE, Stage
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.requests import WHOLE_TRACE, Request, is_step_name
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

__all__ = [
    "UNLINKED",
    "Pieces",
    "Request",
    "StageTime",
    "answering_stretches",
    "busy_ns",
    "chosen_requests",
    "cut",
    "find_requests",
    "first_token_ns",
    "host_segments",
    "is_step_name",
    "partition",
    "ranges_in",
    "rows_in_order",
    "ttft_ns",
]

UNLINKED: Final = "unlinked"
"""The row of device activities whose launch isn't in the trace."""

_SAMPLING: Final = list(Stage).index(Stage.SAMPLING)
_IMAGE_LOAD: Final = list(Stage).index(Stage.IMAGE_LOAD)
_PREFILL: Final = list(Stage).index(Stage.PREFILL)


@dataclass(frozen=True)
class StageTime:
    """What one stage took of one request. design: host_ms, device_busy_ms, device_sum_ms, time_ms.

    Attributes:
        request: the request's index.
        stage: the stage's name, or `unlinked`.
        host_ns: the length of the stage's host ranges less that of the stages nested in them.
        device_busy_ns: the length of the union of its device activities.
        device_sum_ns: the sum of their durations.
        time_ns: the share of the request's wall time that this stage answers for.
        device_ns: the part of `time_ns` in which the device is active.
        exposed_host_ns: the part in which it is idle.
        activities: how many device activities it launched.
        launches: how many calls launched them.
    """

    request: int
    stage: str
    host_ns: int
    device_busy_ns: int
    device_sum_ns: int
    time_ns: int
    device_ns: int
    exposed_host_ns: int
    activities: int
    launches: int


def find_requests(trace: Trace) -> list[Request]:
    """The requests of a trace: our own ranges; failing those its `ProfilerStep#N`; failing those the whole trace."""
    return list(trace.requests)


def chosen_requests(trace: Trace, request: int | None) -> list[Request]:
    """The request of this index alone; all of them for None.

    Raises:
        InputError: there is no such request.
    """
    requests = find_requests(trace)
    if request is None:
        return requests
    if not 0 <= request < len(requests):
        raise InputError(f"{trace.path} has {len(requests)} requests, 0 to {len(requests) - 1}; no {request}")
    return [requests[request]]


def first_token_ns(trace: Trace, request: Request) -> int | None:
    """The instant at which the first token id is on the host.

    None in a trace without sampling ranges, and in a whole trace of several prefills, which starts with no request.
    """
    ranges = ranges_in(trace, request)
    stages = trace.stage_range[ranges]
    if request.label == WHOLE_TRACE and _outermost(trace, ranges[stages == _PREFILL]) > 1:
        return None
    ends = trace.spans.end_ns[ranges[stages == _SAMPLING]]
    return int(ends.min()) if len(ends) else None


def _outermost(trace: Trace, ranges: IntArray) -> int:
    """How many of these ranges lie in no other of them."""
    spans = trace.spans
    return int((nest(spans.ts_ns[ranges], spans.end_ns[ranges], spans.track[ranges]).parent == NONE).sum())


def ttft_ns(trace: Trace, request: Request) -> int | None:
    """Request start → first token id on the host, less `image_load`; None where there is no `first_token_ns`."""
    first = first_token_ns(trace, request)
    if first is None:
        return None
    ranges = ranges_in(trace, request)
    load = ranges[(trace.stage_range[ranges] == _IMAGE_LOAD) & (trace.spans.end_ns[ranges] <= first)]
    return first - request.start_ns - union_ns(trace.spans.ts_ns[load], trace.spans.end_ns[load])


@dataclass(frozen=True)
class Pieces:
    """A request's wall time, cut up: each instant is in one of the pieces of `device` or of `idle`.

    Attributes:
        device: [m], of each activity the instants that it owns: those that no activity before it has.
        device_row: int64 [m], the stage code of each activity; the number of stages stands for `unlinked`.
        idle: [s], the stretches in which all devices are idle, cut where the stage that answers for them changes.
        idle_row: int64 [s], the stage code of each.
        idle_track: int64 [s], the thread on which that stage is open: the request's, or another one's.
        gaps: [g], the stretches in which the device is idle, whatever the host does.
        gap: int64 [s], the gap each idle stretch is in.
        stretches: [t], the request's thread cut where the stage changes.
        stretch_row: int64 [t], the stage code of each.
        own: bool [m], which activities are the request's: launched in it, or unlinked and running in it.
    """

    device: Intervals
    device_row: IntArray
    idle: Intervals
    idle_row: IntArray
    gaps: Intervals
    gap: IntArray
    idle_track: IntArray
    stretches: Intervals
    stretch_row: IntArray
    own: BoolArray


def cut(trace: Trace, request: Request) -> Pieces:
    """Cut a request's wall time up by what the device and the request's thread do."""
    spans, activities, launch = trace.spans, trace.activities, trace.launch
    linked = launch >= 0
    launched = linked & _starts_in(trace, launch, request)
    row = np.full(len(activities), UNATTRIBUTED_CODE, dtype=np.int64)
    row[launched] = trace.stage_at(launch[launched])
    row[~linked] = len(trace.stage_names)
    start, end = clip(spans.ts_ns[activities], spans.end_ns[activities], request.start_ns, request.end_ns)
    idle_gaps = gaps(union(start, end), request.start_ns, request.end_ns)
    stretches = stage_stretches(trace, request)
    answering = answering_stretches(trace, request)
    idle_start, idle_end, stretch, gap = intersect((answering.start_ns, answering.end_ns), idle_gaps)
    return Pieces(
        device=first_come(start, end),
        device_row=row,
        idle=(idle_start, idle_end),
        idle_row=answering.row[stretch],
        gaps=idle_gaps,
        gap=gap,
        idle_track=answering.track[stretch],
        stretches=(stretches.start_ns, stretches.end_ns),
        stretch_row=stretches.row,
        own=launched | (~linked & (start < end)),
    )


def answering_stretches(trace: Trace, request: Request) -> Stretches:
    """Whose time each instant is while all devices are idle: the request thread's stages, and others' in between."""
    stretches = stage_stretches(trace, request)
    others = stages_of_others(trace, request)
    return overlaid(stretches, others, waiting_in(trace, request, stretches)) if len(others) else stretches


def partition(trace: Trace, request: Request) -> list[StageTime]:
    """The request's stages, in the order a request goes through them; those it hasn't are left out.

    `unattributed` is always there. The `time_ns` add up to `request.wall_ns`.
    """
    spans, activities, launch = trace.spans, trace.activities, trace.launch
    rows = len(trace.stage_names) + 1
    pieces = cut(trace, request)
    row = pieces.device_row
    device_ns = _sum_by(row, pieces.device[1] - pieces.device[0], rows)
    exposed_ns = _sum_by(pieces.idle_row, pieces.idle[1] - pieces.idle[0], rows)
    host_ns = _sum_by(pieces.stretch_row, pieces.stretches[1] - pieces.stretches[0], rows)
    host_ns += host_ns_of_others(trace, request, rows)
    times = []
    for index, name in rows_in_order(trace):
        mine = pieces.own & (row == index)
        own = activities[mine]
        time_ns = int(device_ns[index] + exposed_ns[index])
        if not (time_ns or host_ns[index] or len(own) or index == UNATTRIBUTED_CODE):
            continue
        times.append(
            StageTime(
                request=request.index,
                stage=name,
                host_ns=int(host_ns[index]),
                device_busy_ns=busy_ns(trace, own),
                device_sum_ns=int(spans.dur_ns[own].sum()),
                time_ns=time_ns,
                device_ns=int(device_ns[index]),
                exposed_host_ns=int(exposed_ns[index]),
                activities=len(own),
                launches=len(np.unique(launch[mine & (launch >= 0)])),
            )
        )
    return times


def busy_ns(trace: Trace, activities: IntArray) -> int:
    """How long devices were busy with these activities: the length of their union on each device, summed up."""
    spans = trace.spans
    devices, place = np.unique(spans.device[activities], return_inverse=True)
    lengths = union_ns_by(place, spans.ts_ns[activities], spans.end_ns[activities], len(devices))
    return int(lengths.sum())


def rows_in_order(trace: Trace) -> list[tuple[int, str]]:
    """The rows of a partition, code and name: the stages, then those that rules add, then what no stage answers for."""
    stages = [
        (code, name) for code, name in enumerate(trace.stage_names) if code not in (REQUEST_CODE, UNATTRIBUTED_CODE)
    ]
    return [*stages, (UNATTRIBUTED_CODE, Stage.UNATTRIBUTED.value), (len(trace.stage_names), UNLINKED)]


def _starts_in(trace: Trace, indices: IntArray, request: Request) -> BoolArray:
    start = trace.spans.ts_ns[indices]
    inside: BoolArray = (request.start_ns <= start) & (start < request.end_ns)
    return inside


def ranges_in(trace: Trace, request: Request) -> IntArray:
    """The stage ranges, other than requests, that start in the window."""
    ranges = trace.inner_stage_ranges
    first, last = np.searchsorted(trace.spans.ts_ns[ranges], (request.start_ns, request.end_ns))
    return ranges[first:last]


def host_segments(trace: Trace, request: Request) -> tuple[IntArray, IntArray, IntArray]:
    """The request's thread as disjoint segments from its start to its end, each with the row of its innermost stage.

    Returns:
        int64 [s] each: starts, ends, rows.
    """
    found = stage_stretches(trace, request)
    return found.start_ns, found.end_ns, found.row


def _sum_by(row: IntArray, values: IntArray, rows: int) -> IntArray:
    sums = np.zeros(rows, dtype=np.int64)
    np.add.at(sums, row, values)
    return sums
