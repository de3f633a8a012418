"""What is left of events that don't decode together: each as it stands or mended, and the rest counted.

Whatever a file holds, the time goes with its length: events are told apart on columns, tried in groups, and only those
of a group that doesn't decode one by one. Mending is dear, so it ends where it is needed too often for a trace.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, Protocol

import msgspec

from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.repair import STRAY_BRACES, repair_json, split_objects
from gemma_trace.trace.wire import UNDECODABLE, decode_exact, decode_fast, decode_loose, tightened

MENDS_AT_LEAST: Final = 400_000
"""How many mends, and events that can't be mended, any file may cost."""

BYTES_A_MEND: Final = 16
"""A file may cost one more for every so many bytes of events that were read."""

MAX_MENDED_BYTES: Final = 8 << 20
"""What is longer than this is not mended."""

_GROUP: Final = 64
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SCALAR: Final = re.compile(_STRING + rb'|[^\s,{}\[\]"]+|\}', re.DOTALL)
"""What stands between objects where it is no white space and no comma."""

_ENDED: Final = re.compile(rb"(?:(?:" + _STRING + rb'|[^"{}\[\],])*+[,}])*+', re.DOTALL)
"""What stands outside objects, up to the last comma or stray brace before one begins."""

_SEPARATORS: Final = frozenset((b"", b",", b",\n", b", ", b",\r\n", b",\n  ", b",\n    "))


class EventSink(Protocol):
    """Who takes the events that are read, batch by batch, in the file's order."""

    def decode(self, array: bytes | memoryview) -> bool:
        """Take the events of a JSON array; False, and nothing is taken, where it doesn't decode."""
        ...


class Salvage:
    """Takes the inside of an array apart and hands a sink what can be read of it.

    Args:
        repairs: counts what was mended, and what was left out.
    """

    def __init__(self, sink: EventSink, repairs: Counter[str]) -> None:
        self._sink, self._repairs = sink, repairs
        self._mends_left = MENDS_AT_LEAST

    def earn(self, read_bytes: int) -> None:
        """Events of so many bytes were read, so more may be mended."""
        self._mends_left += read_bytes // BYTES_A_MEND

    def take(self, text: bytes) -> tuple[bool, bytes]:
        """Hand over what can be read; what can't is counted and left out.

        Returns:
            Whether the array ends in here, and what is left of the text.
        """
        done, objects = 0, []
        closed = False
        for start, end in split_objects(text):
            if text[done:start] not in _SEPARATORS:
                self._count_others(text, done, start)
            closed = end < 0
            done = start + 1 if closed else end
            if not closed:
                objects.append(text[start:end])
        ended = _ENDED.match(text, done)
        if ended and not closed:
            self._count_others(text, done, ended.end())
            done = ended.end()
        if objects and not self._sink.decode(_array_of(objects)):
            self._hand_over(self._sound(objects))
        self.earn(sum(map(len, objects)))
        rest = text[done:]
        return closed, rest if closed else rest.lstrip(b", \t\r\n")

    def _count_others(self, text: bytes, start: int, end: int) -> None:
        """Count what stands between objects."""
        others = _SCALAR.findall(text, start, end)
        braces = others.count(b"}")
        self._repairs[STRAY_BRACES] += braces
        self._repairs[UNDECODABLE_EVENTS] += len(others) - braces

    def _sound(self, objects: list[bytes]) -> list[bytes]:
        """Those that decode, as they stand or mended."""
        sound: list[bytes] = []
        for begin in range(0, len(objects), _GROUP):
            group = objects[begin : begin + _GROUP]
            if not _decodes(_array_of(group)):
                group = [mended for one in group if (mended := self._mended(one))]
            sound += group
        return sound

    def _mended(self, one: bytes) -> bytes | None:
        """An event that decodes; None, and it is counted, where it can't be made to."""
        if _decodes(_array_of([one])):
            return one
        if self._mends_left > 0 and len(one) <= MAX_MENDED_BYTES:
            mends: Counter[str] = Counter()  # what didn't help is no repair
            mended = repair_json(one, mends)
            self._mends_left -= 1 + mends.total()
            if mended != one and _decodes(_array_of([mended])):
                self._repairs += mends
                return mended
        self._repairs[UNDECODABLE_EVENTS] += 1
        return None

    def _hand_over(self, objects: list[bytes]) -> None:
        """Hand over what the sink takes: it may want more of an event than that it decodes."""
        if not objects or self._sink.decode(_array_of(objects)):
            return
        self._mends_left -= 1
        if len(objects) == 1 or self._mends_left <= 0:
            self._repairs[UNDECODABLE_EVENTS] += len(objects)
            return
        middle = len(objects) // 2
        self._hand_over(objects[:middle])
        self._hand_over(objects[middle:])


def _array_of(objects: list[bytes]) -> bytes:
    return b"[%b]" % b",".join(objects)


def _decodes(array: bytes) -> bool:
    """Whether all events of an array can be read, with whatever values."""
    try:
        try:
            decode_fast(array)
        except msgspec.ValidationError:
            try:
                decode_exact(array)
            except msgspec.ValidationError:
                for event in decode_loose(array):
                    tightened(event)
    except UNDECODABLE:
        return False
    return True
