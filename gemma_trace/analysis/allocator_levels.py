"""What an allocator had given out at each instant, from its events."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gemma_trace.trace.events import NONE, Codes, IntArray
from gemma_trace.trace.recordings import recording_at, recording_edges
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class AllocatorLevels:
    """One device's events, by time. All columns have the length k.

    Attributes:
        size: int64, what was allocated; below zero what was freed.
        total: int64, what was allocated after each.
        before: what was allocated before the first.
        freed_at: int64, the place of the event that freed what this one allocated; k if none did.
        stage: int64, the stage code of each event.
        missing, unmatched: as in `DeviceMemory`.
    """

    ts_ns: IntArray
    size: IntArray
    total: IntArray
    before: int
    freed_at: IntArray
    stage: IntArray
    missing: int
    unmatched: int

    @property
    def is_paired(self) -> bool:
        """Whether it is known of every block when it was freed."""
        return not self.missing and not self.unmatched

    def near(self, low_ns: int, high_ns: int) -> AllocatorLevels:
        """The events from one instant on, up to another; what is freed later is not freed in here."""
        first, last = np.searchsorted(self.ts_ns, (low_ns, high_ns)).tolist()
        here, freed = slice(first, last), self.freed_at[first:last]
        return replace(
            self,
            ts_ns=self.ts_ns[here],
            size=self.size[here],
            total=self.total[here],
            before=int(self.total[first] - self.size[first]) if first < len(self.total) else int(self.total[-1]),
            freed_at=np.where(freed < last, freed, last) - first,
            stage=self.stage[here],
        )

    def at(self, ts_ns: IntArray, values: IntArray, before: int) -> IntArray:
        """The level of one of the columns just before each instant."""
        place = np.searchsorted(self.ts_ns, ts_ns, side="left")
        return np.append(before, values)[place]

    def peaks(self, start: IntArray, end: IntArray, values: IntArray, before: int) -> IntArray:
        """The highest level within each interval, the one it begins with included."""
        low = np.searchsorted(self.ts_ns, start, side="left")
        high = np.searchsorted(self.ts_ns, end, side="left")
        peaks = self.at(start, values, before)
        some = np.flatnonzero(high > low)
        if len(some):
            # Maxima between neighbouring indices; every other one is of an interval. The end needs an index, too.
            edges = np.column_stack((low[some], high[some])).ravel()
            inside = np.maximum.reduceat(np.append(values, np.iinfo(np.int64).min), edges)[::2]
            peaks[some] = np.maximum(peaks[some], inside)
        return peaks


def levels_of(trace: Trace, device: int) -> AllocatorLevels:
    """One device's events with the level after each. They belong to the innermost stage of their own threads."""
    memory = trace.memory
    events = trace.memory_on.of(device)
    events = events[np.argsort(memory.ts_ns[events], kind="stable")]
    size, total = memory.bytes[events], memory.allocated_bytes[events]
    if (total == NONE).all():  # older profilers give no totals
        total = np.cumsum(size)
    # Between two recordings blocks come and go unseen.
    recording = recording_at(recording_edges(trace.spans), memory.ts_ns[events])
    freed_at, unmatched = _pair(memory.address[events], size, recording)
    missing = int(((total[1:] != total[:-1] + size[1:]) & (recording[1:] == recording[:-1])).sum())
    return AllocatorLevels(
        ts_ns=memory.ts_ns[events],
        size=size,
        total=total,
        before=int(total[0] - size[0]),
        freed_at=freed_at,
        stage=_stage_of_events(trace, memory.ts_ns[events], memory.track[events]),
        missing=missing,
        unmatched=unmatched,
    )


def _pair(address: IntArray, size: IntArray, recording: IntArray) -> tuple[IntArray, int]:
    """The event that frees each block, and how many events don't go together.

    Returns:
        int64 [k], the place of the next event at the same address in the recording; k for a block that stays.
    """
    k = len(address)
    order = np.lexsort((address, recording))
    following = np.full(k, k, dtype=np.int64)
    same = (np.diff(address[order]) == 0) & (np.diff(recording[order]) == 0)
    following[order[:-1][same]] = order[1:][same]
    pairs = np.flatnonzero(following < k)
    # An allocation is followed by a free of its size, a free by an allocation.
    wrong = np.where(size[pairs] > 0, size[following[pairs]] != -size[pairs], size[following[pairs]] < 0).sum()
    return np.where(size > 0, following, k), int(wrong + (address == NONE).sum())


def _stage_of_events(trace: Trace, ts_ns: IntArray, track: Codes) -> IntArray:
    """The stage code of the innermost range open at each instant on its thread."""
    return trace.stage_of_ranges(trace.stage_range_at(track, ts_ns))
