"""What each of several devices did for every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from gemma_trace.analysis.devices import DeviceUse, label_of_device
from gemma_trace.report.model import Column, Section
from gemma_trace.report.numbers import milliseconds, percent

_MOST_SPELLED: Final = 8
"""Of more devices than this the note doesn't spell the sum out; the table has it."""


def device_section(found: Sequence[DeviceUse], requests: int, wall_ns: int) -> Section:
    """One row per device and stage, and one per device for all stages; means over the requests."""
    columns = (
        Column("device", align="left"),
        Column("name", 2, align="left"),
        Column("stage", align="left"),
        Column("device busy ms"),
        Column("% of wall", 1),
        Column("device sum ms", 1),
        Column("activities", 1),
    )
    rows: list[tuple[str, ...]] = []
    for device in dict.fromkeys(use.device for use in found):
        own = [use for use in found if use.device == device]
        busy, length, count = (
            sum(getattr(use, column) for use in own) for column in ("device_busy_ns", "device_sum_ns", "activities")
        )
        every = DeviceUse(device, own[0].name, "all stages", busy, length, count)
        for place, use in enumerate([*own, every] if len(own) > 1 else own):
            cells = (label_of_device(device), use.name) if not place else ("", "")
            rows.append(
                (
                    *cells,
                    use.stage,
                    milliseconds(use.device_busy_ns / requests),
                    percent(use.device_busy_ns, wall_ns),
                    milliseconds(use.device_sum_ns / requests),
                    f"{use.activities / requests:,.0f}",
                )
            )
    busy = sum(use.device_busy_ns for use in found)
    footer = ("all", "", "", milliseconds(busy / requests), "", *_total(found, requests))
    return Section("Devices", columns, tuple(rows), footer=footer, notes=(_note(found, requests),))


def _note(found: Sequence[DeviceUse], requests: int) -> str:
    """What device busy is, with the figures of this trace."""
    busy = {use.device: 0 for use in found}
    for use in found:
        busy[use.device] += use.device_busy_ns
    each = [f"{milliseconds(busy_ns / requests)} on {label_of_device(device)}" for device, busy_ns in busy.items()]
    note = "device busy is the sum over the devices, each of which is busy on its own"
    if not 1 < len(each) <= _MOST_SPELLED:
        return f"{note}."
    return f"{note}: {milliseconds(sum(busy.values()) / requests)} ms = {' + '.join(each)}."


def _total(found: Sequence[DeviceUse], requests: int) -> tuple[str, str]:
    length, count = sum(use.device_sum_ns for use in found), sum(use.activities for use in found)
    return milliseconds(length / requests), f"{count / requests:,.0f}"


def device_records(found: Sequence[DeviceUse]) -> list[dict[str, Any]]:
    """The rows for files, sums over the requests."""
    return [asdict(use) for use in found]
