"""A request as three lanes of stages, to be drawn: what the host is in, what the device works for, whose time it is.

The lanes are the partition of `timeline.py` before it is summed up, so their lengths by stage are the figures that
`stages` prints: those of `host` are the request thread's share of `host_ns`, those of `device` are `device_ns`, and
those of `time` are `time_ns`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemma_trace.analysis.intervals import clip, first_come
from gemma_trace.analysis.timeline import Request, cut, rows_in_order
from gemma_trace.trace.events import CodeArray, IntArray
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class Lane:
    """Stretches of time, disjoint and by start; neighbours that touch are of different stages.

    Attributes:
        start_ns, end_ns: int64 [s], on the trace's clock.
        stage: int32 [s], codes into `stages`.
        stages: all names that a row of `stages` can have, in their order there.
    """

    start_ns: IntArray
    end_ns: IntArray
    stage: CodeArray
    stages: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start_ns)

    def sums_ns(self) -> dict[str, int]:
        """The lane's length by stage; those that it hasn't are left out."""
        sums = np.zeros(len(self.stages), dtype=np.int64)
        np.add.at(sums, self.stage, self.end_ns - self.start_ns)
        return {self.stages[code]: int(sums[code]) for code in np.flatnonzero(sums)}


@dataclass(frozen=True)
class StageLanes:
    """One request's lanes, each within its window.

    Attributes:
        host: the innermost stage open on the request's thread; without gaps.
        device: the stage whose activity a device runs, the earliest started where several run; gaps are idle.
        time: the stage that answers for each instant: the device's, or the host's where the device is idle. Without
            gaps, so its length is the request's wall time.
    """

    request: Request
    host: Lane
    device: Lane
    time: Lane


def device_lanes(trace: Trace, request: Request) -> dict[int, Lane]:
    """By device what each works for: the stage of the activity that it runs, of several the earliest started.

    Of one device it is the lane `StageLanes.device`; of several those overlap.
    """
    pieces, spans = cut(trace, request), trace.spans
    place, names = _places(trace)
    found = {}
    for device, own in trace.on_device:
        activities = trace.activities[own]
        start, end = clip(spans.ts_ns[activities], spans.end_ns[activities], request.start_ns, request.end_ns)
        found[device] = _lane(*first_come(start, end), place[pieces.device_row[own]], names)
    return found


def _places(trace: Trace) -> tuple[CodeArray, tuple[str, ...]]:
    """The place of every stage code among the rows of `stages`, and those rows' names."""
    rows = rows_in_order(trace)
    place = np.zeros(len(rows) + 1, dtype=np.int32)  # the request has a code but no row
    for index, (code, _) in enumerate(rows):
        place[code] = index
    return place, tuple(name for _, name in rows)


def stage_lanes(trace: Trace, request: Request) -> StageLanes:
    """Draw up a request's lanes."""
    pieces = cut(trace, request)
    place, names = _places(trace)
    device_start, device_end = pieces.device
    idle_start, idle_end = pieces.idle
    device, idle = place[pieces.device_row], place[pieces.idle_row]
    return StageLanes(
        request=request,
        host=_lane(*pieces.stretches, place[pieces.stretch_row], names),
        device=_lane(device_start, device_end, device, names),
        time=_lane(
            np.concatenate((device_start, idle_start)),
            np.concatenate((device_end, idle_end)),
            np.concatenate((device, idle)),
            names,
        ),
    )


def _lane(start_ns: IntArray, end_ns: IntArray, stage: CodeArray, stages: tuple[str, ...]) -> Lane:
    """Disjoint stretches as a lane: sorted, the empty ones left out, neighbours of one stage made one."""
    real = np.flatnonzero(end_ns > start_ns)
    order = real[np.argsort(start_ns[real], kind="stable")]
    start_ns, end_ns, stage = start_ns[order], end_ns[order], stage[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (start_ns[1:] != end_ns[:-1]) | (stage[1:] != stage[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(order) - 1) if len(order) else np.zeros(0, dtype=np.int64)
    return Lane(start_ns[fresh], end_ns[last], stage[fresh], stages)
