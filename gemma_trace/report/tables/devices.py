"""What each of several devices did for every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gemma_trace.analysis.device_lines import DeviceLine, device_lines
from gemma_trace.analysis.devices import DeviceUse, label_of_device
from gemma_trace.report.number_text import milliseconds
from gemma_trace.report.table import Col, Table
from gemma_trace.report.tables.stages import ACTIVITIES, DEVICE_BUSY, DEVICE_SUM
from gemma_trace.report.units import PCT, whole

_MOST_SPELLED: Final = 8
"""Of more devices than this the note doesn't spell the sum out; the table has it."""

DEVICE: Final = Col("device", "device", definition="the device's index; -1 is unknown", is_grouped=True)
NAME: Final = Col("name", "name", definition="its marketing name", priority=2, is_grouped=True)
STAGE: Final = Col("stage", "stage", definition="the stage that it worked for")
BUSY: Final = replace(
    DEVICE_BUSY.at(0, when=""), definition="the part of the stage's `device_busy_ns` that is on this device"
)
SUM: Final = replace(
    DEVICE_SUM.at(1, when=""), definition="the part of the stage's `device_sum_ns` that is on this device"
)
COUNT: Final = replace(
    ACTIVITIES.at(1, when=""),
    show=whole,
    definition=(
        "the stage's `activities` on this device; over the devices they add up to those of the stage, except for "
        "the requests in `without_device`"
    ),
)

DEVICE_FILE: Final = (DEVICE, NAME, STAGE, BUSY, SUM, COUNT)
"""A row per device and stage, the sum over the requests."""

DEVICE_COLS: Final = (
    DEVICE.of("label"),
    NAME.within("use"),
    STAGE.within("use"),
    BUSY.within("use"),
    Col("busy_pct", "% of wall", replace(PCT, suffix=""), priority=1),
    SUM.within("use"),
    COUNT.within("use"),
)
"""A row per device and stage, and one per device for all stages; means over the requests."""


def device_table(devices: Sequence[DeviceUse], requests: int, wall_ns: int) -> Table[DeviceLine]:
    """What each device did for every stage, and in all."""
    totals = {
        DEVICE.key: "all",
        BUSY.key: sum(use.device_busy_ns for use in devices),
        SUM.key: sum(use.device_sum_ns for use in devices),
        COUNT.key: sum(use.activities for use in devices),
    }
    notes = (_note(devices, requests),)
    return Table("Devices", DEVICE_COLS, device_lines(devices, wall_ns), totals, notes, per=requests)


def device_data(devices: Sequence[DeviceUse]) -> Table[DeviceUse]:
    """For files: sums over the requests."""
    return Table("Devices", DEVICE_FILE, devices)


def _note(devices: Sequence[DeviceUse], requests: int) -> str:
    """What device busy is, with the figures of this trace."""
    busy = {use.device: 0 for use in devices}
    for use in devices:
        busy[use.device] += use.device_busy_ns
    each = [f"{milliseconds(busy_ns / requests)} on {label_of_device(device)}" for device, busy_ns in busy.items()]
    note = "device busy is summed over the devices, which are busy independently of each other"
    if not 1 < len(each) <= _MOST_SPELLED:
        return f"{note}."
    return f"{note}: {milliseconds(sum(busy.values()) / requests)} ms = {' + '.join(each)}."
