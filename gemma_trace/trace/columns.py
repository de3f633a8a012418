"""Decoded events → columns, a batch at a time. The one place with a Python loop over events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import NUMBERS_TOO_LARGE, integer, is_too_large, text
from gemma_trace.trace.collected import Collected
from gemma_trace.trace.collective_args import collective_text
from gemma_trace.trace.event_structs import (
    ABSENT,
    AnyEvent,
    AnyMemoryArgs,
    AnySpan,
    Args,
    Arguments,
    BriefSpanArgs,
    Event,
    ExactEvent,
    LooseEvent,
    SpanArgs,
    SpanEvent,
    TaggedEvent,
    parts_of,
    phases_of,
    tightened,
)
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, Codes, IntArray
from gemma_trace.trace.node_labels import node_labels
from gemma_trace.trace.others import MEMORY_NAME, NO_PHASE, TEXT_NUMBERS, OtherEvents
from gemma_trace.trace.times import Times, times_of

EXACT_FLOAT_US: Final = 2.0**43
"""Below this a float64 of microseconds with three decimals gives its integer nanoseconds back: half a unit in the
last place is 2**-11 µs, less than half a nanosecond. Kineto's times are relative to a base of this quarter, 2**43 µs
are 101 days; epoch times are above it."""

EXACT_FLOAT_NS: Final = int(EXACT_FLOAT_US) * 1000

NEGATIVE_DURATIONS: Final = "negative_durations"
MISSING_DURATIONS: Final = "missing_durations"
UNDECODABLE_EVENTS: Final = "undecodable_events"
UNPAIRED_BEGINS: Final = "unpaired_begins"
UNPAIRED_ENDS: Final = "unpaired_ends"

_UNDERSTOOD: Final = frozenset({"X", "B", "E", "s", "f", "i"})
"""What a batch may hold that is none of `OtherEvents`' business; of instants, where all are an allocator's."""

_NO_ARGS_AT_ALL = Args()
_NUL: Final = b"\0"  # stands in no JSON
_NOTHING: Final = (None, "")


class ColumnBuilder:
    """Takes batches of events and collects what they hold.

    Args:
        detailed: see `is_detailed`.

    Attributes:
        is_detailed: whether `DETAIL_COLUMNS` and memory events are collected too.
        collected: the columns of spans, arrows and memory events.
        repairs: how many events had to be mended or were lost, by what was wrong.
        others: the counters, the names of tracks, and what is passed over.
    """

    def __init__(self, *, detailed: bool = True) -> None:
        self.is_detailed = detailed
        self._no_args = SpanArgs() if detailed else BriefSpanArgs()
        self.collected = Collected(detailed=detailed)
        self.repairs = self.collected.repairs
        self.others = OtherEvents(self.repairs)
        self._open: dict[int, list[tuple[AnySpan, int, int]]] = {}

    def add(self, events: Sequence[TaggedEvent | Event], array: bytes | memoryview) -> bool:
        """Add a batch; False, and nothing is added, where a float isn't exact enough for its times.

        Args:
            array: the JSON that the batch was decoded from.
        """
        times = []
        for part, arguments in parts_of(events, Arguments(array)):
            ts_us = np.array([event.ts for event in part], dtype=np.float64)
            dur_us = np.array([event.dur for event in part], dtype=np.float64)
            if (np.abs(ts_us) >= EXACT_FLOAT_US).any() or (np.abs(dur_us) >= EXACT_FLOAT_US).any():
                return False
            times.append((part, ts_us, dur_us, arguments))
        for part, ts_us, dur_us, arguments in times:
            timeless, missing = np.isnan(ts_us), np.isnan(dur_us)
            ts_ns, dur_ns = _us_to_ns(np.where(timeless, 0.0, ts_us)), _us_to_ns(np.where(missing, 0.0, dur_us))
            self._add(part, ts_ns, dur_ns, timeless, missing, arguments)
        return True

    def add_exact(self, events: Sequence[ExactEvent], array: bytes | memoryview, *, only_large: bool = False) -> bool:
        """Add a batch whose times are text. Events without a time are counted and left out, unless they need none.

        Args:
            array: the JSON that the batch was decoded from.
            only_large: add nothing, and say False, where a float is exact enough for all times.
        """
        return self._add_exact(events, Arguments(array), only_large=only_large)

    def add_loose(self, events: Sequence[LooseEvent], array: bytes | memoryview) -> None:
        """Add a batch whose values have the wrong types: what can be read is read, the rest is `NONE`.

        Args:
            array: the JSON that the batch was decoded from.
        """
        arguments = Arguments(array)
        lost = [event.ts is ABSENT and event.ph != "M" for event in events]
        if any(lost):
            self._count_lost(list(compress(events, lost)))
            arguments = arguments.taken([not gone for gone in lost])
            events = [event for event, gone in zip(events, lost, strict=True) if not gone]
        self._add_exact([tightened(event, self.repairs) for event in events], arguments)

    def _add_exact(self, events: Sequence[ExactEvent], arguments: Arguments, *, only_large: bool = False) -> bool:
        starts = times_of([bytes(event.ts) for event in events])
        lengths = times_of([bytes(event.dur) for event in events])
        if only_large and not any(map(_needs_text, (starts, lengths))):
            return False
        timed = ~starts.absent | np.array([event.ph == "M" for event in events], dtype=bool)
        self.repairs[TEXT_NUMBERS] += int(starts.is_text.sum() + lengths.is_text[timed].sum())
        self._add(events, starts.ns, lengths.ns, starts.absent, lengths.absent, arguments)
        return True

    def _add(
        self,
        events: Sequence[AnyEvent],
        ts_ns: IntArray,
        dur_ns: IntArray,
        timeless: BoolArray,
        missing: BoolArray,
        arguments: Arguments,
    ) -> None:
        """Add the events of a batch that have a time or need none; all others are counted.

        Args:
            ts_ns, dur_ns: int64, the start and the length of each, 0 where there is none.
            timeless, missing: bool, which have no start, and which no length.
        """
        if not timeless.any():
            self._append(events, ts_ns, dur_ns, missing, arguments)
            return
        without = np.flatnonzero(timeless)
        chosen = [events[index] for index in without.tolist()]
        lost = [event.ph != "M" for event in chosen]
        self._count_lost(list(compress(chosen, lost)))
        kept = np.ones(len(events), dtype=bool)
        kept[without[lost]] = False
        chosen = list(compress(events, kept))
        self._append(chosen, ts_ns[kept], dur_ns[kept], missing[kept], arguments.taken(kept.tolist()))

    def _count_lost(self, events: Sequence[AnyEvent | LooseEvent]) -> None:
        """Count events that are left out for want of a time; those that say nothing at all aren't missed."""
        nothing = sum([event.ph in _NOTHING and event.name in _NOTHING and _is_absent(event.ts) for event in events])
        self.repairs[UNDECODABLE_EVENTS] += len(events) - nothing
        if nothing:
            self.others.passed_over[NO_PHASE] += nothing  # as JAX ends its traces

    @property
    def stands_alone(self) -> bool:
        """Whether nothing of what was added hangs together with what other batches hold."""
        phases = self.collected.phases
        return not phases["B"] and not phases["E"] and self.others.is_empty

    def end(self) -> None:
        """Count the `B` events without an `E`, which are gone."""
        self.repairs[UNPAIRED_BEGINS] += sum(map(len, self._open.values()))

    def _append(
        self,
        events: Sequence[AnyEvent],
        ts_ns: IntArray,
        dur_ns: IntArray,
        missing: np.ndarray,
        arguments: Arguments,
    ) -> None:
        phases = phases_of(events)
        counts = Counter(phases)
        self.collected.phases.update(counts)
        place = np.arange(self.collected.begun, self.collected.begun + counts["X"])
        if counts["X"] < len(events):
            chosen = [phase == "X" for phase in phases]
            spans = cast(list[AnySpan], list(compress(events, chosen)))
            if counts["B"] or counts["E"]:
                begun = self.collected.begun + np.cumsum([phase in ("X", "B") for phase in phases]) - 1
                place = begun[chosen]
                self._pair(events, ts_ns, begun)
            if counts["s"] or counts["f"]:
                self._store_flows(events, phases, ts_ns)
            strange = counts["i"] and self._store_memory(events, ts_ns) < counts["i"]
            if strange or counts.keys() - _UNDERSTOOD:
                self.others.add(events, phases, ts_ns, dur_ns, arguments)
            self.collected.note_first(ts_ns[[phase != "M" for phase in phases]])
            ts_ns, dur_ns, missing = ts_ns[chosen], dur_ns[chosen], missing[chosen]
            arguments = arguments.taken(chosen)
        else:
            spans = cast(list[AnySpan], list(events))
            self.collected.note_first(ts_ns)
        self.collected.begun += counts["X"] + counts["B"]
        if not spans:
            return
        negative = dur_ns < 0
        self.repairs[NEGATIVE_DURATIONS] += int(negative.sum())
        self.repairs[MISSING_DURATIONS] += int(missing.sum())
        self._store(spans, ts_ns, np.where(negative, 0, dur_ns), place, arguments)

    def _store(
        self,
        spans: Sequence[AnySpan],
        ts_ns: IntArray,
        dur_ns: IntArray,
        begun: IntArray,
        arguments: Arguments | None = None,
    ) -> None:
        """Store spans.

        Args:
            arguments: of the same spans; None where none of them is asked for its collective.
        """
        names, cats, tracks = self.collected.names, self.collected.cats, self.collected.tracks
        ids = zip([span.pid for span in spans], [span.tid for span in spans], strict=True)  # which makes just one tuple
        columns: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns,
            "dur_ns": dur_ns,
            "place": begun,
            "name": [names[span.name] for span in spans],
            "cat": [cats[span.cat] for span in spans],
            "track": np.fromiter(map(tracks.__getitem__, ids), np.int32, len(spans)),
        }
        given = [span.args for span in spans]
        nothing = self._no_args if isinstance(spans[0], SpanEvent) else _NO_ARGS_AT_ALL
        # Python frames, most of a trace with stacks, have none of the arguments that are columns.
        place = [place for place, args in enumerate(given) if args is not None and args != nothing]
        chosen = [args for index in place if (args := given[index]) is not None]
        values = self._values_of(chosen) if place else {}
        spoken = [args for args in chosen if args.collective is not ABSENT]
        if arguments is not None and spoken:
            said = arguments.texts()
            texts = self.collected.texts
            values["collective"] = [texts[collective_text(said[index])] for index in place]
        if (labels := node_labels(chosen)) is not None:
            values["node_label"] = [NONE if label is None else names[label] for label in labels]
        self.collected.add_spans(columns, np.array(place, dtype=np.int64), values)

    def _values_of(self, args: Sequence[SpanArgs]) -> dict[str, npt.ArrayLike]:
        """Of each column of arguments its values."""
        integers = self._narrow
        columns = {
            "input_dims": [arg.input_dims for arg in args],
            "input_types": [arg.input_types for arg in args],
            "grid": [arg.grid for arg in args],
            "block": [arg.block for arg in args],
        }
        if self.is_detailed:
            columns["input_strides"] = [arg.input_strides for arg in args]
            columns["concrete_inputs"] = [arg.concrete_inputs for arg in args]
        return {
            "correlation": integers([arg.correlation for arg in args]),
            "external_id": integers([arg.external_id for arg in args]),
            "stream": integers([arg.stream for arg in args]),
            "device": integers([arg.device for arg in args]),
            "bytes": integers([arg.bytes for arg in args]),
            "occupancy_pct": _percent(self._integers([arg.occupancy_pct for arg in args])),
            **{name: codes for name, column in columns.items() if (codes := self._codes_of(column)) is not None},
        }

    def _codes_of(self, values: Sequence[msgspec.Raw]) -> CodeArray | None:
        """int32, the codes of JSON texts, `NONE` for what is absent; None where all are."""
        given = [value for value in values if value is not ABSENT]
        if not given:
            return None
        code_of = self.collected.texts
        if 2 * len(given) > len(values):
            texts = _NUL.join(values).split(_NUL)  # takes half as long as to copy one after the other
            if len(texts) == len(values):
                return np.fromiter(map(code_of.__getitem__, texts), np.int32, len(values))
        return np.array([NONE if value is ABSENT else code_of[bytes(value)] for value in values], dtype=np.int32)

    def _narrow(self, values: Sequence[int | str]) -> Codes:
        """The same as int32, where that holds them all."""
        try:
            return np.array(values, dtype=np.int32)
        except (ValueError, OverflowError):
            return self._integers(values)

    def _integers(self, values: Sequence[int | float | str]) -> IntArray:
        """int64; `NONE` for what is no integer, and, counted, for what 64 bits don't hold."""
        try:
            return np.array(values, dtype=np.int64)
        except (ValueError, OverflowError):
            self.repairs[NUMBERS_TOO_LARGE] += sum(map(is_too_large, values))
            return np.array([integer(value) for value in values], dtype=np.int64)

    def _store_flows(self, events: Sequence[AnyEvent], phases: list[str], ts_ns: IntArray) -> None:
        chosen = [index for index, phase in enumerate(phases) if phase in ("s", "f")]
        ends = [events[index] for index in chosen]
        tracks, cats = self.collected.tracks, self.collected.flow_cats
        columns: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns[chosen],
            "track": [tracks[end.pid, end.tid] for end in ends],
            "cat": [cats[end.cat] for end in ends],
            "id": [end.id if type(end.id) is int and 0 <= end.id < 2**63 else self._flow_id(end.id) for end in ends],
            "is_start": [end.ph == "s" for end in ends],
        }
        self.collected.add_flows(columns)

    def _flow_id(self, value: Any) -> int:
        """An id as a number: text that is one, as it is; all else gets a number below zero of its own."""
        number = integer(value)
        return number if number >= 0 else self.collected.code_of_flow_id(text(value))

    def _store_memory(self, events: Sequence[AnyEvent], ts_ns: IntArray) -> int:
        """Store the allocators' instants, where they are wanted, and say how many there are."""
        chosen = [
            index
            for index, event in enumerate(events)
            if event.ph == "i" and event.name == MEMORY_NAME and event.args is not None
        ]
        if not self.is_detailed:
            return len(chosen)
        args = cast(list[AnyMemoryArgs], [events[index].args for index in chosen])
        tracks = self.collected.tracks
        columns: dict[str, npt.ArrayLike] = {
            "ts_ns": ts_ns[chosen],
            "track": [tracks[events[index].pid, events[index].tid] for index in chosen],
            "device": self._integers([arg.memory_device for arg in args]),
            "address": self._integers([arg.address for arg in args]),
            "bytes": self._integers([arg.memory_bytes for arg in args]),
            "allocated_bytes": self._integers([arg.allocated_bytes for arg in args]),
            "reserved_bytes": self._integers([arg.reserved_bytes for arg in args]),
        }
        self.collected.add_memory(columns)
        return len(chosen)

    def _pair(self, events: Sequence[AnyEvent], ts_ns: IntArray, begun: IntArray) -> None:
        """Make `B` and `E` events whole: an `E` ends the innermost `B` of its track."""
        whole: list[tuple[int, AnySpan, int, int]] = []
        for event, at_ns, place in zip(events, ts_ns.tolist(), begun.tolist(), strict=True):
            if event.ph == "B":
                self._open.setdefault(self.collected.tracks[event.pid, event.tid], []).append(
                    (cast(AnySpan, event), at_ns, place)
                )
            elif event.ph == "E":
                opened = self._open.get(self.collected.tracks[event.pid, event.tid])
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


def _us_to_ns(us: np.ndarray) -> IntArray:
    """Microseconds below `EXACT_FLOAT_US` to nanoseconds: the whole part stays exact, the fraction is rounded."""
    whole = np.floor(us)
    ns: IntArray = whole.astype(np.int64) * 1000 + np.rint((us - whole) * 1000).astype(np.int64)
    return ns


def _percent(percent: IntArray) -> IntArray:
    """Whole percent; what is no share is `NONE`."""
    return np.where((percent >= 0) & (percent <= 100), percent, NONE)


def _needs_text(times: Times) -> bool:
    """Whether a float isn't exact enough for one of the times, or one is neither a number nor null."""
    return bool((np.abs(times.ns) >= EXACT_FLOAT_NS).any() or times.unreadable.any())


def _is_absent(time: float | msgspec.Raw | None) -> bool:
    """Whether an event has no such member; null is one."""
    return time is ABSENT or isinstance(time, float)
