"""Events that are no spans, arrows or memory events: counters, the names of tracks, and those that are passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from gemma_trace.foreign import UNDECODABLE, id_of, members_of, number, text, value_of
from gemma_trace.trace.event_structs import AnyEvent, Arguments
from gemma_trace.trace.events import NONE, CounterEvents, CounterSeries, IntArray, TrackNames
from gemma_trace.trace.growing import GrowingColumn, Interner

MEMORY_NAME: Final = "[memory]"
"""The instants that torch's allocators leave where memory is profiled."""

NOT_NUMERIC: Final = "counter_values_not_numeric"
"""Values of counters that are no numbers, and counters without any value."""

TEXT_NUMBERS: Final = "text_numbers"
"""Numbers that are written as text."""

NO_PHASE: Final = "none"
"""What the phase of an event without `ph` is counted as."""

_UNDERSTOOD: Final = frozenset({"X", "B", "E", "s", "f", "C", "M"})
_BEGINS, _ENDS = frozenset("bS"), frozenset("eF")
_MARKS: Final = ("Iteration Start: ", "Record Window End")
"""The names, or what they begin with, of the instants that Kineto leaves in every trace and that say nothing."""

_NAMING: Final = {"process_name": "name", "process_labels": "labels", "thread_name": "name"}
_BATCH: Final = msgspec.json.Decoder(list[dict[str, Any]])


class OtherEvents:
    """Takes batches, keeps what of them no other column has.

    Args:
        repairs: counts the values of counters that are no numbers.

    Attributes:
        passed_over: events of which nothing here makes use, by their `ph`.
    """

    def __init__(self, repairs: Counter[str]) -> None:
        self.passed_over: Counter[str] = Counter()
        self._repairs = repairs
        self._ts_ns, self._value = GrowingColumn(np.int64), GrowingColumn(np.float64)
        self._series = GrowingColumn(np.int32)
        self._known: dict[CounterSeries, int] = {}
        self._codes: dict[tuple[Any, ...], int] = {}
        self._processes: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._threads: dict[tuple[str, str], str] = {}
        self._lengths: list[tuple[int, int]] = []
        self._asynchronous: list[tuple[int, int, bool]] = []
        self._keys = Interner()

    def add(
        self,
        events: Sequence[AnyEvent],
        phases: Sequence[str],
        ts_ns: IntArray,
        dur_ns: IntArray,
        arguments: Arguments,
    ) -> None:
        """Add what of a batch is for this place.

        Args:
            phases: the `ph` of each event.
            ts_ns, dur_ns: int64, the time of each event, and its length or 0.
            arguments: of the same events.
        """
        naming = [index for index, phase in enumerate(phases) if phase == "M" and events[index].name in _NAMING]
        counting = [index for index, phase in enumerate(phases) if phase == "C"]
        if naming or counting:
            args = arguments.texts()
            self._take_names([events[index] for index in naming], [args[index] for index in naming])
            self._take_values(
                [events[index] for index in counting], ts_ns[counting], [args[index] for index in counting]
            )
        for index, phase in enumerate(phases):
            if phase not in _UNDERSTOOD and not (phase == "i" and is_known_instant(events[index])):
                self._pass_over(events[index], int(ts_ns[index]), int(dur_ns[index]))

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing that is for this place."""
        named = self._processes or self._labels or self._threads
        return not (named or self._known or self.passed_over)

    def build_counters(self) -> CounterEvents:
        """All samples of all counters."""
        return CounterEvents(self._ts_ns.take(), self._value.take(), self._series.take(), tuple(self._known))

    def build_names(self) -> TrackNames:
        """What the trace calls its processes and threads."""
        return TrackNames(self._processes, self._labels, self._threads)

    def covered_ns(self) -> int:
        """How much time those events that are passed over, and that have a length, cover together."""
        lengths = [*self._lengths, *_pairs(self._asynchronous)]
        if not lengths:
            return 0
        start, end = np.array(sorted(lengths), np.int64).T
        reached = np.maximum(start, np.append(start[0], np.maximum.accumulate(end)[:-1]))
        return int(np.maximum(end - reached, 0).sum())

    def _take_names(self, events: Sequence[AnyEvent], args: Sequence[bytes]) -> None:
        for event, given in zip(events, _decoded(args), strict=True):
            name = text(given.get(_NAMING[event.name]))
            process = str(id_of(event.pid))
            if event.name == "thread_name":
                self._threads[process, str(id_of(event.tid))] = name
            else:
                (self._labels if event.name == "process_labels" else self._processes)[process] = name

    def _take_values(self, events: Sequence[AnyEvent], ts_ns: IntArray, args: Sequence[bytes]) -> None:
        times, values, series = [], [], []
        for event, at_ns, given in zip(events, ts_ns.tolist(), _decoded(args), strict=True):
            self._repairs[NOT_NUMERIC] += not given
            for name, value in given.items():
                if type(value) is not float:
                    read = number(value)
                    self._repairs[NOT_NUMERIC] += read is None
                    if read is None:
                        continue
                    self._repairs[TEXT_NUMBERS] += isinstance(value, str)
                    value = read
                times.append(at_ns)
                values.append(value)
                series.append(self._code(event, name))
        self._ts_ns.extend(times)
        self._value.extend(values)
        self._series.extend(series)

    def _code(self, event: AnyEvent, argument: str) -> int:
        series_id = event.id if type(event.id) is int else text(event.id)
        key = (event.pid, series_id, event.name, argument)
        code = self._codes.get(key)
        if code is None:
            parts = (
                event.name,
                "" if series_id == NONE else str(series_id),
                "" if argument in ("value", event.name) else argument,
            )
            known = CounterSeries(" ".join(filter(None, parts)), str(id_of(event.pid)))
            code = self._codes[key] = self._known.setdefault(known, len(self._known))
        return code

    def _pass_over(self, event: AnyEvent, at_ns: int, dur_ns: int) -> None:
        self.passed_over[event.ph or NO_PHASE] += 1
        if event.ph in _BEGINS or event.ph in _ENDS:
            of_its_own = (event.name, event.pid) if event.id == NONE else id_of(event.id)
            self._asynchronous.append((at_ns, self._keys[event.cat, of_its_own], event.ph in _ENDS))
        elif dur_ns > 0:
            self._lengths.append((at_ns, at_ns + dur_ns))


def is_known_instant(event: AnyEvent) -> bool:
    """Whether an instant is an allocator's, or one that says nothing."""
    return event.name.startswith(_MARKS) if event.name != MEMORY_NAME else event.args is not None


def _decoded(args: Sequence[bytes]) -> list[dict[str, Any]]:
    """Arguments as mappings; empty for what is none. All at once, unless one of them is no mapping."""
    try:
        return _BATCH.decode(b"[%b]" % b",".join(each or b"{}" for each in args))
    except UNDECODABLE:
        return [_decoded_alone(each) for each in args]


def _decoded_alone(args: bytes) -> dict[str, Any]:
    """One event's arguments; None stands for those that can't be read."""
    members = members_of(args.decode("utf-8", "replace").encode() or b"{}")
    return {name: value_of(raw) for name, raw in members.items()}


def _pairs(events: Sequence[tuple[int, int, bool]]) -> Iterator[tuple[int, int]]:
    """Begins with their ends, the innermost first; what has no other half is left out.

    Args:
        events: of each the time, what it belongs to, and whether it is an end.
    """
    opened: dict[int, list[int]] = {}
    for at_ns, key, is_end in sorted(events, key=lambda event: event[0]):
        if not is_end:
            opened.setdefault(key, []).append(at_ns)
        elif opened.get(key):
            yield opened[key].pop(), at_ns
