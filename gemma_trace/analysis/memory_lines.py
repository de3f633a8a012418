"""The memory of a trace's allocators and stages over all requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from gemma_trace.analysis.allocations import DeviceMemory, MemoryUse, StageMemory
from gemma_trace.trace.events import NONE


@dataclass(frozen=True)
class AllocatorLine:
    """One allocator over the trace.

    Attributes:
        cache_bytes: of the request with the largest cache; None where none was found.
        step_bytes: what it grows by from one decode range to the next, the median over the requests; None where that
            isn't known.
        activations_bytes: the most of any request; None where cache and activations can't be told apart.
    """

    device: DeviceMemory
    cache_bytes: int | None
    step_bytes: float | None
    activations_bytes: int | None


@dataclass(frozen=True)
class StageMemoryLine:
    """One stage on one device, over the requests.

    Attributes:
        peak_bytes, activations_bytes: the most of any request.
        share: the peak's part of the allocator's, from 0 to 1.
        start_bytes, growth_bytes, allocated_bytes, freed_bytes: means over the requests.
    """

    stage: str
    peak_bytes: int
    share: float
    activations_bytes: int | None
    start_bytes: float
    growth_bytes: float
    allocated_bytes: float
    freed_bytes: float


def allocator_name(device: int) -> str:
    """Whose allocator it is, by the device's index."""
    return "host" if device == NONE else f"device {device}"


def shown_devices(use: MemoryUse) -> Sequence[DeviceMemory]:
    """The devices; the host where there are none."""
    return [device for device in use.devices if device.device != NONE] or use.devices


def allocator_lines(use: MemoryUse) -> list[AllocatorLine]:
    """A line per allocator."""
    return [_allocator_line(use, device) for device in use.devices]


def _allocator_line(use: MemoryUse, device: DeviceMemory) -> AllocatorLine:
    steps = [cache.step_bytes for cache in device.caches if cache.cache_bytes and cache.step_bytes is not None]
    return AllocatorLine(
        device,
        _largest([cache.cache_bytes or None for cache in device.caches]),
        median(steps) if steps else None,
        _largest([row.activations_bytes for row in use.stages if row.device == device.device]),
    )


def stage_memory_lines(use: MemoryUse, device: DeviceMemory) -> list[StageMemoryLine]:
    """The stages that allocate or free anything on a device."""
    by_stage: dict[str, list[StageMemory]] = {}
    for row in use.stages:
        if row.device == device.device:
            by_stage.setdefault(row.stage, []).append(row)
    return [
        _stage_line(stage, rows, device)
        for stage, rows in by_stage.items()
        if any(row.allocated_bytes or row.freed_bytes for row in rows)
    ]


def _stage_line(stage: str, rows: Sequence[StageMemory], device: DeviceMemory) -> StageMemoryLine:
    peak = max(row.peak_bytes for row in rows)
    return StageMemoryLine(
        stage,
        peak,
        peak / device.peak_bytes if device.peak_bytes else 0.0,
        _largest([row.activations_bytes for row in rows]),
        mean(row.start_bytes for row in rows),
        mean(row.growth_bytes for row in rows),
        mean(row.allocated_bytes for row in rows),
        mean(row.freed_bytes for row in rows),
    )


def _largest(values: Sequence[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
