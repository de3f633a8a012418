"""Decoded events → columns, a batch at a time. The one place with a Python loop over events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import integer, text
from gemma_trace.trace.budget import EVENT_BYTES, SPAN_BYTES
from gemma_trace.trace.clock import time_ns
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, Events, Flows, IntArray, MemoryEvents, Track
from gemma_trace.trace.growing import GrowingColumn, Interner, TrackInterner
from gemma_trace.trace.others import MEMORY_NAME, NO_PHASE, TEXT_NUMBERS, OtherEvents
from gemma_trace.trace.schema import FLOW_COLUMNS, MEMORY_COLUMNS, SPAN_COLUMNS
from gemma_trace.trace.wire import (
    ABSENT,
    Args,
    Arguments,
    Event,
    ExactEvent,
    LooseEvent,
    arguments_of,
    tightened,
)

EXACT_FLOAT_US: Final = 2.0**43
"""Below this a float64 of microseconds with three decimals gives its integer nanoseconds back: half a unit in the
last place is 2**-11 µs, less than half a nanosecond. Kineto's times are relative to a base of this quarter, 2**43 µs
are 101 days; epoch times are above it."""

NEGATIVE_DURATIONS: Final = "negative_durations"
MISSING_DURATIONS: Final = "missing_durations"
UNDECODABLE_EVENTS: Final = "undecodable_events"
UNPAIRED_BEGINS: Final = "unpaired_begins"
UNPAIRED_ENDS: Final = "unpaired_ends"

_UNDERSTOOD: Final = frozenset({"X", "B", "E", "s", "f", "i"})
"""What a batch may hold that is none of `OtherEvents`' business; of instants, where all are an allocator's."""

_NO_ARGS: Final = Args()
_NOTHING: Final = (None, "")


class ColumnBuilder:
    """Takes batches of events, gives `Events`.

    Attributes:
        phases: how many events there were of each `ph`.
        repairs: how many events had to be mended or were lost, by what was wrong.
        first_ns: the earliest time of an event that isn't metadata; None before there is one.
        others: the counters, the names of tracks, and what is passed over.
    """

    def __init__(self) -> None:
        self.phases: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.others = OtherEvents(self.repairs)
        self._names, self._cats, self._texts = (Interner() for _ in range(3))
        self._flow_cats, self._flow_ids = Interner(), Interner()
        self._tracks = TrackInterner()
        self._columns = {name: GrowingColumn(dtype) for name, dtype in SPAN_COLUMNS.items()}
        self._flow_columns = {name: GrowingColumn(dtype) for name, dtype in FLOW_COLUMNS.items()}
        self._memory_columns = {name: GrowingColumn(dtype) for name, dtype in MEMORY_COLUMNS.items()}
        self._open: dict[int, list[tuple[ExactEvent | Event, int, int]]] = {}
        self._begun = 0
        self.first_ns: int | None = None

    def add(self, events: Sequence[Event], array: bytes | memoryview) -> bool:
        """Add a batch; False, and nothing is added, where a float isn't exact enough for its times.

        Args:
            array: the JSON that the batch was decoded from.
        """
        ts_us = np.array([event.ts for event in events], dtype=np.float64)
        dur_us = np.array([event.dur for event in events], dtype=np.float64)
        if (np.abs(ts_us) >= EXACT_FLOAT_US).any() or (np.abs(dur_us) >= EXACT_FLOAT_US).any():
            return False
        timeless, missing = np.isnan(ts_us), np.isnan(dur_us)
        ts_ns, dur_ns = (_us_to_ns(np.where(absent, 0.0, us)) for absent, us in ((timeless, ts_us), (missing, dur_us)))
        if not timeless.any():
            self._append(events, ts_ns, dur_ns, missing, lambda: arguments_of(array))
            return True
        kept = self._with_time(events, timeless)
        kept_events = [events[index] for index in kept.tolist()]
        self._append(kept_events, ts_ns[kept], dur_ns[kept], missing[kept], lambda: _taken(arguments_of(array), kept))
        return True

    def _with_time(self, events: Sequence[Event], timeless: BoolArray) -> IntArray:
        """The events that have a time or need none, as indices; all others are counted.

        Args:
            timeless: bool, which events are without a time.
        """
        without = np.flatnonzero(timeless)
        chosen = [events[index] for index in without.tolist()]
        lost = [event.ph != "M" for event in chosen]
        self._count_lost(list(compress(chosen, lost)))
        return np.delete(np.arange(len(events)), without[lost])

    def _count_lost(self, events: Sequence[Event | LooseEvent]) -> None:
        """Count events that are left out for want of a time; those that say nothing at all aren't missed."""
        nothing = sum([event.ph in _NOTHING and event.name in _NOTHING and event.ts is not None for event in events])
        self.repairs[UNDECODABLE_EVENTS] += len(events) - nothing
        if nothing:
            self.others.passed_over[NO_PHASE] += nothing  # as JAX ends its traces

    def add_exact(self, events: Sequence[ExactEvent], array: bytes | memoryview) -> None:
        """Add a batch whose times are text. Events without a time are counted and left out, unless they need none.

        Args:
            array: the JSON that the batch was decoded from.
        """
        self._add_exact(events, lambda: arguments_of(array))

    def add_loose(self, events: Sequence[LooseEvent]) -> None:
        """Add a batch whose values have the wrong types: what can be read is read, the rest is `NONE`."""
        lost = [event.ts is ABSENT and event.ph != "M" for event in events]
        if any(lost):
            self._count_lost(list(compress(events, lost)))
            events = [event for event, gone in zip(events, lost, strict=True) if not gone]
        self._add_exact(
            [tightened(event, self.repairs) for event in events], lambda: [bytes(event.args) for event in events]
        )

    def _add_exact(self, events: Sequence[ExactEvent], arguments: Arguments) -> None:
        kept, ts_ns, dur_ns, missing = [], [], [], []
        for index, event in enumerate(events):
            start = self._time_ns(event.ts)
            if start is None:
                if event.ph != "M":
                    if event.ph or event.name or bytes(event.ts):
                        self.repairs[UNDECODABLE_EVENTS] += 1
                    else:  # as JAX ends its traces
                        self.others.passed_over[NO_PHASE] += 1
                    continue
                start = 0
            duration = self._time_ns(event.dur)
            kept.append(index)
            ts_ns.append(start)
            dur_ns.append(duration or 0)
            missing.append(duration is None)
        self._append(
            [events[index] for index in kept],
            np.array(ts_ns, np.int64),
            np.array(dur_ns, np.int64),
            np.array(missing, dtype=bool),
            lambda: _taken(arguments(), kept),
        )

    @property
    def needed_bytes(self) -> int:
        """What a command on the events so far takes at its peak, some."""
        texts = sum(
            table.held_bytes for table in (self._names, self._cats, self._texts, self._flow_cats, self._flow_ids)
        )
        tracks = len(self._tracks) * EVENT_BYTES
        return len(self._columns["ts_ns"]) * SPAN_BYTES + self.phases.total() * EVENT_BYTES + texts + tracks

    def build(self) -> Events:
        """All batches as columns, sorted by start, the longer first; unpaired `B` events are counted and gone."""
        self.repairs[UNPAIRED_BEGINS] += sum(map(len, self._open.values()))
        columns = {name: column.take() for name, column in self._columns.items()}
        self._columns.clear()  # or each column would be in memory twice, sorted and not
        order = _start_order(columns["ts_ns"], columns["dur_ns"], columns["place"])
        for name in columns:
            columns[name] = columns[name][order]
        return Events(
            **columns,
            names=tuple(self._names),
            cats=tuple(self._cats),
            tracks=tuple(Track(str(pid), str(tid)) for pid, tid in self._tracks.known),
            texts=tuple(text.decode("utf-8", "replace") for text in self._texts),
        )

    def build_flows(self) -> Flows:
        """All flow events."""
        columns = {name: column.take() for name, column in self._flow_columns.items()}
        return Flows(**columns, cats=tuple(self._flow_cats))

    def build_memory(self) -> MemoryEvents:
        """All memory events."""
        return MemoryEvents(**{name: column.take() for name, column in self._memory_columns.items()})

    def _append(
        self,
        events: Sequence[Event | ExactEvent],
        ts_ns: IntArray,
        dur_ns: IntArray,
        missing: np.ndarray,
        arguments: Arguments,
    ) -> None:
        phases = [event.ph for event in events]
        counts = Counter(phases)
        self.phases.update(counts)
        place = np.arange(self._begun, self._begun + counts["X"])
        if counts["X"] < len(events):
            chosen = [phase == "X" for phase in phases]
            spans = list(compress(events, chosen))
            if counts["B"] or counts["E"]:
                begun = self._begun + np.cumsum([phase in ("X", "B") for phase in phases]) - 1
                place = begun[chosen]
                self._pair(events, ts_ns, begun)
            if counts["s"] or counts["f"]:
                self._store_flows(events, phases, ts_ns)
            strange = counts["i"] and self._store_memory(events, ts_ns) < counts["i"]
            if strange or counts.keys() - _UNDERSTOOD:
                self.others.add(events, phases, ts_ns, dur_ns, arguments)
            self._note_first(ts_ns[[phase != "M" for phase in phases]])
            ts_ns, dur_ns, missing = ts_ns[chosen], dur_ns[chosen], missing[chosen]
        else:
            spans = list(events)
            self._note_first(ts_ns)
        self._begun += counts["X"] + counts["B"]
        if not spans:
            return
        negative = dur_ns < 0
        self.repairs[NEGATIVE_DURATIONS] += int(negative.sum())
        self.repairs[MISSING_DURATIONS] += int(missing.sum())
        self._store(spans, ts_ns, np.where(negative, 0, dur_ns), place)

    def _note_first(self, ts_ns: IntArray) -> None:
        if len(ts_ns):
            first = int(ts_ns.min())
            self.first_ns = first if self.first_ns is None else min(self.first_ns, first)

    def _store(self, spans: Sequence[Event | ExactEvent], ts_ns: IntArray, dur_ns: IntArray, begun: IntArray) -> None:
        names, cats, tracks, texts = self._names, self._cats, self._tracks, self._texts
        batch: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns,
            "dur_ns": dur_ns,
            "place": begun,
            "name": [names[span.name] for span in spans],
            "cat": [cats[span.cat] for span in spans],
            "track": [tracks[span.pid, span.tid] for span in spans],
        }
        # Python frames, most of a trace with stacks, have none of the arguments that are columns.
        place = [place for place, span in enumerate(spans) if span.args is not None and span.args != _NO_ARGS]
        args = [spans[index].args or _NO_ARGS for index in place]
        some: dict[str, npt.ArrayLike] = {
            "correlation": _integers([arg.correlation for arg in args]),
            "external_id": _integers([arg.external_id for arg in args]),
            "stream": _integers([arg.stream for arg in args]),
            "device": _integers([arg.device for arg in args]),
            "bytes": _integers([arg.bytes for arg in args]),
            "occupancy_pct": _percent([arg.occupancy_pct for arg in args]),
            "input_dims": [NONE if arg.input_dims is ABSENT else texts[bytes(arg.input_dims)] for arg in args],
            "input_types": [NONE if arg.input_types is ABSENT else texts[bytes(arg.input_types)] for arg in args],
            "input_strides": [NONE if arg.input_strides is ABSENT else texts[bytes(arg.input_strides)] for arg in args],
            "concrete_inputs": [
                NONE if arg.concrete_inputs is ABSENT else texts[bytes(arg.concrete_inputs)] for arg in args
            ],
            "grid": [NONE if arg.grid is ABSENT else texts[bytes(arg.grid)] for arg in args],
            "block": [NONE if arg.block is ABSENT else texts[bytes(arg.block)] for arg in args],
        }
        for name, values in some.items():
            column = np.full(len(spans), NONE, dtype=SPAN_COLUMNS[name])
            column[place] = values
            batch[name] = column
        for name, growing in self._columns.items():
            growing.extend(batch[name])

    def _store_flows(self, events: Sequence[Event | ExactEvent], phases: list[str], ts_ns: IntArray) -> None:
        chosen = [index for index, phase in enumerate(phases) if phase in ("s", "f")]
        ends = [events[index] for index in chosen]
        batch: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns[chosen],
            "track": [self._tracks[end.pid, end.tid] for end in ends],
            "cat": [self._flow_cats[end.cat] for end in ends],
            "id": [end.id if type(end.id) is int and 0 <= end.id < 2**63 else self._flow_id(end.id) for end in ends],
            "is_start": [end.ph == "s" for end in ends],
        }
        for name, growing in self._flow_columns.items():
            growing.extend(batch[name])

    def _flow_id(self, value: Any) -> int:
        """An id as a number: text that is one, as it is; all else gets a number below zero of its own."""
        number = integer(value)
        return number if number >= 0 else -2 - self._flow_ids[text(value)]

    def _store_memory(self, events: Sequence[Event | ExactEvent], ts_ns: IntArray) -> int:
        """Store the allocators' instants, and say how many there are."""
        chosen = [
            index
            for index, event in enumerate(events)
            if event.ph == "i" and event.name == MEMORY_NAME and event.args is not None
        ]
        args = [events[index].args or _NO_ARGS for index in chosen]
        batch: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns[chosen],
            "track": [self._tracks[events[index].pid, events[index].tid] for index in chosen],
            "device": _integers([arg.memory_device for arg in args]),
            "address": _integers([arg.address for arg in args]),
            "bytes": _integers([arg.memory_bytes for arg in args]),
            "allocated_bytes": _integers([arg.allocated_bytes for arg in args]),
            "reserved_bytes": _integers([arg.reserved_bytes for arg in args]),
        }
        for name, growing in self._memory_columns.items():
            growing.extend(batch[name])
        return len(chosen)

    def _pair(self, events: Sequence[Event | ExactEvent], ts_ns: IntArray, begun: IntArray) -> None:
        """Make `B` and `E` events whole: an `E` ends the innermost `B` of its track."""
        whole: list[tuple[int, Event | ExactEvent, int, int]] = []
        for event, at_ns, place in zip(events, ts_ns.tolist(), begun.tolist(), strict=True):
            if event.ph == "B":
                self._open.setdefault(self._tracks[event.pid, event.tid], []).append((event, at_ns, place))
            elif event.ph == "E":
                opened = self._open.get(self._tracks[event.pid, event.tid])
                if not opened:
                    self.repairs[UNPAIRED_ENDS] += 1
                    continue
                begin, start_ns, order = opened.pop()
                whole.append((order, begin, start_ns, at_ns - start_ns))
        if whole:
            places, begins, starts, lengths = zip(*whole, strict=True)
            length = np.array(lengths, np.int64)
            self.repairs[NEGATIVE_DURATIONS] += int((length < 0).sum())
            self._store(begins, np.array(starts, np.int64), np.maximum(length, 0), np.array(places, np.int64))

    def _time_ns(self, raw: msgspec.Raw) -> int | None:
        text = bytes(raw)
        self.repairs[TEXT_NUMBERS] += text.startswith(b'"')
        return time_ns(text)


