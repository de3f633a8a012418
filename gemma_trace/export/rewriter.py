"""The events of a trace file, one after another, as viewers take them: what they say stays, where and when is mended.

A second pass over the file, in bounded memory: what every span becomes is known from the first (`layout.py`). Only
spans that start together in the wrong order wait for each other, and arrows are spooled to the end, since viewers
bind an arrow to a slice that they have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from gemma_trace.errors import InputError
from gemma_trace.export.ids import Names, ViewerIds, ViewerTrack
from gemma_trace.export.layout import Layout, held_back
from gemma_trace.export.links import LinkNumbers
from gemma_trace.foreign import UnreadableValueError, decoded, id_of, integer, number, text, value_of
from gemma_trace.trace.clock import ns_to_decimal_us, time_ns
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.events import NONE
from gemma_trace.trace.others import NOT_NUMERIC
from gemma_trace.trace.trace import Trace

WITHOUT_TIME: Final = "without_time"
BAD_UTF8: Final = "bad_utf8"

_NAMING: Final = {"process_name": "name", "thread_name": "name", "process_labels": "labels"}
_NAMING_ORDER: Final = ("process_sort_index", "thread_sort_index")

_encoder = msgspec.json.Encoder()

_JsonEvent = dict[str, Any]
"""An event as it is in the file; values are `msgspec.Raw`, and what is put in their place."""


class Writable(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> object:
        """Append bytes."""
        ...


class Rewriter:
    """Takes a file's events and writes them anew.

    Args:
        trace: the same file, read.
        out: where events go, each with a comma and a line break before it.
        arrows: where arrows go, likewise; they belong behind all that is in `out`.
        shift_ns: what is taken off every time.
        counter_name: what a counter's name becomes, which tells it from others.
        links: what the numbers of launches and arrows become.

    Attributes:
        counts: what was written, by `ph`; and what couldn't be, by why.

    Raises:
        InputError: from `decode`, where the file has more spans or arrows than the trace that was read.
    """

    def __init__(
        self,
        trace: Trace,
        layout: Layout,
        ids: ViewerIds,
        out: Writable,
        arrows: Writable,
        shift_ns: int,
        counter_name: Callable[[str], str],
        links: LinkNumbers,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._ids, self._out, self._arrows, self._shift_ns = ids, out, arrows, shift_ns
        spans = trace.spans
        self._tracks: list[ViewerTrack] = [ids.row(spans.tracks[row.track], row) for row in layout.rows]
        begun = trace.read_report.phases.get("X", 0) + trace.read_report.phases.get("B", 0)
        self._span_of = np.full(begun, NONE, dtype=np.int64)
        self._span_of[spans.place] = np.arange(len(spans))
        self._ts_ns, self._dur_ns, self._row = spans.ts_ns, layout.dur_ns, layout.row
        self._group = held_back(layout, spans.ts_ns, spans.place)
        self._missing = Counter(self._group[self._group >= 0].tolist())
        self._held: dict[int, list[tuple[int, _JsonEvent]]] = {}
        self._flow_row = layout.flow_row
        self._begun = self._flows = 0
        self._path, self._all_have_times = trace.path, not trace.read_report.repairs.get(UNDECODABLE_EVENTS)
        self._phases: dict[bytes, str] = {}
        self._counter_name, self._links = counter_name, links

    def decode(self, array: bytes | memoryview) -> bool:
        """Write the events of a JSON array; False, and nothing is written, where it doesn't decode."""
        data = bytes(array)
        try:
            data.decode()
        except UnicodeDecodeError:
            mended = data.decode("utf-8", "replace").encode()
            self.counts[BAD_UTF8] += mended.count("\ufffd".encode()) - data.count("\ufffd".encode())
            data = mended
        try:
            events = decoded(data, list[dict[str, msgspec.Raw]])
        except UnreadableValueError:
            return False
        written: list[_JsonEvent] = []
        arrows: list[_JsonEvent] = []
        for event in events:
            self._take(event, written, arrows)
        self.write(written)
        self._write_to(self._arrows, arrows)
        return True

    def write(self, events: list[_JsonEvent]) -> None:
        """Write events that are ready."""
        self._write_to(self._out, events)

    def finish(self) -> None:
        """Write what waited: the spans of groups that the file doesn't complete."""
        left = [event for group in self._held.values() for _, event in sorted(group, key=lambda pair: pair[0])]
        self._held.clear()
        self.write(left)

    def _write_to(self, out: Writable, events: list[_JsonEvent]) -> None:
        for event in events:
            self.counts[event["ph"]] += 1
        if events:
            out.write(b",\n" + _encoder.encode_lines(events)[:-1].replace(b"}\n{", b"},\n{"))

    def _take(self, event: _JsonEvent, written: list[_JsonEvent], arrows: list[_JsonEvent]) -> None:
        raw = bytes(event.get("ph", b'""'))
        phase = self._phases.get(raw)
        if phase is None:
            phase = self._phases[raw] = text(value_of(raw))
        event["ph"] = phase
        if phase in ("X", "B"):
            if self._all_have_times or self._has_time(event):
                self._take_span(event, written)
        elif phase == "M":
            self._take_name(event, written)
        elif phase != "E" and self._has_time(event):
            self._place(event, self._track_of(event, phase), self._shifted(event))
            if phase == "C":
                event["args"] = self._numbers(event)
                event["name"] = self._counter_name(text(_value(event, "name")))
                del event["tid"]  # a counter is its process's: a thread of its own would be shown, empty
            if phase in ("s", "t", "f"):
                event["id"] = self._links.arrow(_arrow_id(_value(event, "id")))
                arrows.append(event)
            else:
                written.append(event)

    def _has_time(self, event: _JsonEvent) -> bool:
        if time_ns(bytes(event.get("ts", b""))) is not None:
            return True
        self.counts[WITHOUT_TIME] += 1
        return False

    def _take_span(self, event: _JsonEvent, written: list[_JsonEvent]) -> None:
        if self._begun == len(self._span_of):
            raise self._grown()
        span = int(self._span_of[self._begun])
        self._begun += 1
        if span == NONE:  # a begin without its end
            return
        event["ph"] = "X"
        self._place(event, self._tracks[int(self._row[span])], int(self._ts_ns[span]) - self._shift_ns)
        event["dur"] = msgspec.Raw(ns_to_decimal_us(int(self._dur_ns[span])))
        if "args" in event:
            args = bytes(event["args"])
            event["args"] = self._links.args(args) if args.startswith(b"{") else {"args": event["args"]}
        group = int(self._group[span])
        if group < 0:
            written.append(event)
            return
        waiting = self._held.setdefault(group, [])
        waiting.append((span, event))
        if len(waiting) == self._missing[group]:
            written += [ready for _, ready in sorted(self._held.pop(group), key=lambda pair: pair[0])]

    def _grown(self) -> InputError:
        return InputError(f"{self._path} has grown since it was read; export it once it is whole")

    def _track_of(self, event: _JsonEvent, phase: str) -> ViewerTrack:
        """The track of an event that is no span; of an arrow's end that of its span."""
        if phase in ("s", "f"):
            if self._flows == len(self._flow_row):
                raise self._grown()
            self._flows += 1
            return self._tracks[int(self._flow_row[self._flows - 1])]
        if phase == "C":
            return ViewerTrack(self._ids.process(_value(event, "pid")), 0)
        return self._ids.track(_value(event, "pid"), _value(event, "tid"))

    def _numbers(self, event: _JsonEvent) -> dict[str, float]:
        """A counter's values that are numbers: viewers draw no others."""
        args = _value(event, "args")
        values = args if isinstance(args, dict) else {}
        numbers = {name: read for name, value in values.items() if (read := number(value)) is not None}
        self.counts[NOT_NUMERIC] += len(values) - len(numbers)
        return numbers

    def _shifted(self, event: _JsonEvent) -> int:
        return (time_ns(bytes(event["ts"])) or 0) - self._shift_ns

    @staticmethod
    def _place(event: _JsonEvent, track: ViewerTrack, ts_ns: int) -> None:
        event["pid"], event["tid"] = track.pid, track.tid
        event["ts"] = msgspec.Raw(ns_to_decimal_us(ts_ns))

    def _take_name(self, event: _JsonEvent, written: list[_JsonEvent]) -> None:
        """Note what a metadata event names; one that names nothing is written as it is, on its new track."""
        kind, args = text(_value(event, "name")), _value(event, "args")
        pid, tid = _value(event, "pid"), _value(event, "tid")
        track = self._names_of(kind, pid, tid)
        if kind in _NAMING and isinstance(args, dict):
            setattr(track, _NAMING[kind], text(args.get(_NAMING[kind])))
        elif kind in _NAMING_ORDER and isinstance(args, dict):
            track.sort_index = number(args.get("sort_index")) or 0
        else:
            self._place(event, self._ids.track(pid, tid), 0)
            written.append(event)

    def _names_of(self, kind: str, pid: Any, tid: Any) -> Names:
        process, thread = str(id_of(pid)), str(id_of(tid))
        if kind.startswith("process"):
            return self._ids.processes.setdefault(process, Names())
        return self._ids.threads.setdefault((process, thread), Names())


def _arrow_id(value: Any) -> int | str:
    """An arrow's id as viewers take it: a number of 64 bits, or a text."""
    number = integer(value)
    return text(value) if number == NONE or isinstance(value, str) else number


def _value(event: _JsonEvent, key: str) -> Any:
    """A member of an event, decoded; None if it isn't there, or can't be read."""
    return value_of(event[key]) if key in event else None
