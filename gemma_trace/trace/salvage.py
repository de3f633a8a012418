"""What is left of events that don't decode together: each as it stands or mended, and the rest counted.

Whatever a file holds, the time goes with its length: events are told apart on columns, tried in groups, and only those
of a group that doesn't decode one by one. Those that can't be mended are dear, and so is what is mostly brackets: where
there is too much of them for a trace, the rest of the file is given up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from gemma_trace.foreign import UNDECODABLE
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.repair import MENDED_IN_BULK, STRAY_BRACES, repair_json, split_objects
from gemma_trace.trace.wire import decode_exact, decode_fast, decode_loose, tightened

LOST_AT_LEAST: Final = 100_000
"""So many events that can't be mended are tried of any file."""

BYTES_A_LOSS: Final = 64
"""One more is for every so many bytes of events that were read."""

MENDS_A_LOSS: Final = 8
"""So many mends that help cost as much as an event that none helps."""

MAX_MENDED_BYTES: Final = 8 << 20
"""What is longer than this is not mended."""

_GROUP: Final = 64
_PIECE_BYTES: Final = 1 << 20
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS: Final = re.compile(_STRING, re.DOTALL)
_BLANKED: Final = bytes(ord(" ") if byte in b",{}[]" else byte for byte in range(256))
"""Commas and brackets → spaces."""

_QUOTE_OR_OPENING: Final = re.compile(rb'["{\[]')
_ENDED: Final = re.compile(rb"(?:(?:" + _STRING + rb'|[^"{}\[\],]++)*+[,}]++)*+', re.DOTALL)
"""What stands outside objects, up to the last comma or stray brace before one begins."""

_BRACE: Final = ord("{")
_APART: Final = b"\f\v\f"
"""Stands between events that are mended together: white space, so it stays, and no JSON, so none of them has it."""

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

    @property
    def exhausted(self) -> bool:
        """Whether so much of the file can't be read that no more of it should be tried."""
        return self._left <= 0

    def earn(self, read_bytes: int) -> None:
        """Events of so many bytes were read, so more may be tried."""
        self._left += read_bytes * MENDS_A_LOSS // BYTES_A_LOSS

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
            self._hand_over(self._sound(objects))
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

    def _sound(self, objects: list[bytes]) -> list[bytes]:
        """Those that decode, as they stand or mended: all of them at once where that does, else group by group."""
        sound: list[bytes] = []
        for piece in _pieces(objects, _PIECE_BYTES):
            if not self.exhausted and self._mend(piece, range(len(piece))):
                self._settle(piece)
                sound += piece
                continue
            for begin in range(0, len(piece), _GROUP):
                group = piece[begin : begin + _GROUP]
                group = group if _decodes(group) else self._mended(group)
                self._settle(group)
                sound += group
        return sound

    def _mended(self, group: list[bytes]) -> list[bytes]:
        """What decodes of events of which some don't; the rest is counted."""
        self._left -= len(group)
        broken = [place for place, one in enumerate(group) if not _decodes([one])]
        lost = broken if self.exhausted else []
        if not lost and not self._mend(group, broken):
            helped = self._helped(group, broken)
            alone = sorted(set(broken).difference(helped)) if self._mend(group, helped) else broken
            lost = [place for place in alone if self.exhausted or not self._mend(group, [place])]
            self._left -= len(alone) * MENDS_A_LOSS
        self._repairs[UNDECODABLE_EVENTS] += len(lost)
        return [one for place, one in enumerate(group) if place not in lost]

    def _helped(self, group: list[bytes], places: Sequence[int]) -> list[int]:
        """Which of these decode once all of them are mended together."""
        mended = _mended_together([group[place] for place in places], Counter())
        return [place for place, one in zip(places, mended, strict=False) if _decodes([one])]

    def _mend(self, group: list[bytes], places: Sequence[int]) -> bool:
        """Put the mended events in the places of these, if that makes all of them decode."""
        mends: Counter[str] = Counter()  # what didn't help is no repair
        mended = _mended_together([group[place] for place in places], mends)
        if not mends or not mended or not _decodes(mended):
            return False
        for place, one in zip(places, mended, strict=True):
            group[place] = one
        self._repairs += mends
        self._left -= sum(count for kind, count in mends.items() if kind not in MENDED_IN_BULK)
        return True

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
    ends = np.cumsum([len(one) for one in objects])
    begin = 0
    while begin < len(objects):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
        yield objects[begin:end]
        begin = end


def _mended_together(events: list[bytes], mends: Counter[str]) -> list[bytes]:
    """The events, each mended; none where they are too long, or can't be told apart any more."""
    text = _APART.join(events)
    if len(text) > MAX_MENDED_BYTES:
        return []
    mended = repair_json(text, mends).split(_APART)
    return mended if len(mended) == len(events) else []


def _ended(text: bytes, start: int) -> int:
    """Behind the last comma or stray brace before an object begins."""
    found = _QUOTE_OR_OPENING.search(text, start)
    if found and found.group() == b'"':
        ended = _ENDED.match(text, start)
        return ended.end() if ended else start
    end = found.start() if found else len(text)
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
