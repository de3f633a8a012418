"""The partition of a request's wall time into stages.

At every instant a request belongs to exactly one stage: the one whose activity runs on a device (the earliest started,
where several do); when all devices are idle, the innermost stage open on the request's thread; where that has none, or
only waits, the one open on another thread of the request (the earliest opened, where several are); else
`unattributed`. So the parts add up to the wall time, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import Intervals, union_ns, union_ns_by
from gemma_trace.analysis.other_threads import host_ns_of_others
from gemma_trace.analysis.pieces import Pieces, cut_all
from gemma_trace.analysis.sharing import shared_ns
from gemma_trace.analysis.stretches import stage_stretches
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE, Stage, place_of_stage
from gemma_trace.trace.clients import client_tokens_ns
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.requests import WHOLE_TRACE, Request, is_step_name
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

__all__ = [
    "UNLINKED",
    "Request",
    "StageTime",
    "busy_ns",
    "first_token_ns",
    "host_segments",
    "is_step_name",
    "partition",
    "partition_all",
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
        shared_ns: the part of `time_ns` in which a server's engine worked for other requests in the same step, too.
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
    shared_ns: int = 0


def first_token_ns(trace: Trace, request: int | Request) -> int | None:
    """The instant at which the first token id is on the host.

    For a client of a server it is the instant at which it has the first text. None in a trace without sampling ranges,
    and in a whole trace of several prefills, which starts with no request.
    """
    (request,) = trace.chosen(request)
    if trace.client_tracks[request.track]:
        tokens = client_tokens_ns(trace, request)
        return int(tokens[0]) if len(tokens) else None
    ranges = ranges_in(trace, request)
    stages = trace.stage_range[ranges]
    if request.label == WHOLE_TRACE and _outermost(trace, ranges[stages == _PREFILL]) > 1:
        return None
    ends = trace.spans.ends_ns(ranges[stages == _SAMPLING])
    return int(ends.min()) if len(ends) else None


def _outermost(trace: Trace, ranges: IntArray) -> int:
    """How many of these ranges lie in no other of them."""
    spans = trace.spans
    return int((nest(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges]).parent == NONE).sum())


def ttft_ns(trace: Trace, request: int | Request) -> int | None:
    """Request start → first token id on the host, less `image_load`; None where there is no `first_token_ns`.

    A client of a server waits for the server to load images, too: nothing is left out of its time.
    """
    (request,) = trace.chosen(request)
    first = first_token_ns(trace, request)
    if first is None:
        return None
    if trace.client_tracks[request.track]:
        return first - request.start_ns
    ranges = ranges_in(trace, request)
    load = ranges[(trace.stage_range[ranges] == _IMAGE_LOAD) & (trace.spans.ends_ns(ranges) <= first)]
    return first - request.start_ns - union_ns(trace.spans.ts_ns[load], trace.spans.ends_ns(load))


def partition(trace: Trace, request: int | Request) -> list[StageTime]:
    """The request's stages, in the order a request goes through them; those it hasn't are left out.

    `unattributed` is always there. The `time_ns` add up to `request.wall_ns`.
    """
    return partition_all(trace, trace.chosen(request))


def partition_all(trace: Trace, requests: Sequence[Request]) -> list[StageTime]:
    """The stages of many requests, by request."""
    return [row for pieces in cut_all(trace, requests) for row in _rows(trace, pieces)]


def _rows(trace: Trace, pieces: Pieces) -> Iterator[StageTime]:
    """The rows of the requests of some pieces."""
    line, rows = pieces.line, len(trace.stage_names) + 1
    cells = len(line) * rows
    answering = np.flatnonzero(pieces.own)
    cell = pieces.window[answering] * rows + pieces.device_row[answering]
    activities = trace.activities[pieces.activity[answering]]
    launch = trace.launch[pieces.activity[answering]]
    linked = launch >= 0
    calls = distinct(cell[linked] * len(trace.spans) + launch[linked]) // max(len(trace.spans), 1)
    host = _summed(line, pieces.stretches, pieces.stretch_row, rows)
    device = _sum_by(pieces.window * rows + pieces.device_row, pieces.device[1] - pieces.device[0], cells)
    exposed = _summed(line, pieces.idle, pieces.idle_row, rows)
    columns = (  # in the order of StageTime
        host + host_ns_of_others(trace, line, rows),
        _busy_by(trace, cell, activities, cells),
        _sum_by(cell, trace.spans.dur_ns[activities], cells),
        device + exposed,
        device,
        exposed,
        np.bincount(cell, minlength=cells),
        np.bincount(calls, minlength=cells),
        shared_ns(trace, line, ((pieces.device, pieces.device_row), (pieces.idle, pieces.idle_row)), rows, cells),
    )
    shown = np.logical_or.reduce(columns)
    shown[UNATTRIBUTED_CODE::rows] = True
    figures = np.stack(columns, axis=1).tolist()
    order = rows_in_order(trace)
    for window, index in enumerate(line.index.tolist()):
        for code, name in order:
            place = window * rows + code
            if shown[place]:
                yield StageTime(index, name, *figures[place])


def _summed(line: WindowLine, intervals: Intervals, row: IntArray, rows: int) -> IntArray:
    """int64 [w · rows], the length of intervals of the line by window and row."""
    return _sum_by(line.at(intervals[0]) * rows + row, intervals[1] - intervals[0], len(line) * rows)


def _busy_by(trace: Trace, cell: IntArray, activities: IntArray, cells: int) -> IntArray:
    """int64 [cells], how long devices were busy with the activities of each cell, summed up over the devices."""
    spans = trace.spans
    _, device = np.unique(spans.device[activities], return_inverse=True)
    devices = int(device.max(initial=0)) + 1
    start, end = spans.ts_ns[activities], spans.ends_ns(activities)
    busy: IntArray = (
        union_ns_by(cell * devices + device, start, end, cells * devices).reshape(cells, devices).sum(axis=1)
    )
    return busy


def busy_ns(trace: Trace, activities: IntArray) -> int:
    """How long devices were busy with these activities: the length of their union on each device, summed up."""
    spans = trace.spans
    devices, place = np.unique(spans.device[activities], return_inverse=True)
    lengths = union_ns_by(place, spans.ts_ns[activities], spans.ends_ns(activities), len(devices))
    return int(lengths.sum())


def rows_in_order(trace: Trace) -> list[tuple[int, str]]:
    """The rows of a partition, code and name: the stages, then those that rules add, then what no stage answers for."""
    stages = [
        (code, name) for code, name in enumerate(trace.stage_names) if code not in (REQUEST_CODE, UNATTRIBUTED_CODE)
    ]
    stages.sort(key=lambda stage: place_of_stage(stage[1]))
    return [*stages, (UNATTRIBUTED_CODE, Stage.UNATTRIBUTED.value), (len(trace.stage_names), UNLINKED)]


def ranges_in(trace: Trace, request: int | Request) -> IntArray:
    """The stage ranges, other than requests, that start in the window; of a server's client its own alone."""
    (request,) = trace.chosen(request)
    first, last = np.searchsorted(trace.inner_stage_starts_ns, (request.start_ns, request.end_ns))
    ranges: IntArray = trace.inner_stage_ranges[first:last]
    return ranges[trace.spans.track[ranges] == request.track] if trace.client_tracks[request.track] else ranges


def host_segments(trace: Trace, request: int | Request) -> tuple[IntArray, IntArray, IntArray]:
    """The request's thread as disjoint segments from its start to its end, each with the row of its innermost stage.

    Returns:
        int64 [s] each: starts, ends, rows.
    """
    stretches = stage_stretches(trace, WindowLine.of(trace.chosen(request)))
    return stretches.start_ns, stretches.end_ns, stretches.row


def _sum_by(row: IntArray, values: IntArray, rows: int) -> IntArray:
    sums = np.zeros(rows, dtype=np.int64)
    np.add.at(sums, row, values)
    return sums
