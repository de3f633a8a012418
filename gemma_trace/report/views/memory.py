"""What torch's allocators gave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from gemma_trace.analysis.memory import DeviceMemory, MemoryUse, StageMemory
from gemma_trace.report.model import Column, Section
from gemma_trace.report.numbers import ABSENT, milliseconds, significant
from gemma_trace.report.views.stages import bar
from gemma_trace.trace.events import NONE


def memory_sections(found: MemoryUse, names: Mapping[int, str]) -> list[Section]:
    """A table of the allocators, and one of the stages of each device; of the host where there is no device.

    Args:
        names: marketing names of the devices, by index.
    """
    shown = [device for device in found.devices if device.device != NONE] or found.devices
    return [
        _allocator_section(found),
        *(
            _stage_section(device, [row for row in found.stages if row.device == device.device], names)
            for device in shown
        ),
    ]


def _allocator_section(found: MemoryUse) -> Section:
    columns = (
        Column("allocator", align="left"),
        Column("peak MB"),
        Column("in", 2, align="left"),
        Column("ms into it", 6),
        Column("reserved MB", 5),
        Column("resident MB", 1),
        Column("cache MB", 1),
        Column("cache bytes a step", 3),
        Column("activations MB", 1),
    )
    rows = tuple(
        (
            allocator_name(device),
            megabytes(device.peak_bytes),
            device.peak_stage or "no request",
            milliseconds(device.peak_ns),
            megabytes(device.peak_reserved_bytes) if device.peak_reserved_bytes else ABSENT,
            megabytes(device.resident_bytes),
            megabytes(_largest([cache.cache_bytes or None for cache in device.caches])),
            _step_bytes(device),
            megabytes(_activations(found, device)),
        )
        for device in found.devices
    )
    return Section("Memory", columns, rows, notes=tuple(_notes(found)))


def _stage_section(device: DeviceMemory, stages: Sequence[StageMemory], names: Mapping[int, str]) -> Section:
    """The stages that allocate or free anything: the largest peak of all requests, the mean of what comes and goes."""
    told = any(row.activations_bytes is not None for row in stages)
    columns = (
        Column("stage", align="left"),
        Column("peak MB"),
        Column("", 2, align="left", holds="bar"),
        *((Column("activations MB", 1),) if told else ()),
        Column("at start MB", 4),
        Column("growth MB"),
        Column("allocated MB", 3),
        Column("freed MB", 5),
    )
    rows = []
    for stage in dict.fromkeys(row.stage for row in stages):
        mine = [row for row in stages if row.stage == stage]
        if not any(row.allocated_bytes or row.freed_bytes for row in mine):
            continue
        peak = max(row.peak_bytes for row in mine)
        rows.append(
            (
                stage,
                megabytes(peak),
                bar(peak / device.peak_bytes if device.peak_bytes else 0.0),
                *((megabytes(_largest([row.activations_bytes for row in mine])),) if told else ()),
                megabytes(mean(row.start_bytes for row in mine)),
                _signed(mean(row.growth_bytes for row in mine)),
                megabytes(mean(row.allocated_bytes for row in mine)),
                megabytes(mean(row.freed_bytes for row in mine)),
            )
        )
    name = names.get(device.device, "")
    title = f"Memory by stage, {allocator_name(device)}" + (f", {name}" if name else "")
    notes = (
        "peak: the most that was allocated while the stage was the innermost, of any request. growth: allocated less "
        "freed, the mean a request. Stages that neither allocate nor free are left out.",
    )
    return Section(title, columns, tuple(rows), notes=notes)


def _notes(found: MemoryUse) -> list[str]:
    notes = []
    if any(device.resident_bytes is not None for device in found.devices):
        notes.append("resident: allocated before the profile, the weights and whatever else was there.")
    if any(device.device == NONE for device in found.devices):
        notes.append("The host's allocator counts from the profiler's start: weights loaded before aren't in it.")
    caches = [cache.cache_bytes for device in found.devices for cache in device.caches]
    if any(caches):
        notes.append(
            "cache: what prefill and decode allocate that lasts from step to step and not beyond the request, as the "
            "last decode step begins."
        )
    if any(row.activations_bytes is not None for row in found.stages):
        notes.append("activations: the most that a request holds beside its cache, inputs too, on top of its start.")
    notes += [_unpaired_note(device) for device in found.devices if device.missing or device.unmatched]
    if caches and not any(caches):
        notes.append("No cache was found: it may be among the resident, or stay beyond the request.")
    if any(device.device != NONE for device in found.devices) and any(d.device == NONE for d in found.devices):
        notes.append("The host's stages are in JSON.")
    return notes


def _unpaired_note(device: DeviceMemory) -> str:
    what = f"{device.missing:,} events are missing" if device.missing else f"{device.unmatched:,} events don't pair up"
    return f"{allocator_name(device)}: cache and activations aren't told apart, {what}."


def _activations(found: MemoryUse, device: DeviceMemory) -> int | None:
    return _largest([row.activations_bytes for row in found.stages if row.device == device.device])


def _step_bytes(device: DeviceMemory) -> str:
    known = [cache.step_bytes for cache in device.caches if cache.cache_bytes and cache.step_bytes is not None]
    return f"{median(known):,.0f}" if known else ABSENT


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def memory_record(found: MemoryUse) -> dict[str, Any]:
    """All of it, for JSON."""
    names = {device.device: allocator_name(device) for device in found.devices}
    return {
        kind: [{"allocator": names[row["device"]]} | {key: row[key] for key in row if key != "device"} for row in rows]
        for kind, rows in asdict(found).items()
    }


def allocator_name(device: DeviceMemory) -> str:
    """Whose allocator it is."""
    return "host" if device.device == NONE else f"device {device.device}"


def megabytes(count: float | None) -> str:
    """Bytes as MB, 10⁶ bytes.

    >>> megabytes(3_072), megabytes(None)
    ('0.003', '–')
    """
    return ABSENT if count is None else significant(count / 1e6)


def _signed(count: float) -> str:
    return f"+{megabytes(count)}" if count > 0 else megabytes(count)