def _taken(arguments: Sequence[bytes], kept: Iterable[int]) -> list[bytes]:
    return [arguments[index] for index in kept]


def _start_order(ts_ns: IntArray, dur_ns: IntArray, place: CodeArray) -> IntArray:
    """The order by start, the longer first, then the file's. Few spans start together: only those are sorted twice."""
    order = np.argsort(ts_ns, kind="stable")
    together = np.diff(ts_ns[order]) == 0
    alike = np.flatnonzero(np.append(together, False) | np.append(False, together))
    same = order[alike]
    order[alike] = same[np.lexsort((place[same], -dur_ns[same], ts_ns[same]))]
    return order


def _us_to_ns(us: np.ndarray) -> IntArray:
    """Microseconds below `EXACT_FLOAT_US` to nanoseconds: the whole part stays exact, the fraction is rounded."""
    whole = np.floor(us)
    ns: IntArray = whole.astype(np.int64) * 1000 + np.rint((us - whole) * 1000).astype(np.int64)
    return ns


def _integers(values: Sequence[int | float | str]) -> IntArray:
    try:
        return np.array(values, dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array([integer(value) for value in values], dtype=np.int64)


def _percent(values: Sequence[int | float | str]) -> IntArray:
    """Whole percent; what is no share is `NONE`."""
    percent = _integers(values)
    return np.where((percent >= 0) & (percent <= 100), percent, NONE)
