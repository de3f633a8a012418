"""A trace file → `Events`: streaming, exact, salvaging.

The file is inflated and decoded a chunk at a time, so memory is the columns plus one chunk. A chunk is cut where an
event ends and the next begins; that it does is proved by decoding what lies before the cut. What can't be decoded as
it stands is repaired, and what can't be repaired is left out; either is counted in `ReadReport`.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gemma_trace.errors import TraceFormatError, UnreadableError
from gemma_trace.foreign import UNDECODABLE
from gemma_trace.trace.ahead import CLOSE, COMMA, Ahead, array_of, pays
from gemma_trace.trace.block_workers import block_workers
from gemma_trace.trace.budget import VARIABLE, memory_budget_bytes
from gemma_trace.trace.collected import Collected
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.cuts import cut_of, cuts_of
from gemma_trace.trace.events import CounterEvents, Events, Flows, MemoryEvents, TrackNames
from gemma_trace.trace.jobs import jobs_of
from gemma_trace.trace.repair import find_array, repair_json
from gemma_trace.trace.salvage import MAX_MENDED_BYTES, EventSink, Salvage
from gemma_trace.trace.sink import ColumnSink, decoded_block
from gemma_trace.trace.source import Fingerprint, SourceState, read_chunks
from gemma_trace.wording import counted

EVENTS_KEY: Final = "traceEvents"
BRACKETS_TRIED: Final = 8
UNREADABLE_HEADER: Final = "unreadable_header"
UNREAD_BYTES: Final = "unread_bytes"
MAX_HEADER_BYTES: Final = 32 << 20
MAX_EVENT_BYTES: Final = 32 << 20

_HEAD_BYTES: Final = 1 << 16
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True)
class ReadReport:
    """What reading brought to light. Nothing is dropped, repaired or rounded without being counted here.

    Attributes:
        phases: events read, by their `ph`; the spans are `X`, and `B` with `E`.
        repairs: what was mended or lost, by kind; see `columns.py` and `repair.py`.
        truncated: the file ends before the trace does.
        damaged: the compressed data is broken somewhere; what came before it was read.
        inflated_bytes: size of the JSON.
        first_ns: the earliest time of any event that isn't metadata; None where none has a time.
        passed_over: events of which nothing here makes use, by their `ph`.
        passed_over_ns: the time that those of them with a length cover, together.
    """

    phases: dict[str, int]
    repairs: dict[str, int]
    truncated: bool
    damaged: bool
    inflated_bytes: int
    first_ns: int | None = None
    passed_over: dict[str, int] = field(default_factory=dict)
    passed_over_ns: int = 0


@dataclass(frozen=True)
class TraceFile:
    """A trace file's content: its events as columns, and the JSON text of its other top-level members.

    Attributes:
        events: `DetailedEvents` where the details were read.
        memory: None where they weren't.
        content: tells what was read from what another file of the name holds.
    """

    events: Events
    flows: Flows
    memory: MemoryEvents | None
    counters: CounterEvents
    names: TrackNames
    header: dict[str, msgspec.Raw]
    report: ReadReport
    content: Fingerprint = field(default_factory=Fingerprint)

    @property
    def is_detailed(self) -> bool:
        """Whether the details were read: `DETAIL_COLUMNS`, and what the allocators said."""
        return self.memory is not None


def read_trace(
    path: Path, on_bytes: Callable[[int], None] | None = None, jobs: int | None = None, *, detailed: bool = True
) -> TraceFile:
    """Read a trace file, gzip or plain, an object with `traceEvents` or a bare list of events.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.
        jobs: how many processes may read a large file; None as the environment says, else one a core. What is read is
            the same.
        detailed: whether the details are read too, which is up to a fifth of the work.

    Raises:
        UnreadableError: the file can't be read, or what it holds doesn't fit into the free memory.
        TraceFormatError: it is no trace, or holds no event.
        ConfigError: the environment says something else than a number of processes.
    """
    columns = ColumnSink(detailed=detailed)
    budget = _Budget(path, columns.builder.collected)
    reader = _Reader(path, columns, SourceState(on_bytes), budget=budget, jobs=jobs_of(jobs))
    header, complete = reader.run()
    builder, state = columns.builder, reader.state
    collected = builder.collected
    if not collected.phases:
        if lost := (reader.repairs + builder.repairs)[UNDECODABLE_EVENTS]:
            raise TraceFormatError(f"{path} has {counted(lost, 'event')}, of which none can be read; capture again")
        raise TraceFormatError(f"{path} has no trace events; was the profiler running?")
    builder.end()
    flows, memory, events = collected.build_flows(), collected.build_memory(), collected.build()
    others = builder.others
    report = ReadReport(
        phases=dict(collected.phases),
        repairs={kind: count for kind, count in (reader.repairs + builder.repairs).items() if count},
        truncated=state.truncated or not complete,
        damaged=state.damaged,
        inflated_bytes=state.inflated_bytes,
        first_ns=collected.first_ns,
        passed_over=dict(others.passed_over),
        passed_over_ns=others.covered_ns(),
    )
    return TraceFile(
        events, flows, memory, others.build_counters(), others.build_names(), header, report, state.content
    )


@dataclass(frozen=True)
class StreamReport:
    """What going through a file's events brought to light.

    Attributes:
        header: the JSON text of the other top-level members.
        repairs: what the reader mended or left out, by kind.
        incomplete: the compressed data is broken, or the file ends before the trace does.
    """

    header: dict[str, msgspec.Raw]
    repairs: dict[str, int]
    incomplete: bool


def stream_events(path: Path, sink: EventSink, on_bytes: Callable[[int], None] | None = None) -> StreamReport:
    """Hand a trace file's events to a sink, the very events that `read_trace` makes columns of, in the same order.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.

    Raises:
        UnreadableError: the file can't be read.
        TraceFormatError: it is no trace.
    """
    reader = _Reader(path, sink, SourceState(on_bytes))
    header, complete = reader.run()
    incomplete = reader.state.truncated or reader.state.damaged or not complete
    return StreamReport(header, dict(reader.repairs), incomplete)


def read_header(path: Path) -> dict[str, msgspec.Raw]:
    """The top-level members that stand before the events: all of them in the traces we write. Reads no further.

    Raises:
        UnreadableError: the file can't be read.
        TraceFormatError: it is no trace.
    """
    return _Reader(path, ColumnSink()).read_header()


class _Budget:
    """Refuses a file of which the columns would take more memory than is free.

    Raises:
        UnreadableError: from `check`.
    """

    def __init__(self, path: Path, collected: Collected) -> None:
        self._path, self._collected = path, collected
        self._bytes = memory_budget_bytes()

    def check(self, inflated_bytes: int) -> None:
        """Look at what has been read so far."""
        needed = self._collected.needed_bytes
        if needed > self._bytes:
            events = self._collected.phases.total()
            raise UnreadableError(
                f"{self._path} needs over {needed / 1e9:.1f} GB of memory ({counted(events, 'event')} in its first "
                f"{inflated_bytes / 1e6:,.0f} MB of JSON), and it may use {self._bytes / 1e9:.1f} GB; capture fewer "
                f"steps, read it on a larger machine, or set {VARIABLE} to the GB that it may use"
            )


@dataclass
class _Reader:
    path: Path
    sink: EventSink
    state: SourceState = field(default_factory=SourceState)
    repairs: Counter[str] = field(default_factory=Counter)
    budget: _Budget | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        self._salvage = Salvage(self.sink, self.repairs)

    def run(self) -> tuple[dict[str, msgspec.Raw], bool]:
        """Hand all events to the sink.

        Returns:
            The other top-level members, and whether the file ends as it should.
        """
        chunks = read_chunks(self.path, self.state)
        head, events = self._find_events(chunks)
        with self._ahead() as ahead:
            tail = self._read_events(events, chunks, ahead)
        return self._header(head, tail)

    def read_header(self) -> dict[str, msgspec.Raw]:
        chunks = read_chunks(self.path, self.state)
        head, _ = self._find_events(chunks)
        return self._header(head, None)[0]

    def _find_events(self, chunks: Iterator[bytes]) -> tuple[bytes, bytearray]:
        """What stands before the events (empty for a bare list), and the first of them behind their opening bracket."""
        parts: list[bytes] = []
        looked = 0
        text = b""
        for chunk in itertools.chain(chunks, [b""]):
            parts += [chunk] if chunk else []
            if chunk and sum(map(len, parts)) < 2 * looked:  # a header longer than a chunk: look again at twice as much
                continue
            text = b"".join(parts)  # the first chunk itself, and no copy, where there is no other
            parts, looked = [text], len(text)
            begin = len(text) - len(text.removeprefix(_BYTE_ORDER_MARK).lstrip())
            if text.startswith(b"[", begin):
                return b"", bytearray(memoryview(text)[begin:])
            if len(text) > begin and not text.startswith(b"{", begin):
                raise TraceFormatError(f"{self.path} is not a trace: it is neither a JSON object nor a list of events")
            key = EVENTS_KEY.encode()
            array = find_array(text[begin : begin + _HEAD_BYTES], key) or find_array(text[begin:], key)
            if array:
                return text[begin : begin + array[0]], bytearray(memoryview(text)[begin + array[1] - 1 :])
            if len(text) > MAX_HEADER_BYTES:
                raise TraceFormatError(
                    f"{self.path} is not a trace: there is no {EVENTS_KEY} in its first {len(text) >> 20} MiB"
                )
        if self.state.damaged or (self.state.truncated and text.strip()):
            raise TraceFormatError(f"{self.path} is damaged or cut before its first event; copy it again")
        if not text.strip():
            raise TraceFormatError(f"{self.path} is empty; was the trace written to its end?")
        raise TraceFormatError(
            f"{self.path} is not a trace: it has no {EVENTS_KEY}; give a file that torch.profiler exported"
        )

    @contextlib.contextmanager
    def _ahead(self) -> Iterator[Ahead | None]:
        """Who decodes what is cut meanwhile; None where that doesn't pay."""
        sink = self.sink
        if self.jobs < 2 or not isinstance(sink, ColumnSink) or not pays(self.path, self.state):
            yield None
            return
        builder = sink.builder
        decoded = functools.partial(decoded_block, detailed=builder.is_detailed)
        with block_workers(self.path, self.jobs - 1, detailed=builder.is_detailed) as workers:
            ahead = Ahead(workers, builder.collected, cut_of, decoded, self._check_budget, self._salvage.earn)
            yield ahead if workers else None

    def _read_events(self, pending: bytearray, chunks: Iterator[bytes], ahead: Ahead | None) -> bytes | None:
        """Decode all events.

        Args:
            pending: the array as far as it was read, with its opening bracket.

        Returns:
            What stands behind the array's closing bracket; None if there is no closing bracket.
        """
        tried = 0
        while True:
            if ahead and not tried:
                pending, chunks = ahead.run(pending, chunks)
            chunk = next(chunks, None)
            if chunk is None:
                break
            self._check_budget()
            if len(pending) < 2 * tried:  # an event longer than a chunk: look again once there is twice as much of it
                pending += chunk
                continue
            cut = self._add_up_to_a_cut(pending)
            if cut is None:
                closed, rest = self._salvage.take(bytes(memoryview(pending)[1:]))
                if closed:
                    return self._tail(itertools.chain([rest, chunk], chunks))
                if len(rest) > MAX_EVENT_BYTES or self._salvage.exhausted:
                    self._give_up(len(rest), itertools.chain([chunk], chunks))
                    return None
                pending, tried = array_of(rest), len(rest)
            else:
                self._salvage.earn(cut)
                pending, tried = array_of(memoryview(pending)[cut + 1 :]), 0
            pending += chunk
        end = self._add_up_to_the_end(pending)
        if end is not None:
            return bytes(memoryview(pending)[end + 1 :])
        closed, rest = self._salvage.take(bytes(memoryview(pending)[1:]))
        return rest if closed else None

    def _check_budget(self) -> None:
        if self.budget:
            self.budget.check(self.state.inflated_bytes)

    def _tail(self, parts: Iterable[bytes]) -> bytes:
        """What stands behind the events; nothing, and it is counted, where it is too long to be a header."""
        tail = bytearray()
        parts = iter(parts)
        for part in parts:
            tail += part
            if len(tail) > MAX_HEADER_BYTES:
                self.repairs[UNREADABLE_HEADER] += 1
                self.repairs[UNREAD_BYTES] += len(tail) + sum(map(len, parts))
                return b"}"
        return bytes(tail)

    def _give_up(self, unread_bytes: int, chunks: Iterable[bytes]) -> None:
        """Leave the rest of the file alone: an event without an end, or too much that can't be read, for a trace."""
        self.repairs[UNREAD_BYTES] += unread_bytes + sum(map(len, chunks))

    def _add_up_to_a_cut(self, pending: bytearray) -> int | None:
        """Decode the events before some comma near the end, and say where it is; None if none proves to be a cut.

        Args:
            pending: an opening bracket and events, the last of them perhaps not whole.
        """
        cuts = cuts_of(pending)
        for take in (self.sink.decode, self._take_mended):
            for comma in cuts:
                pending[comma] = CLOSE
                if take(memoryview(pending)[: comma + 1]):
                    return comma
                pending[comma] = COMMA
        return None

    def _take_mended(self, array: memoryview) -> bool:
        return self._salvage.take_whole(bytes(array))

    def _add_up_to_the_end(self, pending: bytearray) -> int | None:
        """Decode the events before the array's closing bracket, and say where it is; None if none proves to be it."""
        bracket = len(pending)
        for _ in range(BRACKETS_TRIED):  # what follows the events may hold brackets too
            bracket = pending.rfind(b"]", 0, bracket)
            if bracket < 0:
                return None
            if self.sink.decode(memoryview(pending)[: bracket + 1]):
                return bracket
        return None

    def _header(self, head: bytes, tail: bytes | None) -> tuple[dict[str, msgspec.Raw], bool]:
        """The other top-level members, and whether the file ends as it should."""
        members: dict[str, msgspec.Raw] = {}
        if head:
            parsed = self._members(head.rstrip().removesuffix(b",") + b"}")
            self.repairs[UNREADABLE_HEADER] += parsed is None
            members |= parsed or {}
        if tail is None:
            return members, False
        if not head:
            return members, True
        parsed = self._members(b"{" + tail.lstrip().removeprefix(b",").rstrip(b"\0 \t\r\n"))
        return members | (parsed or {}), parsed is not None

    def _members(self, text: bytes) -> dict[str, msgspec.Raw] | None:
        try:
            return _members.decode(text)
        except UNDECODABLE:
            pass  # once more, repaired
        if len(text) > MAX_MENDED_BYTES:
            return None
        mends: Counter[str] = Counter()
        try:
            members = _members.decode(repair_json(text, mends))
        except UNDECODABLE:
            return None
        self.repairs += mends
        return members
