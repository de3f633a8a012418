"""A request as three lanes of stages, to be drawn: what the host is in, what the device works for, whose time it is.

The lanes are the partition of `timeline.py` before it is summed up, so their lengths by stage are the figures that
`stages` prints: those of `host` are the request thread's share of `host_ns`, those of `device` are `device_ns`, and
those of `time` are `time_ns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gemma_trace.analysis.intervals import first_come
from gemma_trace.analysis.pieces import cut_all
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.arguments import checked
from gemma_trace.tabular import Tabular
from gemma_trace.trace.events import CodeArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted


@dataclass(frozen=True, repr=False)
class Lane(Tabular):
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

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per stretch."""
        for start_ns, end_ns, code in zip(
            self.start_ns.tolist(), self.end_ns.tolist(), self.stage.tolist(), strict=True
        ):
            yield {"stage": self.stages[code], "start_ns": start_ns, "end_ns": end_ns}

    def headline(self) -> str:
        """How many stretches there are."""
        return f"A lane of {counted(len(self), 'stretch', 'stretches')}"

    def sums_ns(self) -> dict[str, int]:
        """The lane's length by stage; those that it hasn't are left out."""
        sums = np.zeros(len(self.stages), dtype=np.int64)
        np.add.at(sums, self.stage, self.end_ns - self.start_ns)
        return {self.stages[code]: int(sums[code]) for code in np.flatnonzero(sums)}


@dataclass(frozen=True, repr=False)
class StageLanes(Tabular):
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

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per stretch of each lane."""
        for name in ("host", "device", "time"):
            yield from ({"lane": name, **row} for row in getattr(self, name).records())

    def headline(self) -> str:
        """Whose lanes they are."""
        return f"The lanes of {self.request.label}"


@dataclass(frozen=True, repr=False)
class DeviceLanes(Tabular):
    """What each device works for during one request.

    Attributes:
        by_device: by the device's index the stage of the activity that it runs, of several the one that started
            first; gaps are idle. Of one device it is the lane `StageLanes.device`; those of several overlap.
    """

    request: Request
    by_device: Mapping[int, Lane]

    def __len__(self) -> int:
        return len(self.by_device)

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per stretch of each device's lane."""
        for device, lane in self.by_device.items():
            yield from ({"device": device, **row} for row in lane.records())

    def headline(self) -> str:
        """Whose lanes they are, and of how many devices."""
        return f"The lanes of {counted(len(self), 'device')} in {self.request.label}"


@checked
def device_lanes(trace: Trace, request: int | Request) -> DeviceLanes:
    """Draw up what each device works for during a request.

    Raises:
        InputError: there is no such request.
    """
    return device_lanes_of(trace, trace.chosen(request))[0]


def device_lanes_of(trace: Trace, requests: Sequence[Request]) -> list[DeviceLanes]:
    """The device lanes of several requests, found in one pass."""
    spans, (place, names) = trace.spans, _places(trace)
    by_request: list[dict[int, Lane]] = []
    for pieces in cut_all(trace, requests):
        index = trace.activities[pieces.activity]
        start, end = pieces.line.clipped(pieces.window, spans.ts_ns[index], spans.ends_ns(index))
        on = Places(spans.device[index])
        parts = {}
        for device, _ in trace.on_device:
            rows = on.of(device)
            whole = _lane(*first_come(start[rows], end[rows]), place[pieces.device_row[rows]], names)
            parts[device] = _by_window(whole, pieces.line)
        by_request += [{device: lanes[window] for device, lanes in parts.items()} for window in range(len(pieces.line))]
    return [DeviceLanes(request, lanes) for request, lanes in zip(requests, by_request, strict=True)]


def _places(trace: Trace) -> tuple[CodeArray, tuple[str, ...]]:
    """The place of every stage code among the rows of `stages`, and those rows' names."""
    rows = rows_in_order(trace)
    place = np.zeros(len(rows) + 1, dtype=np.int32)  # the request has a code but no row
    for index, (code, _) in enumerate(rows):
        place[code] = index
    return place, tuple(name for _, name in rows)


@checked
def stage_lanes(trace: Trace, request: int | Request) -> StageLanes:
    """Draw up a request's lanes.

    Raises:
        InputError: there is no such request.
    """
    return stage_lanes_of(trace, trace.chosen(request))[0]


def stage_lanes_of(trace: Trace, requests: Sequence[Request]) -> list[StageLanes]:
    """Draw up the lanes of many requests."""
    place, names = _places(trace)
    lanes: list[tuple[Lane, Lane, Lane]] = []
    for pieces in cut_all(trace, requests):
        device, idle = place[pieces.device_row], place[pieces.idle_row]
        start, end = (np.concatenate(both) for both in zip(pieces.device, pieces.idle, strict=True))
        whole = (
            _lane(*pieces.stretches, place[pieces.stretch_row], names),
            _lane(*pieces.device, device, names),
            _lane(start, end, np.concatenate((device, idle)), names),
        )
        lanes += zip(*(_by_window(lane, pieces.line) for lane in whole), strict=True)
    return [StageLanes(request, *parts) for request, parts in zip(requests, lanes, strict=True)]


def _by_window(lane: Lane, line: WindowLine) -> list[Lane]:
    """A lane of several requests' line as one lane per request, on the trace's clock."""
    window = line.at(lane.start_ns)
    start, end = line.clock_ns(lane.start_ns, window), line.clock_ns(lane.end_ns, window)
    edges = np.searchsorted(window, np.arange(len(line) + 1)).tolist()
    return [Lane(start[low:high], end[low:high], lane.stage[low:high], lane.stages) for low, high in pairwise(edges)]


def _lane(start_ns: IntArray, end_ns: IntArray, stage: CodeArray, stages: tuple[str, ...]) -> Lane:
    """Disjoint stretches as a lane: sorted, the empty ones left out, neighbours of one stage made one."""
    real = np.flatnonzero(end_ns > start_ns)
    order = real[np.argsort(start_ns[real], kind="stable")]
    start_ns, end_ns, stage = start_ns[order], end_ns[order], stage[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (start_ns[1:] != end_ns[:-1]) | (stage[1:] != stage[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(order) - 1) if len(order) else np.zeros(0, dtype=np.int64)
    return Lane(start_ns[fresh], end_ns[last], stage[fresh], stages)
