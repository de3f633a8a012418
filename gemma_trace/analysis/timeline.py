"""Requests, and the partition of their wall time into stages.

At every instant a request belongs to exactly one stage: the one whose activity runs on the device (the earliest
started, where several do); when the device is idle, the innermost stage open on the request's thread; else
`unattributed`. So the parts add up to the wall time, to the nanosecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import Intervals, clip, first_come, gaps, intersect, union, union_ns
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE, Stage
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import innermost_segments, nest

UNLINKED: Final = "unlinked"
"""The row of device activities whose launch isn't in the trace."""

_SAMPLING: Final = list(Stage).index(Stage.SAMPLING)
_IMAGE_LOAD: Final = list(Stage).index(Stage.IMAGE_LOAD)
_PROFILER_STEP: Final = re.compile(r"ProfilerStep\s*#\s*\d+")


@dataclass(frozen=True)
class Request:
    """One request's window in a trace.

    Attributes:
        index: 0 for the first.
        label: "request 0", or what the window is in a trace that has no requests of ours.
        start_ns, end_ns: on the trace's clock.
        track: code of the thread that the request runs on.
    """

    index: int
    label: str
    start_ns: int
    end_ns: int
    track: int

    @property
    def wall_ns(self) -> int:
        """The window's length."""
        return self.end_ns - self.start_ns


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
    spans = trace.spans
    ours = np.flatnonzero(trace.stage_range == REQUEST_CODE)
    if len(ours):
        return _windows(trace, ours, "request {index}")
    is_step = np.array([is_step_name(name) for name in spans.names], dtype=bool)
    steps = np.flatnonzero(is_step[spans.name] & trace.is_annotation)
    if len(steps):
        return _windows(trace, steps, "{name}")
    host = trace.host
    busiest = int(np.bincount(spans.track[host]).argmax()) if len(host) else int(spans.track[0])
    everything = np.union1d(host, trace.activities)
    return [Request(0, "whole trace", int(spans.ts_ns[everything].min()), int(spans.end_ns[everything].max()), busiest)]


def is_step_name(name: str) -> bool:
    """Whether a range of this name is a step of torch.profiler's schedule: `ProfilerStep#N`."""
    return _PROFILER_STEP.fullmatch(name) is not None


def _windows(trace: Trace, indices: IntArray, label: str) -> list[Request]:
    spans = trace.spans
    return [
        Request(
            position,
            label.format(index=position, name=spans.names[spans.name[index]]),
            int(spans.ts_ns[index]),
            int(spans.end_ns[index]),
            int(spans.track[index]),
        )
        for position, index in enumerate(indices)
    ]


def first_token_ns(trace: Trace, request: Request) -> int | None:
    """The instant at which the first token id is on the host; None in a trace without our sampling ranges."""
    ranges = ranges_in(trace, request)
    ends = trace.spans.end_ns[ranges[trace.stage_range[ranges] == _SAMPLING]]
    return int(ends.min()) if len(ends) else None


def ttft_ns(trace: Trace, request: Request) -> int | None:
    """Request start → first token id on the host, less `image_load`; None in a trace without our sampling ranges."""
    first = first_token_ns(trace, request)
    if first is None:
        return None
    ranges = ranges_in(trace, request)
    load = ranges[(trace.stage_range[ranges] == _IMAGE_LOAD) & (trace.spans.end_ns[ranges] <= first)]
    return first - request.start_ns - int(trace.spans.dur_ns[load].sum())


@dataclass(frozen=True)
class Pieces:
    """A request's wall time, cut up: each instant is in one of the pieces of `device` or of `idle`.

    Attributes:
        device: [m], of each activity the instants that it owns: those that no activity before it has.
        device_row: int64 [m], the stage code of each activity; the number of stages stands for `unlinked`.
        idle: [s], the stretches of the request's thread, cut where the stage changes, in which the device is idle.
        idle_row: int64 [s], the stage code of each.
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
    stretch_start, stretch_end, stretch_row = host_segments(trace, request)
    idle_start, idle_end, stretch, gap = intersect((stretch_start, stretch_end), idle_gaps)
    return Pieces(
        device=first_come(start, end),
        device_row=row,
        idle=(idle_start, idle_end),
        idle_row=stretch_row[stretch],
        gaps=idle_gaps,
        gap=gap,
        stretches=(stretch_start, stretch_end),
        stretch_row=stretch_row,
        own=launched | (~linked & (start < end)),
    )


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
    host_ns += _host_elsewhere(trace, request, rows)
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
                device_busy_ns=union_ns(spans.ts_ns[own], spans.end_ns[own]),
                device_sum_ns=int(spans.dur_ns[own].sum()),
                time_ns=time_ns,
                device_ns=int(device_ns[index]),
                exposed_host_ns=int(exposed_ns[index]),
                activities=len(own),
                launches=len(np.unique(launch[mine & (launch >= 0)])),
            )
        )
    return times


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
    ranges = np.flatnonzero((trace.stage_range != NONE) & (trace.stage_range != REQUEST_CODE))
    return ranges[_starts_in(trace, ranges, request)]


def host_segments(trace: Trace, request: Request) -> tuple[IntArray, IntArray, IntArray]:
    """The request's thread as disjoint segments from its start to its end, each with the row of its innermost stage.

    Returns:
        int64 [s] each: starts, ends, rows.
    """
    spans = trace.spans
    ranges = ranges_in(trace, request)
    ranges = ranges[spans.track[ranges] == request.track]
    # The request itself comes first, as the root of all.
    start = np.concatenate(([request.start_ns], spans.ts_ns[ranges]))
    end = np.concatenate(([request.end_ns], spans.end_ns[ranges]))
    row = np.concatenate(([UNATTRIBUTED_CODE], trace.stage_range[ranges]))
    track = np.zeros(len(row), dtype=np.int64)
    segments = innermost_segments(start, track, nest(start, end, track))
    return segments.start_ns, segments.end_ns, row[segments.owner]


def _host_elsewhere(trace: Trace, request: Request, rows: int) -> IntArray:
    """Host time of stage ranges on other threads than the request's."""
    spans = trace.spans
    ranges = ranges_in(trace, request)
    ranges = ranges[spans.track[ranges] != request.track]
    nesting = nest(spans.ts_ns[ranges], spans.end_ns[ranges], spans.track[ranges])
    return _sum_by(trace.stage_range[ranges], nesting.self_ns, rows)


def _sum_by(row: IntArray, values: IntArray, rows: int) -> IntArray:
    sums = np.zeros(rows, dtype=np.int64)
    np.add.at(sums, row, values)
    return sums
