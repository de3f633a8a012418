"""What is left of events that don't decode together: each as it stands or mended, and the rest counted.

Whatever a file holds, the time goes with its length: a chunk is mended as a whole; where that doesn't do, its events
are told apart on columns, mended together and tried in groups, and only those of a group that doesn't decode one by
one. Those that can't be mended are dear, and so is what is mostly brackets: where there is too much of them for a
trace, the rest of the file is given up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec
import numpy as np

from gemma_trace.foreign import UNDECODABLE
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.event_structs import decode_exact, decode_fast, decode_loose, tightened
from gemma_trace.trace.repair import (
    MENDED_IN_BULK,
    STRAY_BRACES,
    STRAY_COMMAS,
    joined,
    repair_json,
    repaired_parts,
    split_objects,
)

LOST_AT_LEAST: Final = 100_000
"""So many events that can't be mended are tried of any file."""

BYTES_A_LOSS: Final = 64
"""One more is for every so many bytes of events that were read."""

MENDS_A_LOSS: Final = 8
"""So many mends that help cost as much as an event that none helps."""

MAX_MENDED_BYTES: Final = 8 << 20
"""What is longer than this is not mended."""

MOST_IN_VAIN: Final = 4
"""So often all events of a chunk are mended at once before they are told apart at once instead."""

_GROUP: Final = 64
_PIECE_BYTES: Final = 1 << 20
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
_BLANKED: Final = bytes(ord(" ") if byte in b",{}[]" else byte for byte in range(256))
"""Commas and brackets → spaces."""

_QUOTE_OR_OPENING: Final = re.compile(rb'["{\[]')
_ENDED: Final = re.compile(rb"(?:(?:" + _STRING + rb'|[^"{}\[\],]++)*+[,}]++)*+', re.DOTALL)
"""What stands outside objects, up to the last comma or stray brace before one begins."""

_COMMAS_BETWEEN: Final = re.compile(rb"[}\[]\s*+,\s*+[,\]]|\[\s*+,")
"""Commas that may stand between events and separate none: such are passed over, where one in an event is mended."""

