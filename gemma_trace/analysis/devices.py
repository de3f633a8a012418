"""Which devices a trace's activities ran on, and what each did for every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.analysis.intervals import union_ns_by
from gemma_trace.analysis.pieces import cut_all
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.trace.events import NONE
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class DeviceUse:
    """What one device did for one stage, over the requests.

    Attributes:
        device: its index; `NONE` is the activities that don't say which device they ran on.
        name: its marketing name; "" where the trace doesn't tell.
        stage: the stage, or `unlinked`.
        device_busy_ns: the length of the union of the stage's activities on the device, by request, summed up.
        device_sum_ns: the sum of their lengths.
        activities: how many.
    """

    device: int
    name: str
    stage: str
    device_busy_ns: int
    device_sum_ns: int
    activities: int


def devices_of(trace: Trace) -> list[int]:
    """The indices of the devices that ran anything; `NONE` where activities don't say which they ran on."""
    devices: list[int] = distinct(trace.spans.device[trace.activities]).tolist()
    return devices


def device_use(trace: Trace, requests: Sequence[Request]) -> list[DeviceUse]:
    """What each device did for every stage, by device and in the stages' order.

    The rows of a stage add up to its `device_busy_ns`, `device_sum_ns` and `activities` in `stages`.
    """
    devices, spans = devices_of(trace), trace.spans
    rows = len(trace.stage_names) + 1
    groups = len(devices) * rows
    busy, length, count = (np.zeros(groups, dtype=np.int64) for _ in range(3))
    for pieces in cut_all(trace, requests):
        counted = np.flatnonzero(pieces.own)
        activities = trace.activities[pieces.activity[counted]]
        on = np.searchsorted(devices, spans.device[activities])
        group = on * rows + pieces.device_row[counted]
        by_window, windows = pieces.window[counted] * groups + group, len(pieces.line)
        start, end = spans.ts_ns[activities], spans.ends_ns(activities)
        busy += union_ns_by(by_window, start, end, windows * groups).reshape(windows, groups).sum(axis=0)
        np.add.at(length, group, spans.dur_ns[activities])
        count += np.bincount(group, minlength=groups)
    uses = []
    for place, device in enumerate(devices):
        for code, stage in rows_in_order(trace):
            cell = place * rows + code
            if count[cell]:
                figures = (int(column[cell]) for column in (busy, length, count))
                uses.append(DeviceUse(device, trace.devices.get(device, ""), stage, *figures))
    return uses


def label_of_device(device: int) -> str:
    """What a device is called in a table."""
    return "?" if device == NONE else str(device)
