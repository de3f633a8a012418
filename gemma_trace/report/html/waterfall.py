"""A request's lanes, thinned out to what can be drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gemma_trace.analysis.devices import label_of_device
from gemma_trace.analysis.intervals import intersect
from gemma_trace.analysis.lanes import Lane, device_lanes, stage_lanes
from gemma_trace.analysis.timeline import Request, first_token_ns, ttft_ns
from gemma_trace.report.html.model import DrawnLane, Stretch, Waterfall
from gemma_trace.trace.trace import Trace


def draw_waterfall(trace: Trace, request: Request, requests: int, cells: int) -> Waterfall:
    """One request's lanes, as the page draws them.

    Args:
        requests: how many the trace has.
        cells: into how many cells a lane is cut that has more stretches.
    """
    lanes = stage_lanes(trace, request)
    first = first_token_ns(trace, request)
    drawn = [_drawn("host", lanes.host, request, cells)]
    devices = device_lanes(trace, request).by_device
    if len(devices) > 1:
        for code, lane in devices.items():
            of_device = _drawn(f"device {label_of_device(code)}", lane, request, cells)
            drawn.append(replace(of_device, title=trace.devices.get(code, "")))
    elif len(lanes.device):
        drawn.append(_drawn("device", lanes.device, request, cells))
    return Waterfall(
        label=request.label,
        index=request.index,
        requests=requests,
        wall_ns=request.wall_ns,
        ttft_ns=ttft_ns(trace, request),
        first_token_ns=None if first is None else first - request.start_ns,
        lanes=tuple(drawn),
    )


def _drawn(name: str, lane: Lane, request: Request, cells: int) -> DrawnLane:
    thinned = len(lane) > cells
    stretches = _by_cells(lane, request, cells) if thinned else _exactly(lane, request)
    return DrawnLane(name, stretches, request.wall_ns / cells if thinned else None, tuple(lane.sums_ns().items()))


def _exactly(lane: Lane, request: Request) -> tuple[Stretch, ...]:
    columns = (lane.start_ns - request.start_ns, lane.end_ns - request.start_ns, lane.stage)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return tuple(Stretch(start, end, lane.stages[stage], end - start) for start, end, stage in rows)


def _by_cells(lane: Lane, request: Request, cells: int) -> tuple[Stretch, ...]:
    """Cells of equal length, each of the stage that has most of it, or of none; neighbours that are alike are one."""
    edges = np.arange(cells + 1, dtype=np.int64) * request.wall_ns // cells + request.start_ns
    start, end, stretch, cell = intersect((lane.start_ns, lane.end_ns), (edges[:-1], edges[1:]))
    idle = len(lane.stages)
    held = np.zeros((cells, idle + 1), dtype=np.int64)
    np.add.at(held, (cell, lane.stage[stretch]), end - start)
    held[:, idle] = np.diff(edges) - held.sum(axis=1)
    owner = held.argmax(axis=1)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    last = np.append(first[1:], cells)
    stretches = []
    for low, high in zip(first.tolist(), last.tolist(), strict=True):
        if (stage := int(owner[low])) != idle:
            own_ns = int(held[low:high, stage].sum())
            begin, finish = (int(edges[edge]) - request.start_ns for edge in (low, high))
            stretches.append(Stretch(begin, finish, lane.stages[stage], own_ns))
    return tuple(stretches)
