"""What torch's allocators gave out, by request and stage, from the profiler's memory events.

An allocator says with each event what it has given out in all. Between two events nothing changes, so the total is
known at every instant. An event belongs to the innermost stage open on its own thread; the level at an instant to the
innermost stage open on the request's thread, whichever thread allocated.

Three kinds of bytes are told apart where the trace allows:

* *resident*: what a device's allocator had given out before its first event. In a capture the weights, and little
  else. The host's allocator counts from the profiler's start, so there nobody knows.
* *cache*: blocks allocated in a prefill or a decode range that are still there when the next decode range begins, and
  that are freed by the end of the request. Blocks that stay beyond the request are something else.
* *activations*: all else on top of what there was when the request began: the inputs too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gemma_trace.analysis.allocator_levels import AllocatorLevels, levels_of
from gemma_trace.analysis.timeline import Request, host_segments, ranges_in
from gemma_trace.arguments import checked
from gemma_trace.stages import UNATTRIBUTED_CODE, Stage
from gemma_trace.tabular import Tabular, fields_of
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

_STAGES: Final = list(Stage)
_DECODE: Final = _STAGES.index(Stage.DECODE)
_MODEL: Final = (_STAGES.index(Stage.PREFILL), _DECODE)
_NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class StageMemory:
    """One stage of one request on one device.

    Attributes:
        device: its index; `NONE` is the host.
        start_bytes: what was allocated when the stage first began.
        peak_bytes: the most that was allocated while it was the innermost stage of the request's thread.
        range_peak_bytes: the most between a start and an end of its ranges, so with the stages nested in them; of
            `unattributed` the most in the whole request.
        growth_bytes: `allocated_bytes` - `freed_bytes`; over all stages, by how much the request grew.
        allocated_bytes, freed_bytes: Σ over its events.
        activations_bytes: the most that was allocated on top of the request's start, the cache left out, while it was
            the innermost stage; None where cache and activations can't be told apart.
    """

    request: int
    stage: str
    device: int
    start_bytes: int
    peak_bytes: int
    range_peak_bytes: int
    growth_bytes: int
    allocated_bytes: int
    freed_bytes: int
    activations_bytes: int | None


@dataclass(frozen=True)
class CacheMemory:
    """The cache of one request on one device.

    Attributes:
        cache_bytes: when the last decode range begins.
        step_bytes: growth from one decode range to the next, the mean; None for one range.
    """

    request: int
    cache_bytes: int
    step_bytes: float | None


@dataclass(frozen=True)
class DeviceMemory:
    """One allocator over the trace.

    Attributes:
        device: its index; `NONE` is the host.
        events: how many it left.
        resident_bytes: what it had given out before; None where it counts from the profiler's start.
        peak_bytes: the most it had given out.
        peak_reserved_bytes: the most it had reserved; 0 on the host.
        peak_request, peak_stage: where the peak was first reached; None and "" outside of requests.
        peak_ns: from that request's start; outside of requests from the trace's first event of this device.
        missing: how often a total isn't the one before plus the event's bytes.
        unmatched: blocks that are allocated twice without a free between, or freed twice, or in another size.
        caches: by request, those with a decode range.
    """

    device: int
    events: int
    resident_bytes: int | None
    peak_bytes: int
    peak_reserved_bytes: int
    peak_request: int | None
    peak_stage: str
    peak_ns: int
    missing: int
    unmatched: int
    caches: tuple[CacheMemory, ...]


@dataclass(frozen=True, repr=False)
class MemoryUse(Tabular):
    """What the allocators of a trace gave out.

    Attributes:
        devices: over the whole trace, the host last.
        stages: by device, by request, by stage in the order of a breakdown.
    """

    devices: tuple[DeviceMemory, ...]
    stages: tuple[StageMemory, ...]

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"Memory by stage, of {counted(len(self.devices), 'allocator')}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per device, request and stage."""
        yield from (dict(fields_of(row)) for row in self.stages)