_BRACE: Final = ord("{")
_APART: Final = tuple(b"\v" + b"\f" * count + b"\v" for count in range(1, 100))
"""One of these stands between events that are mended together, of which none has it: white space, so it stays."""

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
        self._left = LOST_AT_LEAST * MENDS_A_LOSS
        self._in_vain = 0

    @property
    def exhausted(self) -> bool:
        """Whether so much of the file can't be read that no more of it should be tried."""
        return self._left <= 0

    def earn(self, read_bytes: int) -> None:
        """Events of so many bytes were read, so more may be tried."""
        self._left += read_bytes * MENDS_A_LOSS // BYTES_A_LOSS

    def take_whole(self, array: bytes) -> bool:
        """Hand over an array of events mended, if that makes all of them decode; else nothing is taken or counted.

        It costs less than to tell the events apart, where they are alike in what is wrong with them: where it didn't
        help several times, it isn't tried any more.
        """
        if self._in_vain > MOST_IN_VAIN or self.exhausted or len(array) > MAX_MENDED_BYTES:
            return False
        for parts, mends in repaired_parts(array):
            if STRAY_COMMAS in mends and _COMMAS_BETWEEN.search(array):
                break  # those that stand between events are no mend
            if mends and self._sink.decode(joined(parts)):
                self._in_vain = 0
                self._count_mends(mends)
                self.earn(len(array))
                return True
        self._in_vain += 1
        return False

    def take(self, text: bytes) -> tuple[bool, bytes]:
        """Hand over what can be read; what can't is counted and left out.

        Returns:
            Whether the array ends in here, and what is left of the text.
        """
        done, count, objects = 0, 0, []
        closed = False
        for start, end in split_objects(text):
            if text[done:start] not in _SEPARATORS:
                self._count_others(text, done, start)
            closed = end < 0
            count += 1
            done = start + 1 if closed else end
            if text[start] == _BRACE:
                objects.append(text[start:end])
            elif not closed:
                self._repairs[UNDECODABLE_EVENTS] += 1  # a list
        if not closed:
            ended = _ended(text, done)
            self._count_others(text, done, ended)
            done = ended
        self._left -= count - len(objects)
        if objects and self._sink.decode(_array_of(objects)):
            self._settle(objects)
        else:
            for piece in _pieces(objects, _PIECE_BYTES):
                self._take_piece(piece)
        rest = text[done:]
        return closed, rest if closed else rest.lstrip(b", \t\r\n")

    def _settle(self, objects: list[bytes]) -> None:
        """Earn what was read; every object costs a little, so that what is mostly brackets ends."""
        self._left -= len(objects)
        self.earn(sum(map(len, objects)))

    def _count_others(self, text: bytes, start: int, end: int) -> None:
        """Count what stands between objects."""
        between = _STRINGS.sub(b" s ", text[start:end])
        self._repairs[STRAY_BRACES] += between.count(b"}")
        self._repairs[UNDECODABLE_EVENTS] += len(between.translate(_BLANKED).split())

    def _take_piece(self, events: list[bytes]) -> None:
        """Hand over events that don't decode as they stand, mended: all of them at once, or else what can be mended."""
        mends: Counter[str] = Counter()
        mended = events if self.exhausted else _mended(events, mends)
        if mends and self._sink.decode(_array_of(mended)):
            self._count_mends(mends)
            self._settle(events)
            return
        sound, lost = self._sound(events, mended)
        of_lost: Counter[str] = Counter()
        _mended(lost, of_lost)
        self._count_mends(mends - of_lost)  # what didn't help is no repair
        self._repairs[UNDECODABLE_EVENTS] += len(lost)
        self._left -= len(lost) * MENDS_A_LOSS
        self._settle(sound)
        self._hand_over(sound)

    def _sound(self, events: list[bytes], mended: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The events that decode, mended where there was something to mend; and those that don't, as they stood.

        Args:
            mended: of each event, what it was made.
        """
        sound: list[bytes] = []
        lost: list[bytes] = []
        for begin in range(0, len(events), _GROUP):
            group = mended[begin : begin + _GROUP]
            if _decodes(group):
                sound += group
                continue
            self._left -= len(group)
            for place, text in enumerate(group, begin):
                if _decodes([text]):
                    sound.append(text)
                else:
                    lost.append(events[place])
        return sound, lost

    def _count_mends(self, mends: Counter[str]) -> None:
        self._repairs += mends
        self._left -= sum(count for kind, count in mends.items() if kind not in MENDED_IN_BULK)

    def _hand_over(self, objects: list[bytes]) -> None:
        """Hand over what the sink takes: it may want more of an event than that it decodes."""
        if not objects or self._sink.decode(_array_of(objects)):
            return
        self._left -= MENDS_A_LOSS
        if len(objects) == 1 or self.exhausted:
            self._repairs[UNDECODABLE_EVENTS] += len(objects)
            return
        middle = len(objects) // 2
        self._hand_over(objects[:middle])
        self._hand_over(objects[middle:])


def _pieces(objects: list[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """The events in order, as many at a time as are no longer than this together, and one at least."""
    ends = np.cumsum([len(each) for each in objects])
    begin = 0
    while begin < len(objects):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
        yield objects[begin:end]
        begin = end


def _mended(events: list[bytes], mends: Counter[str]) -> list[bytes]:
    """The events, each mended; as they stand where they are too long for that."""
    text = b"".join(events)
    apart = next((each for each in _APART if each not in text), None)
    if apart is None or len(text) > MAX_MENDED_BYTES or not events:
        return events
    return repair_json(apart.join(events), mends).split(apart)


def _ended(text: bytes, start: int) -> int:
    """Behind the last comma or stray brace before an object begins."""
    bracket = _QUOTE_OR_OPENING.search(text, start)
    if bracket and bracket.group() == b'"':
        ended = _ENDED.match(text, start)
        return ended.end() if ended else start
    end = bracket.start() if bracket else len(text)
    return max(text.rfind(b",", start, end) + 1, text.rfind(b"}", start, end) + 1, start)


def _array_of(objects: list[bytes]) -> bytes:
    return b"[%b]" % b",".join(objects)


def _decodes(objects: list[bytes]) -> bool:
    """Whether all of these events can be read, with whatever values."""
    array = _array_of(objects)
    try:
        try:
            decode_fast(array)
        except msgspec.ValidationError:
            try:
                decode_exact(array)
            except msgspec.ValidationError:
                for event in decode_loose(array):
                    tightened(event, Counter())
    except UNDECODABLE:
        return False
    return True
