"""Why a stage takes its time: its `time_ns` split by what the device and the host do in it, to the nanosecond.

While the device is active, time goes by the family of the activity that owns the instant. While it is idle, time goes
by what the thread does whose stage answers for it, the request's or another one's:

* `sync`: it waits in a synchronising call, though the device has nothing to do;
* `transfer`: it is in a call that copies;
* `launch`: it is on its way to the stage's next launch, which ends the gap: the device waits for the host;
* `host`: it works for itself (Python, Pillow, ops that launch nothing);
* `profiler`: the profiler itself holds it up, whatever it is in.

A stage that gives the device nothing has `host` time, and the profiler's, alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import numpy as np

from gemma_trace.analysis.cold import long_calls
from gemma_trace.analysis.host_pieces import HostPieces, HostThreads
from gemma_trace.analysis.intervals import EMPTY, Intervals, intersect
from gemma_trace.analysis.launched import lacking, launches
from gemma_trace.analysis.longest import Idle, LongCall, cold_ns, longest_calls
from gemma_trace.analysis.overhead import overhead_of
from gemma_trace.analysis.pieces import Pieces, cut_all
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.analysis.work_groups import OUTSIDE_OPS, families
from gemma_trace.analysis.work_pieces import Work, device_work
from gemma_trace.arguments import checked
from gemma_trace.tabular import Rows
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace

_BLOCKING: Final = re.compile(r"(?>\w*?Synchronize)\w*", re.I)
_OVERHEAD: Final = "allocation and views"


class Kind(StrEnum):
    """What a piece of time is spent on."""

    DEVICE = "device"
    TRANSFER = "transfer"
    LAUNCH = "launch"
    SYNC = "sync"
    HOST = "host"
    PROFILER = "profiler"


@dataclass(frozen=True)
class Part:
    """A part of a stage's time.

    Attributes:
        name: the family of the work; of `launch` and `sync` their own name; of `profiler` what it does.
    """

    kind: Kind
    name: str
    time_ns: int


@dataclass(frozen=True)
class StageReason:
    """Why one stage takes its time; over all of the requests.

    Attributes:
        time_ns: as in `StageTime`; equals the sum of the parts.
        parts: the largest first.
        activities: device activities that the stage launched.
        launches: the calls that launched them.
        median_activity_ns: the median of the activities' lengths; None without any.
        requests: how many the figures are of.
        cold_ns: what of the host and launch time lies in calls that are the first of their kind, or that make memory,
            streams or code; see `cold.py`.
        longest: the call in which most of the time lies, of those that are long; None where none is.
    """

    stage: str
    time_ns: int
    parts: tuple[Part, ...]
    activities: int
    launches: int
    median_activity_ns: float | None
    requests: int
    cold_ns: int = 0
    longest: LongCall | None = None

    def by_kind_ns(self, kind: Kind) -> int:
        """The time of all parts of a kind."""
        return sum(part.time_ns for part in self.parts if part.kind is kind)


class StageReasons(Rows[StageReason]):
    """Why each stage takes its time; as a table the parts are summed up by their kind."""

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per stage."""
        for reason in self:
            kinds_ns = {f"{kind.value}_ns": reason.by_kind_ns(kind) for kind in Kind}
            counts = {"activities": reason.activities, "launches": reason.launches, "requests": reason.requests}
            yield {"stage": reason.stage, "time_ns": reason.time_ns, **kinds_ns, **counts, "cold_ns": reason.cold_ns}


@checked
def stage_reasons(trace: Trace, request: int | Request | None = None) -> StageReasons:
    """Split every stage's time, in the order a request goes through them.

    Args:
        request: only the request of this index; None is all whose device activities are there, summed up.

    Raises:
        InputError: there is no such request.

    >>> [(part.name, part.time_ns) for part in stage_reasons(trace)[0].parts]      # doctest: +SKIP
    """
    requests = _chosen(trace, request)
    splitter = _Splitter(trace)
    rows = len(trace.stage_names) + 1
    sums: dict[int, dict[tuple[Kind, str], int]] = {}
    launched: dict[int, list[IntArray]] = {}
    cold = np.zeros(rows, dtype=np.int64)
    longest: dict[int, LongCall] = {}
    for pieces in cut_all(trace, requests):
        parts, idle = splitter.split(pieces)
        for row, kind, name, time_ns in parts:
            own_sums = sums.setdefault(row, {})
            own_sums[kind, name] = own_sums.get((kind, name), 0) + time_ns
        cold += cold_ns(trace, pieces.line, idle, splitter.long, rows)
        for row, call in longest_calls(trace, pieces.line, idle, splitter.long, rows).items():
            if row not in longest or call.time_ns > longest[row].time_ns:
                longest[row] = call
        answering = np.flatnonzero(pieces.own)
        for row, of_row in Places(pieces.device_row[answering]):
            launched.setdefault(row, []).append(pieces.activity[answering[of_row]])
    reasons = []
    for row, stage in rows_in_order(trace):
        if row not in sums:
            continue
        split = [Part(kind, name, time_ns) for (kind, name), time_ns in sums[row].items()]
        activities = np.concatenate(launched.get(row, [np.zeros(0, np.int64)]))
        reasons.append(
            StageReason(
                stage=stage,
                time_ns=sum(part.time_ns for part in split),
                parts=tuple(sorted(split, key=lambda part: -part.time_ns)),
                activities=len(activities),
                launches=len(distinct(trace.launch[activities][trace.launch[activities] >= 0])),
                median_activity_ns=float(np.median(trace.spans.dur_ns[trace.activities[activities]]))
                if len(activities)
                else None,
                requests=len(requests),
                cold_ns=int(cold[row]),
                longest=longest.get(row),
            )
        )
    return StageReasons(reasons)


