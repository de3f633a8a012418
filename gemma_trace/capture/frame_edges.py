"""Python frames that cross the edge of a range: where they end and start instead.

Perfetto needs the slices of a thread to nest and drops one that crosses another; with stacks, `record_function`'s own
frames cross the range they open or close (pytorch #174555, #191797), and the range is what gets lost.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import UNDECODABLE
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.growing import GrowingColumn, Interner
from gemma_trace.trace.times import times_of

_FRAME: Final = "python_function"
_RANGE: Final = "user_annotation"
_MARKS: Final = (b'"python_function"', b'"user_annotation"')
_NEVER: Final = np.iinfo(np.int64).max


class _Head(msgspec.Struct, gc=False):
    """What of an event the trimming needs."""

    cat: Any = ""
    pid: msgspec.Raw = msgspec.Raw(b"0")
    tid: msgspec.Raw = msgspec.Raw(b"0")
    ts: msgspec.Raw = msgspec.Raw(b"")
    dur: msgspec.Raw = msgspec.Raw(b"")


class _Anything(msgspec.Struct, gc=False):
    """An event of which nothing is needed but that it is one."""


_heads = msgspec.json.Decoder(list[_Head])
_events = msgspec.json.Decoder(list[_Anything])


class NewEdges(NamedTuple):
    """Frames that are trimmed. All columns have the length n, and are sorted by event.

    Attributes:
        event: int64, which event of the file each is.
        start_ns, end_ns: int64, where it starts and ends now.
    """

    event: IntArray
    start_ns: IntArray
    end_ns: IntArray


class FrameEdges:
    """Takes all events of a trace, batch by batch, and keeps of its frames and ranges where they are.

    Each takes 28 bytes; ranges are few beside the frames.

    Attributes:
        events: how many there were.
    """

    def __init__(self) -> None:
        self.events = 0
        self._threads = Interner()
        self._frames, self._ranges = _Spans(), _Spans()

    def decode(self, array: bytes | memoryview) -> bool:
        """Take the events of a JSON array; False, and nothing is taken, where it doesn't decode."""
        text = bytes(array)
        try:
            if any(mark in text for mark in _MARKS):
                self._take(_heads.decode(text))
            else:
                self.events += len(_events.decode(text))
        except UNDECODABLE:
            return False
        return True

    def _take(self, heads: list[_Head]) -> None:
        for cat, spans in ((_FRAME, self._frames), (_RANGE, self._ranges)):
            chosen = [place for place, head in enumerate(heads) if head.cat == cat]
            kept = [heads[place] for place in chosen]
            starts = times_of([bytes(head.ts) for head in kept])
            lengths = times_of([bytes(head.dur) for head in kept])
            threads = [self._threads[bytes(head.pid), bytes(head.tid)] for head in kept]
            timed = ~starts.absent
            spans.extend(starts.ns, starts.ns + lengths.ns, threads, self.events + np.array(chosen, np.int64), timed)
        self.events += len(heads)

    def trimmed(self) -> NewEdges:
        """The frames that cross a range's edge; there can be no more events.

        A frame that starts before a range and ends inside it ends at the range's start; one that starts inside and
        ends after it starts at the range's end.
        """
        frames, ranges = self._frames.take(), self._ranges.take()
        nothing = np.zeros(0, dtype=np.int64)
        trimmed = [NewEdges(nothing, nothing, nothing)]
        for thread in np.unique(ranges.thread).tolist():
            thread_ranges = ranges.of(ranges.thread == thread)
            trimmed.append(
                _trimmed(frames.of((frames.thread == thread) & _holds_an_edge(frames, thread_ranges)), thread_ranges)
            )
        event, start_ns, end_ns = map(np.concatenate, zip(*trimmed, strict=True))
        order = np.argsort(event)
        return NewEdges(event[order], start_ns[order], end_ns[order])


class _Taken(NamedTuple):
    """Spans; all columns have the length n.

    Attributes:
        start_ns, end_ns: int64.
        thread: int32, a code.
        event: int64, which event of the file each is.
    """

    start_ns: IntArray
    end_ns: IntArray
    thread: IntArray
    event: IntArray

    def of(self, chosen: BoolArray) -> _Taken:
        """Some of them."""
        return _Taken(self.start_ns[chosen], self.end_ns[chosen], self.thread[chosen], self.event[chosen])


class _Spans:
    """Spans while there come more."""

    def __init__(self) -> None:
        self._columns = [GrowingColumn(dtype) for dtype in (np.int64, np.int64, np.int32, np.int64)]

    def extend(
        self, start_ns: IntArray, end_ns: IntArray, thread: list[int], event: IntArray, chosen: BoolArray
    ) -> None:
        """Append those that are chosen."""
        added: tuple[npt.NDArray[Any], ...] = (start_ns, end_ns, np.array(thread, np.int32), event)
        for column, values in zip(self._columns, added, strict=True):
            column.extend(values[chosen])

    def take(self) -> _Taken:
        """All of them; there can be no more."""
        return _Taken(*(column.take() for column in self._columns))


def _holds_an_edge(frames: _Taken, ranges: _Taken) -> BoolArray:
    """bool [n], in which frames a range starts or ends."""
    edges = np.sort(np.concatenate([ranges.start_ns, ranges.end_ns]))
    holds: BoolArray = np.searchsorted(edges, frames.start_ns, "right") < np.searchsorted(edges, frames.end_ns, "left")
    return holds


def _trimmed(frames: _Taken, ranges: _Taken) -> NewEdges:
    """What becomes of those frames of one thread that change."""
    ends = _first_entered(frames.start_ns, frames.end_ns, ranges.start_ns, ranges.end_ns)
    starts = -_first_entered(-frames.end_ns, -frames.start_ns, -ranges.end_ns, -ranges.start_ns)  # time backwards
    changed = (ends < _NEVER) | (starts > -_NEVER)
    new_start = np.maximum(frames.start_ns, starts)
    new_end = np.maximum(new_start, np.minimum(frames.end_ns, ends))
    return NewEdges(frames.event[changed], new_start[changed], new_end[changed])


def _first_entered(start_ns: IntArray, end_ns: IntArray, range_start_ns: IntArray, range_end_ns: IntArray) -> IntArray:
    """int64 [n], where the first range starts that starts inside a frame and ends behind it; `_NEVER` without one.

    Steps from the first range that starts inside the frame over as many as end in time, by doubled strides: the time
    grows with frames times the logarithm of the ranges.
    """
    order = np.argsort(range_start_ns, kind="stable")
    starts = np.append(range_start_ns[order], _NEVER)
    latest = [np.append(range_end_ns[order], _NEVER)]  # of 1, 2, 4, … ranges from each on; behind the last never ends
    while 1 << len(latest) <= len(starts):
        last, stride = latest[-1], 1 << (len(latest) - 1)
        latest.append(np.maximum(last[:-stride], last[stride:]))
    place = np.searchsorted(starts, start_ns, "right")
    for level in range(len(latest) - 1, -1, -1):
        table = latest[level]
        inside = place < len(table)
        inside[inside] = table[place[inside]] <= end_ns[inside]
        place[inside] += 1 << level
    next_ns = starts[place]
    return np.where(next_ns < end_ns, next_ns, _NEVER)
