"""What a device was up to over time: how busy it was, how far the host had run ahead of it, what memory it held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import Intervals, union
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.trace import Trace

MOST_WINDOWS: Final = 1000
"""Over how many windows a trace's busy share is taken at most."""


@dataclass(frozen=True)
class Series:
    """Values over time, each valid from its instant to the next.

    Attributes:
        ts_ns: int64 [k], ascending.
        value: int64 or float64 [k].
    """

    ts_ns: IntArray
    value: npt.NDArray[Any]

    def changes(self) -> Series:
        """The series without samples that repeat the one before; the last sample stays."""
        kept = np.append(True, np.diff(self.value) != 0)[: len(self.value)]
        kept[-1:] = True
        return Series(self.ts_ns[kept], self.value[kept])


def busy_pct(trace: Trace, device: int) -> Series:
    """The share of time in which a device runs something, in windows of 1, 2 or 5 · 10ⁿ ns, up to `MOST_WINDOWS`.

    Returns:
        float64 percent at each window's start; 0 after the last.
    """
    chosen = _activities_on(trace, device)
    busy = union(trace.spans.ts_ns[chosen], trace.spans.ends_ns(chosen))
    if not len(busy[0]):
        return Series(np.zeros(0, np.int64), np.zeros(0))
    first, last = int(busy[0][0]), int(busy[1][-1])
    window = _round_length((last - first) / MOST_WINDOWS)
    edges = first + window * np.arange(-((first - last) // window) + 1)
    share = 100.0 * np.diff(_busy_until(busy, edges)) / window
    return Series(edges, np.append(share, 0.0))


def queue_depth(trace: Trace, device: int) -> Series:
    """How many activities of a device have been launched and haven't started: how far the host is ahead of it.

    One counts from the start of the call that launches it to its own start. Unlinked ones are left out, and so are
    those that start before their launch, where the clocks disagree.

    Returns:
        int64 counts, at each change.
    """
    places = trace.on_device.of(device)
    chosen, launch = trace.activities[places], trace.launch[places]
    spans = trace.spans
    linked = launch >= 0
    launched, started = spans.ts_ns[launch[linked]], spans.ts_ns[chosen[linked]]
    ahead = started > launched
    ts_ns = np.concatenate((launched[ahead], started[ahead]))
    step = np.repeat([1, -1], int(ahead.sum()))
    at, place = np.unique(ts_ns, return_inverse=True)
    change = np.zeros(len(at), dtype=np.int64)
    np.add.at(change, place, step)
    return Series(at[change != 0], np.cumsum(change)[change != 0])


def allocated_bytes(trace: Trace, device: int) -> tuple[Series, Series]:
    """What torch's allocator of a device had given out, and what it had reserved, where memory was profiled.

    Args:
        device: its index; `NONE` is the host.

    Returns:
        int64 bytes, at each of the allocator's events.
    """
    memory = trace.memory
    events = trace.memory_on.of(device)
    events = events[np.argsort(memory.ts_ns[events], kind="stable")]
    return Series(memory.ts_ns[events], memory.allocated_bytes[events]), Series(
        memory.ts_ns[events], memory.reserved_bytes[events]
    )


def _activities_on(trace: Trace, device: int) -> IntArray:
    on_device: IntArray = trace.activities[trace.on_device.of(device)]
    return on_device


def _busy_until(busy: Intervals, at: IntArray) -> IntArray:
    """How long a set has lasted up to each of these instants."""
    start, end = busy
    before = np.append(0, np.cumsum(end - start))
    place = np.searchsorted(start, at, side="right") - 1
    inside = np.where(place >= 0, np.minimum(at, end[place]) - start[place], 0)
    lasted: IntArray = np.where(place >= 0, before[place] + inside, 0)
    return lasted


def _round_length(least: float) -> int:
    """The smallest of 1, 2, 5 · 10ⁿ that is no smaller."""
    power = 1
    while True:
        for digit in (1, 2, 5):
            if digit * power >= least:
                return digit * power
        power *= 10