@checked
def memory_use(trace: Trace, requests: Sequence[Request] | None = None) -> MemoryUse | None:
    """What the allocators gave out; None where memory wasn't profiled.

    Args:
        requests: those to take stages and caches of; None is all. Devices are of the whole trace either way.
    """
    if not len(trace.memory):
        return None
    everything = trace.requests
    chosen = everything if requests is None else requests
    devices, stages = [], []
    for device in sorted(distinct(trace.memory.device).tolist(), key=lambda index: (index == NONE, index)):
        levels = levels_of(trace, device)
        caches: list[CacheMemory] = []
        for request in chosen:
            ends = trace.spans.ends_ns(ranges_in(trace, request))
            near = levels.near(request.start_ns, max(request.end_ns, int(ends.max(initial=0))))
            ranges = _model_ranges(trace, request)
            is_cache = _cache_blocks(near, request, ranges)
            stages += _stage_rows(trace, near, request, device, _beside_cache(trace, near, request, is_cache))
            if is_cache is not None and len(ranges[1]):
                caches.append(_cache(near, request, is_cache, ranges[1]))
        devices.append(_device(trace, levels, device, everything, caches))
    return MemoryUse(tuple(devices), tuple(stages))


def _model_ranges(trace: Trace, request: Request) -> tuple[IntArray, IntArray]:
    """When the first prefill or decode range begins, if any does, and when each decode range does."""
    ranges = ranges_in(trace, request)
    code, start = trace.stage_range[ranges], trace.spans.ts_ns[ranges]
    return np.sort(start[np.isin(code, _MODEL)])[:1], np.sort(start[code == _DECODE])


def _cache_blocks(levels: AllocatorLevels, request: Request, ranges: tuple[IntArray, IntArray]) -> BoolArray | None:
    """bool [k], which events allocate a block of the cache; None where that can't be told.

    Blocks that are allocated after the last decode range begins are left out: nothing says whether they'd have lasted.
    """
    if not levels.is_paired:
        return None
    first, decode = ranges
    if not len(decode):
        return None if len(first) else np.zeros(len(levels.ts_ns), dtype=bool)
    next_step = np.append(decode, _NEVER)[np.searchsorted(decode, levels.ts_ns, side="right")]
    freed_ns = np.append(levels.ts_ns, _NEVER)[levels.freed_at]
    made = (levels.size > 0) & np.isin(levels.stage, _MODEL) & (levels.ts_ns >= request.start_ns)
    is_cache: BoolArray = made & (freed_ns >= next_step) & (freed_ns < request.end_ns) & (next_step < _NEVER)
    return is_cache


def _cache_level(levels: AllocatorLevels, is_cache: BoolArray) -> IntArray:
    """int64 [k], the bytes of the cache after each event."""
    change = np.where(is_cache, levels.size, 0)
    change[levels.freed_at[is_cache]] -= levels.size[is_cache]
    level: IntArray = np.cumsum(change)
    return level


def _cache(levels: AllocatorLevels, request: Request, is_cache: BoolArray, decode: IntArray) -> CacheMemory:
    held = levels.at(decode, _cache_level(levels, is_cache), 0)
    steps = len(decode) - 1
    return CacheMemory(request.index, int(held[-1]), float(held[-1] - held[0]) / steps if steps else None)


@dataclass(frozen=True)
class _Beside:
    """What a request holds beside its cache.

    Attributes:
        level: int64 [k], after each event.
        before: before the first.
        until_ns: from here on nothing tells it from the cache.
    """

    level: IntArray
    before: int
    until_ns: int


def _beside_cache(
    trace: Trace, levels: AllocatorLevels, request: Request, is_cache: BoolArray | None
) -> _Beside | None:
    if not levels.is_paired:
        return None
    first, decode = _model_ranges(trace, request)
    until = decode[-1] if len(decode) else first[0] if len(first) else request.end_ns
    cache = _cache_level(levels, is_cache) if is_cache is not None else np.zeros(len(levels.ts_ns), dtype=np.int64)
    began = int(levels.at(np.array([request.start_ns]), levels.total, levels.before)[0])
    return _Beside(levels.total - cache - began, levels.before - began, int(until))


