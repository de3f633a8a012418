"""Ids that the profiler counts anew in each of its cycles: in one trace none may stand for two things.

An id that begins anew in a cycle goes on where the cycles before ended: all ids of its kind in the cycle move by the
same number, so that what belongs together by them still does. A kind that goes on by itself stays as it is.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class _Kind(NamedTuple):
    """Numbers that are of one count.

    Attributes:
        first: the least that is an id; what is below says that there is none.
        names: under which they stand in an event.
    """

    first: int
    names: tuple[str, ...]


_KINDS: Final = (
    _Kind(0, ("Ev Idx",)),
    _Kind(1, ("External id",)),
    _Kind(1, ("Python id", "Python parent id")),
    _Kind(1, ("correlation", "id", "wait_on_cuda_event_record_corr_id")),  # an arrow has the id of its launch
)
"""The numbers of modules stay: they are part of their frames' names, and mostly the same in all cycles."""

_PATTERNS: Final = {name: re.compile(rb'"%b":\s*(\d+)' % name.encode()) for kind in _KINDS for name in kind.names}


class CycleIds:
    """Hears the events of one cycle, batch by batch.

    Attributes:
        lowest, highest: by kind, from where to where its ids go; a kind without ids isn't there.
    """

    def __init__(self) -> None:
        self.lowest: dict[_Kind, int] = {}
        self.highest: dict[_Kind, int] = {}

    def take(self, text: bytes) -> None:
        """The JSON text of some events."""
        for kind in _KINDS:
            numbers = (int(number) for name in kind.names for number in _numbers(name, text))
            ids = [number for number in numbers if number >= kind.first]
            if ids:
                self.lowest[kind] = min(self.lowest.get(kind, ids[0]), *ids)
                self.highest[kind] = max(self.highest.get(kind, ids[0]), *ids)


class Renumbering:
    """Gives the ids of one cycle after the other the numbers that they have in the trace."""

    def __init__(self) -> None:
        self._highest: dict[_Kind, int] = {}
        self._offsets: dict[_Kind, int] = {}

    def begin_cycle(self, ids: CycleIds) -> None:
        """A cycle begins that has these ids."""
        self._offsets = {}
        for kind, lowest in ids.lowest.items():
            highest = self._highest.get(kind, kind.first - 1)
            if lowest <= highest:
                self._offsets[kind] = highest + 1 - kind.first
            self._highest[kind] = max(highest, ids.highest[kind] + self._offsets.get(kind, 0))

    def __call__(self, text: bytes) -> bytes:
        """The JSON text of some of the cycle's events, with the ids that they have in the trace."""
        for kind, offset in self._offsets.items():
            for name in kind.names:
                text = _moved(text, name, offset, kind.first)
        return text


def _numbers(name: str, text: bytes) -> list[bytes]:
    """All numbers of a name. No text holds one: its quotation marks would have backslashes before them."""
    return _PATTERNS[name].findall(text) if b'"%b":' % name.encode() in text else []


def _moved(text: bytes, name: str, offset: int, first: int) -> bytes:
    if b'"%b":' % name.encode() not in text:
        return text
    pieces = _PATTERNS[name].split(text)
    numbers = map(int, pieces[1::2])
    moved = [number + offset if number >= first else number for number in numbers]
    pieces[1::2] = [b'"%b": %d' % (name.encode(), number) for number in moved]
    return b"".join(pieces)
