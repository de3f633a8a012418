"""The stages of a trace as tracks for any viewer: the stages of the host, of the device, and of each instant.

A request's slices on `device` and on `time` add up to its `device_ns` and `time_ns`; on `host` ranges nest, and the
self times of the slices add up to `host_ns`. The slices on `critical path` fill the request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.critical_path import CriticalPath, PathKind, critical_paths
from gemma_trace.analysis.devices import devices_of, label_of_device
from gemma_trace.analysis.lanes import Lane, device_lanes_of, stage_lanes_of
from gemma_trace.analysis.timeline import Request, ranges_in
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

HOST: Final = "host"
DEVICE: Final = "device"
TIME: Final = "time"
CRITICAL_PATH: Final = "critical path"


@dataclass(frozen=True)
class StageTrack:
    """A track of nested slices, sorted by start, the outer one first.

    Attributes:
        name: `host`, `device`, of several devices also `device 0` and so on, `time` or `critical path`, with a number
            where requests ran at once; of several devices that is `device, requests 2`, for `device 2` is one of them.
        start_ns, end_ns: int64 [s].
        labels: the text of each slice: a stage, on `host` also a request, on `critical path` also an activity's name.
    """

    name: str
    start_ns: IntArray
    end_ns: IntArray
    labels: tuple[str, ...]


def stage_tracks(trace: Trace) -> Iterator[StageTrack]:
    """The tracks in drawing order. A device that ran nothing has no track."""
    number = ", requests" if len(devices_of(trace)) > 1 else ""
    for place, requests in enumerate(_apart(trace.requests)):
        suffix = f"{number} {place + 1}" if place else ""
        yield from _host_tracks(trace, requests, HOST + suffix)
        lanes = stage_lanes_of(trace, requests)
        if len(trace.activities):
            yield _lane_track(DEVICE + suffix, [each.device for each in lanes])
            yield from _device_tracks(trace, requests, suffix)
        yield _lane_track(TIME + suffix, [each.time for each in lanes])
        if len(trace.activities):  # without a device it is what the host did
            yield _joined(
                CRITICAL_PATH + suffix, [_path_track(trace, path) for path in critical_paths(trace, requests)]
            )


def _device_tracks(trace: Trace, requests: Sequence[Request], suffix: str) -> Iterator[StageTrack]:
    """One track per device if there are several, with the stages that each device works for."""
    lanes = [of_request.by_device for of_request in device_lanes_of(trace, requests)]
    devices = list(lanes[0])
    for device in devices if len(devices) > 1 else ():
        yield _lane_track(f"{DEVICE} {label_of_device(device)}{suffix}", [by_device[device] for by_device in lanes])


def _host_tracks(trace: Trace, requests: Sequence[Request], name: str) -> Iterator[StageTrack]:
    """Requests with the ranges of their stages. Ranges on other threads are on tracks of their own."""
    spans = trace.spans
    parts, others = [], []
    for request in requests:
        ranges = ranges_in(trace, request)
        on_own_thread = spans.track[ranges] == request.track
        parts.append(_nested(trace, name, ranges[on_own_thread], request))
        others.append(ranges[~on_own_thread])
    elsewhere = distinct(np.concatenate(others))
    yield _joined(name, parts)
    for thread, on_thread in Places(spans.track[elsewhere]):
        yield _nested(trace, f"{name}, thread {spans.tracks[thread].tid}", elsewhere[on_thread])


def _nested(trace: Trace, name: str, ranges: IntArray, within: Request | None = None) -> StageTrack:
    """Stage ranges, within a request if one is given, clipped to nest in the same way as for the partition."""
    spans, names = trace.spans, trace.stage_names
    labels = [names[code] for code in trace.stage_range[ranges].tolist()]
    start, end = spans.ts_ns[ranges], spans.ends_ns(ranges)
    if within:
        labels.insert(0, within.label)
        start, end = np.append(within.start_ns, start), np.append(within.end_ns, end)
    rank = np.ones(len(start), np.int64)
    rank[0 : 1 if within else 0] = 0  # a stage that crosses the request's end stays, in what the viewer shows, in it
    return StageTrack(name, start, nest(start, end, np.zeros(len(start), np.int64), rank).end_ns, tuple(labels))


def _lane_track(name: str, lanes: Sequence[Lane]) -> StageTrack:
    parts = [
        StageTrack(name, lane.start_ns, lane.end_ns, tuple(lane.stages[code] for code in lane.stage.tolist()))
        for lane in lanes
    ]
    return _joined(name, parts)


def _path_track(trace: Trace, path: CriticalPath) -> StageTrack:
    """The critical path of a request: activities by name, everything else by stage and kind."""
    kinds, spans = list(PathKind), trace.spans
    labels = tuple(
        spans.names[spans.name[span]]
        if kinds[kind] is PathKind.DEVICE
        else f"{path.stages[stage]}: {kinds[kind].value}"
        for kind, stage, span in zip(path.kind.tolist(), path.stage.tolist(), path.span.tolist(), strict=True)
    )
    return StageTrack(CRITICAL_PATH, path.start_ns, path.end_ns, labels)


def _joined(name: str, parts: Sequence[StageTrack]) -> StageTrack:
    return StageTrack(
        name,
        np.concatenate([part.start_ns for part in parts]),
        np.concatenate([part.end_ns for part in parts]),
        tuple(label for part in parts for label in part.labels),
    )


def _apart(requests: Sequence[Request]) -> list[list[Request]]:
    """Requests in groups without overlaps: a single group unless several requests ran at once."""
    groups: list[list[Request]] = []
    for request in sorted(requests, key=lambda request: request.start_ns):
        free = next((group for group in groups if group[-1].end_ns <= request.start_ns), None)
        if free is None:
            groups.append([request])
        else:
            free.append(request)
    return groups