def _stage_rows(
    trace: Trace, levels: AllocatorLevels, request: Request, device: int, beside: _Beside | None
) -> list[StageMemory]:
    """The request's stages on a device: those that it has a range or an event of, and `unattributed`."""
    spans, rows = trace.spans, len(trace.stage_names)
    ranges = ranges_in(trace, request)
    whole = (np.append(request.start_ns, spans.ts_ns[ranges]), np.append(request.end_ns, spans.ends_ns(ranges)))
    whole_row = np.append(UNATTRIBUTED_CODE, trace.stage_range[ranges])
    start, end, row = host_segments(trace, request)
    elsewhere = ~np.isin(whole_row, row)  # stages that run on other threads alone
    start = np.append(start, whole[0][elsewhere])
    end = np.append(end, whole[1][elsewhere])
    row = np.append(row, whole_row[elsewhere])

    inside = slice(*np.searchsorted(levels.ts_ns, [request.start_ns, request.end_ns]).tolist())
    size, stage = levels.size[inside], levels.stage[inside]
    allocated, freed = (np.bincount(stage, np.maximum(sign * size, 0), rows).astype(np.int64) for sign in (1, -1))
    peak = _highest(levels.peaks(start, end, levels.total, levels.before), row, rows)
    range_peak = _highest(levels.peaks(*whole, levels.total, levels.before), whole_row, rows)
    activations = _activations(levels, start, end, row, rows, beside)
    first_ns = np.full(rows, _NEVER, dtype=np.int64)
    np.minimum.at(first_ns, whole_row, whole[0])
    start_bytes = levels.at(first_ns, levels.total, levels.before)
    shown = distinct(np.concatenate((whole_row, row, stage))).tolist()
    order = [*(code for code in shown if code != UNATTRIBUTED_CODE), UNATTRIBUTED_CODE]
    return [
        StageMemory(
            request=request.index,
            stage=trace.stage_names[code],
            device=device,
            start_bytes=int(start_bytes[code]),
            peak_bytes=int(peak[code]),
            range_peak_bytes=int(range_peak[code]),
            growth_bytes=int(allocated[code] - freed[code]),
            allocated_bytes=int(allocated[code]),
            freed_bytes=int(freed[code]),
            activations_bytes=activations.get(code),
        )
        for code in order
    ]


def _activations(
    levels: AllocatorLevels, start: IntArray, end: IntArray, row: IntArray, rows: int, beside: _Beside | None
) -> dict[int, int]:
    """The most beside the cache by stage code, for the stages of which it can be told."""
    if beside is None:
        return {}
    told = start < beside.until_ns
    start, end, row = start[told], np.minimum(end[told], beside.until_ns), row[told]
    highest = _highest(levels.peaks(start, end, beside.level, beside.before), row, rows)
    return {code: int(highest[code]) for code in distinct(row).tolist()}


def _highest(values: IntArray, row: IntArray, rows: int) -> IntArray:
    highest = np.full(rows, np.iinfo(np.int64).min, dtype=np.int64)
    np.maximum.at(highest, row, values)
    return highest


def _device(
    trace: Trace, levels: AllocatorLevels, device: int, requests: Sequence[Request], caches: Sequence[CacheMemory]
) -> DeviceMemory:
    place = int(levels.total.argmax())
    at_ns = int(levels.ts_ns[place])
    request = next((each for each in requests if each.start_ns <= at_ns < each.end_ns), None)
    events = trace.memory_on.of(device)
    on_device = device != NONE and not (trace.memory.allocated_bytes[events] == NONE).all()
    return DeviceMemory(
        device=device,
        events=len(levels.ts_ns),
        resident_bytes=levels.before if on_device else None,
        peak_bytes=max(int(levels.total[place]), levels.before),
        peak_reserved_bytes=max(int(trace.memory.reserved_bytes[events].max()), 0),
        peak_request=request.index if request else None,
        peak_stage=trace.stage_names[int(levels.stage[place])] if request else "",
        peak_ns=at_ns - (request.start_ns if request else int(levels.ts_ns[0])),
        missing=levels.missing,
        unmatched=levels.unmatched,
        caches=tuple(caches),
    )
