"""What torch's allocators gave out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from gemma_trace.analysis.allocations import DeviceMemory, MemoryUse, StageMemory
from gemma_trace.analysis.memory_lines import (
    AllocatorLine,
    StageMemoryLine,
    allocator_lines,
    allocator_name,
    shown_devices,
    stage_memory_lines,
)
from gemma_trace.report.table import Col, Table, holding
from gemma_trace.report.units import BAR, MB, MS, NUMBER, signed_megabytes, whole
from gemma_trace.store import columns
from gemma_trace.trace.events import NONE
from gemma_trace.wording import counted

TOLD_APART: Final = "cache and activations are told apart"


def _name(row: DeviceMemory | StageMemory) -> str:
    return allocator_name(row.device)


def _caches(row: DeviceMemory) -> tuple[dict[str, Any], ...]:
    return tuple(asdict(cache) for cache in row.caches)


def _peak_stage(row: DeviceMemory) -> str:
    return row.peak_stage or "no request"


def _reserved(row: DeviceMemory) -> int | None:
    return row.peak_reserved_bytes or None


ALLOCATOR: Final = Col.stored(columns.ALLOCATOR, "allocator", value=_name)
RESIDENT: Final = Col.stored(
    columns.RESIDENT_BYTES.with_note(". None for the host, whose allocator counts from the profiler's start"),
    "resident",
    MB,
    priority=1,
)
PEAK: Final = Col.stored(columns.PEAK_BYTES, "peak", MB)
RESERVED: Final = Col(
    "peak_reserved_bytes", "reserved", MB, definition="the most it had reserved; 0 on the host", priority=5
)
PEAK_STAGE: Final = Col(
    "peak_stage", "in", definition="in which stage the peak was reached first; empty outside of requests", priority=2
)
PEAK_AT: Final = Col(
    "peak_ns",
    "into it",
    replace(MS, suffix=""),
    definition="how long after the request's start; outside of requests after the first event",
    priority=6,
)

ALLOCATOR_FILE: Final = (
    ALLOCATOR,
    Col("events", definition="how many it left"),
    *(RESIDENT, PEAK, RESERVED),
    Col("peak_request", definition="in which request the peak was reached first; none outside of requests"),
    *(PEAK_STAGE, PEAK_AT),
    Col("missing", definition="totals that aren't the one before plus the event's bytes"),
    Col(
        "unmatched",
        definition=(
            "events that don't pair into blocks by address and size. Either of the two makes cache and activations "
            "unknown"
        ),
    ),
    Col(
        "caches",
        definition=(
            "of each request with a `decode` range: `cache_bytes` as the last of them begins, `step_bytes`, the mean "
            "growth from one to the next"
        ),
        value=_caches,
    ),
)
"""A row per allocator, over the whole trace."""

ALLOCATOR_COLS: Final = (
    ALLOCATOR.within("device"),
    PEAK.within("device"),
    PEAK_STAGE.of(_peak_stage).within("device"),
    replace(PEAK_AT, header="ms into it").within("device"),
    RESERVED.of(_reserved).within("device"),
    RESIDENT.within("device"),
    Col("cache_bytes", "cache", MB, priority=1),
    Col("step_bytes", "cache bytes per step", NUMBER, whole, priority=3),
    Col("activations_bytes", "activations", MB, priority=1),
)
"""A row per allocator, for people."""

STAGE: Final = Col.stored(columns.STAGE, "stage")
START: Final = Col.stored(columns.START_BYTES, "at start", MB, priority=4)
STAGE_PEAK: Final = Col(
    "peak_bytes", "peak", MB, definition="the most that is allocated while it is the innermost stage"
)
ALLOCATED: Final = Col.stored(columns.ALLOCATED_BYTES, "allocated", MB, priority=3)
FREED: Final = Col.stored(columns.FREED_BYTES, "freed", MB, priority=5)
GROWTH: Final = Col(
    "growth_bytes",
    "growth",
    MB,
    signed_megabytes,
    definition=("`allocated_bytes` − `freed_bytes`; Σ over stages = allocated at the request's end less at its start"),
)
ACTIVATIONS: Final = Col.stored(
    columns.ACTIVATIONS_BYTES.with_note(
        ". Up to the last `decode`, after which nothing tells cache from the rest; none in a prefill without a "
        "`decode` after it"
    ),
    "activations",
    MB,
    priority=1,
    when=TOLD_APART,
)

STAGE_FILE: Final = (
    ALLOCATOR,
    Col.stored(columns.REQUEST),
    *(STAGE, START, STAGE_PEAK),
    Col(
        "range_peak_bytes",
        definition=(
            "the most from a start to an end of its ranges, stages nested in them included; of `unattributed` that of "
            "the request"
        ),
    ),
    *(GROWTH, ALLOCATED, FREED, ACTIVATIONS),
)
"""A row per allocator, request and stage."""

STAGE_COLS: Final = (
    *(STAGE, STAGE_PEAK, Col("share", "", BAR, priority=2), ACTIVATIONS, START, GROWTH, ALLOCATED, FREED),
)
"""A row per stage, over the requests."""

_STAGE_NOTE: Final = (
    "peak: the most that was allocated in any request while the stage was the innermost one. growth: allocated less "
    "freed, the mean per request. Stages that neither allocate nor free are left out."
)


def memory_tables(use: MemoryUse, names: Mapping[int, str]) -> list[Table[Any]]:
    """A table of the allocators, and one of the stages of each device; of the host where there is no device.

    Args:
        names: marketing names of the devices, by index.
    """
    return [allocator_table(use), *(stage_table(use, device, names) for device in shown_devices(use))]


def allocator_table(use: MemoryUse) -> Table[AllocatorLine]:
    """A row per allocator."""
    return Table("Memory", ALLOCATOR_COLS, allocator_lines(use), notes=tuple(_notes(use)))


def stage_table(use: MemoryUse, device: DeviceMemory, names: Mapping[int, str]) -> Table[StageMemoryLine]:
    """The stages that allocate or free anything: the largest peak of all requests, the mean of what comes and goes."""
    is_told = any(row.activations_bytes is not None for row in use.stages if row.device == device.device)
    name = names.get(device.device, "")
    title = f"Memory by stage, {_name(device)}" + (f", {name}" if name else "")
    conditions = holding({TOLD_APART: is_told})
    return Table(title, STAGE_COLS, stage_memory_lines(use, device), notes=(_STAGE_NOTE,), conditions=conditions)


def memory_record(use: MemoryUse) -> dict[str, Any]:
    """For JSON: all of it."""
    return {
        "devices": Table("Allocators", ALLOCATOR_FILE, use.devices),
        "stages": Table("Memory by stage", STAGE_FILE, use.stages),
    }


def _notes(use: MemoryUse) -> list[str]:
    notes = []
    if any(device.resident_bytes is not None for device in use.devices):
        notes.append(
            "resident: what was allocated before the profiler started: the weights and whatever else was there."
        )
    if any(device.device == NONE for device in use.devices):
        notes.append(
            "The host's allocator counts from the profiler's start, so weights that were loaded before are "
            "not included."
        )
    caches = [cache.cache_bytes for device in use.devices for cache in device.caches]
    if any(caches):
        notes.append(
            "cache: what prefill and decode allocate and keep from step to step, but not beyond the request; its "
            "size when the last decode step begins."
        )
    if any(row.activations_bytes is not None for row in use.stages):
        notes.append(
            "activations: the most that a request allocates besides its cache, beyond what was allocated "
            "when it began; inputs are included."
        )
    notes += [_unpaired_note(device) for device in use.devices if device.missing or device.unmatched]
    if caches and not any(caches):
        notes.append(
            "No cache was found: it may have been allocated before the profiler started, or outlive the request."
        )
    if any(device.device != NONE for device in use.devices) and any(d.device == NONE for d in use.devices):
        notes.append("The stages of the host's allocator are in the JSON (--format json).")
    return notes


def _unpaired_note(device: DeviceMemory) -> str:
    lost = f"{counted(device.missing, 'event')} {'is' if device.missing == 1 else 'are'} missing"
    alone = f"{counted(device.unmatched, 'event')} {'has' if device.unmatched == 1 else 'have'} no counterpart"
    what = lost if device.missing else alone
    return f"{_name(device)}: cache and activations can't be told apart, because {what}."