def _chosen(trace: Trace, request: int | Request | None) -> Sequence[Request]:
    """The requests that are summed up."""
    everything = trace.chosen(request)
    if request is not None:
        return everything
    without = set(lacking(trace, launches(trace), everything))
    return [reason for place, reason in enumerate(everything) if place not in without] or everything


class _Held(NamedTuple):
    """Pieces of `HostPieces`, and in each the profiler's span that holds the request up, or `NONE`; int64 [p] each."""

    interval: Intervals
    row: IntArray
    gap: IntArray
    track: IntArray
    span: IntArray
    overhead: IntArray


class _Splitter:
    """Splits pieces of requests; what it needs of the whole trace is worked out once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._device_family, self._device_names = families(trace, device_work(trace))
        spans, launch = trace.spans, trace.launch
        self._is_copy = np.array([name.startswith("memcpy") for name in self._device_names], dtype=bool)
        copies = launch[self._is_copy[self._device_family]] if len(launch) else launch
        self._copies = np.zeros(len(spans), dtype=bool)
        self._copies[copies[copies >= 0]] = True
        blocking = np.array([bool(_BLOCKING.fullmatch(name)) for name in spans.names], dtype=bool)
        self._waits = blocking[spans.name] & trace.is_call
        self._threads = HostThreads(trace)
        calls = distinct(launch[launch >= 0])
        self._called = {track: spans.ts_ns[calls[rows]] for track, rows in Places(spans.track[calls])}
        self.long = long_calls(trace)

    def split(self, pieces: Pieces) -> tuple[Sequence[tuple[int, Kind, str, int]], Idle]:
        """Stage code, kind, name and time of every part of the requests; the host's own and launch time."""
        on_host, idle = self._idle(pieces)
        return [*self._device(pieces), *on_host], idle

    def _device(self, pieces: Pieces) -> list[tuple[int, Kind, str, int]]:
        length = pieces.device[1] - pieces.device[0]
        sums = _summed(pieces.device_row, self._device_family[pieces.activity], length, len(self._device_names))
        kinds = [Kind.TRANSFER if copy else Kind.DEVICE for copy in self._is_copy.tolist()]
        return [(row, kinds[family], self._device_names[family], time_ns) for row, family, time_ns in sums]

    def _idle(self, pieces: Pieces) -> tuple[list[tuple[int, Kind, str, int]], Idle]:
        held = self._with_overhead(self._threads.pieces(pieces), pieces.line)
        idle, row, gap, span, overhead = held.interval, held.row, held.gap, held.span, held.overhead
        length = idle[1] - idle[0]
        kinds = list(Kind)
        kind = np.full(len(row), kinds.index(Kind.HOST))
        known = np.where(span >= 0, span, 0)
        kind[self._leads_to_launch(pieces, row, gap) & ~self._is_own_work(span)] = kinds.index(Kind.LAUNCH)
        kind[(span >= 0) & self._copies[known]] = kinds.index(Kind.TRANSFER)
        kind[(span >= 0) & self._waits[known]] = kinds.index(Kind.SYNC)
        kind[overhead >= 0] = kinds.index(Kind.PROFILER)
        family, names = self._host_families(idle, span)
        names = [*names, Kind.LAUNCH.value, Kind.SYNC.value, "calls that copy"]
        for place, waiting in enumerate((Kind.LAUNCH, Kind.SYNC, Kind.TRANSFER)):
            family = np.where(kind == kinds.index(waiting), len(names) - 3 + place, family)
        spoken, which = np.unique(self._trace.spans.name[overhead[overhead >= 0]], return_inverse=True)
        family[overhead >= 0] = len(names) + which
        names = [*names, *(self._trace.spans.names[code] for code in spoken.tolist())]
        sums = _summed(row * len(kinds) + kind, family, length, len(names))
        own_time = np.isin(kind, [kinds.index(Kind.HOST), kinds.index(Kind.LAUNCH)])
        return (
            [(code // len(kinds), kinds[code % len(kinds)], names[name], time_ns) for code, name, time_ns in sums],
            Idle((idle[0][own_time], idle[1][own_time]), row[own_time], held.track[own_time]),
        )

    def _with_overhead(self, pieces: HostPieces, line: WindowLine) -> _Held:
        """The pieces cut where the profiler begins or ceases to hold the request up."""
        held, by = self._held_up(line)
        if not len(by):
            none = np.full(len(pieces.row), NONE)
            return _Held(pieces.interval, pieces.row, pieces.gap, pieces.track, pieces.span, none)
        free = line.gaps(held)
        start = np.concatenate((held[0], free[0]))
        order = np.argsort(start, kind="stable")
        cuts = (start[order], np.concatenate((held[1], free[1]))[order])
        low, high, piece, place = intersect(pieces.interval, cuts)
        overhead = np.concatenate((by, np.full(len(free[0]), NONE)))[order]
        cut = pieces.taken(piece)
        return _Held((low, high), cut.row, cut.gap, cut.track, cut.span, overhead[place])

    def _held_up(self, line: WindowLine) -> tuple[Intervals, IntArray]:
        """When the profiler holds each request's thread up, by start, and the span that each stretch is of."""
        parts = [(*EMPTY, np.zeros(0, np.int64))]
        for track, windows in Places(line.track):
            (start, end), span = overhead_of(self._trace, track)
            near = line.taken(windows)
            window, place = near.overlaps(start, end)
            parts.append((*near.clipped(window, start[place], end[place]), span[place]))
        low, high, by = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        order = np.argsort(low, kind="stable")
        return (low[order], high[order]), by[order]

    def _leads_to_launch(self, pieces: Pieces, row: IntArray, gap: IntArray) -> BoolArray:
        """Whether the gap of each piece is ended by an activity that the piece's own stage launched."""
        owns = np.flatnonzero(pieces.device[1] > pieces.device[0])
        if not len(owns) or not len(gap):
            return np.zeros(len(row), dtype=bool)
        place = np.searchsorted(pieces.device[0][owns], pieces.gaps[1], side="left")
        following = owns[np.minimum(place, len(owns) - 1)]
        ended = (place < len(owns)) & (pieces.window[following] == pieces.line.at(pieces.gaps[0]))
        leads: BoolArray = np.where(ended, pieces.device_row[following], NONE)[gap] == row
        return leads

    def _is_own_work(self, span: IntArray) -> BoolArray:
        """Whether the innermost op around a span launches nothing and does more than to shape a tensor."""
        trace = self._trace
        spans = trace.spans
        op = np.where(span >= 0, trace.innermost_op[np.maximum(span, 0)], NONE).astype(np.int64)
        ops = np.flatnonzero(np.bincount(op[op >= 0], minlength=1))
        launches = np.zeros(len(ops), dtype=bool)
        for track, rows in Places(spans.track[ops]):
            called = self._called.get(track, np.zeros(0, np.int64))
            first, last = (
                np.searchsorted(called, spans.ts_ns[ops[rows]]),
                np.searchsorted(called, spans.ends_ns(ops[rows])),
            )
            launches[rows] = last > first
        zero = np.zeros(len(ops), np.int64)
        family, names = families(trace, Work("host", zero, zero, ops, ops))
        real = np.array([name != _OVERHEAD for name in names], dtype=bool)[family] if len(ops) else False
        is_work = np.zeros(len(spans) + 1, dtype=bool)  # the last is for no op
        is_work[ops] = ~launches & real
        of_spans: BoolArray = is_work[op]
        return of_spans

    def _host_families(self, idle: tuple[IntArray, IntArray], span: IntArray) -> tuple[IntArray, list[str]]:
        """The family of the op that each piece is in; what is in none has a name of its own."""
        trace = self._trace
        known = np.maximum(span, 0)
        op = np.where(span >= 0, trace.innermost_op[known], NONE).astype(np.int64)
        family, names = families(trace, Work("host", *idle, known, known))
        outside = (op == NONE) | (op != span)
        return np.where(outside, len(names), family), [*names, OUTSIDE_OPS]


def _summed(row: IntArray, name: IntArray, length: IntArray, names: int) -> list[tuple[int, int, int]]:
    """Sums of lengths by row and name, those of nothing left out."""
    if not len(row):
        return []
    sums = np.zeros((int(row.max()) + 1) * names, dtype=np.int64)
    np.add.at(sums, row * names + name, length)
    used = np.flatnonzero(sums).tolist()
    return [(*divmod(pair, names), int(sums[pair])) for pair in used]
