"""What the counters of a trace say of its stages: means over the instants that each stage answers for.

A value holds until the next of its series, so a mean is weighted by time. Before a series' first value nothing is
known; how much of a stage is known is said beside its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import intersect
from gemma_trace.analysis.lanes import Lane, stage_lanes_of
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

FloatArray = npt.NDArray[np.float64]

_SCALE: Final = 2.0**-62
"""Lengths are weighted by this, a power of two, so that no sum of finite values is infinite."""


@dataclass(frozen=True)
class CounterMean:
    """A series over some stretch of time.

    Attributes:
        mean: of its values, weighted by time; None where none is known.
        min, max: of the values that hold at some instant of it.
        known_ns: for how long a value is known.
        time_ns: how long the stretch is.
    """

    mean: float | None
    min: float | None
    max: float | None
    known_ns: int
    time_ns: int


@dataclass(frozen=True)
class CounterUse:
    """One series over the requests.

    Attributes:
        counter: its name.
        source: the device or process that it is of, e.g. "device 0".
        samples: how many values the trace has of it.
        total: over the requests' whole wall time.
        stages: by stage, in their order, over the time that the stage answers for; those without time are left out.
    """

    counter: str
    source: str
    samples: int
    total: CounterMean
    stages: dict[str, CounterMean]


def counter_use(trace: Trace, requests: Sequence[Request]) -> list[CounterUse]:
    """What each series of counters was during each stage, in the order in which the trace has them first."""
    counters = trace.counters
    if not len(counters):
        return []
    lanes = [each.time for each in stage_lanes_of(trace, requests)]
    names = [name for _, name in rows_in_order(trace)]
    order = np.lexsort((np.arange(len(counters)), counters.ts_ns, counters.series))
    bounds = np.searchsorted(counters.series[order], np.arange(len(counters.table) + 1))
    uses = []
    for code, series in enumerate(counters.table):
        values = order[bounds[code] : bounds[code + 1]]
        sums = _Sums(len(names))
        for lane in lanes:
            sums.add(lane, counters.ts_ns[values], counters.value[values])
        used = {name: sums.mean([row]) for row, name in enumerate(names) if sums.time_ns[row]}
        total = sums.mean(list(range(len(names))))
        uses.append(CounterUse(series.name, _source(trace, series.pid), len(values), total, used))
    return uses


class _Sums:
    """Sums over time, by stage."""

    def __init__(self, rows: int) -> None:
        self.time_ns, self._known_ns = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        self._weighted = np.zeros(rows)
        self._low, self._high = np.full(rows, np.inf), np.full(rows, -np.inf)

    def add(self, lane: Lane, ts_ns: IntArray, value: FloatArray) -> None:
        """Add one request's time.

        Args:
            ts_ns: int64 [k], ascending; of values at one instant the last holds.
        """
        np.add.at(self.time_ns, lane.stage, lane.end_ns - lane.start_ns)
        until = np.append(ts_ns[1:], np.maximum(ts_ns[-1], lane.end_ns[-1]) if len(lane) else ts_ns[-1])
        holds = until > ts_ns
        start, end, piece, sample = intersect((lane.start_ns, lane.end_ns), (ts_ns[holds], until[holds]))
        stage, held, length = lane.stage[piece], value[holds][sample], end - start
        np.add.at(self._known_ns, stage, length)
        np.add.at(self._weighted, stage, held * (length * _SCALE))
        np.minimum.at(self._low, stage, held)
        np.maximum.at(self._high, stage, held)

    def mean(self, rows: list[int]) -> CounterMean:
        """The mean over some of the stages."""
        known, time = int(self._known_ns[rows].sum()), int(self.time_ns[rows].sum())
        if not known:
            return CounterMean(None, None, None, 0, time)
        mean = float(self._weighted[rows].sum()) / (known * _SCALE)
        return CounterMean(mean, float(self._low[rows].min()), float(self._high[rows].max()), known, time)


def _source(trace: Trace, pid: str) -> str:
    """Whose counter it is: the device whose activities are drawn in the same process, else the process."""
    spans = trace.spans
    here = np.array([track.pid == pid for track in spans.tracks], dtype=bool)
    on = distinct(spans.device[trace.activities[here[spans.track[trace.activities]]]]).tolist()
    if len(on) == 1 and on[0] != NONE:
        return f"device {on[0]}"
    named = trace.names.processes.get(pid) or trace.names.labels.get(pid)
    return named or (f"process {pid}" if pid else "")
