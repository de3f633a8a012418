"""Where the brackets of a JSON text stand that are in no string, and how deep: on columns, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.trace.events import BoolArray, IntArray

_FIRST_BYTES: Final = 1 << 14
_MOST_BYTES: Final = 1 << 20
_QUOTE: Final = ord('"')
_OPENS, _CLOSES = 1, 2
_KINDS: Final = np.zeros(256, dtype=np.uint8)
_KINDS[list(b"[{")] = _OPENS
_KINDS[list(b"]}")] = _CLOSES


@dataclass(frozen=True)
class Brackets:
    """The brackets of a block of text that are in no string. Both columns have the length b.

    Attributes:
        place: int64, ascending, where each stands in the whole text.
        opens: bool, whether it is an opening one.
    """

    place: IntArray
    opens: BoolArray

    def levels(self, before: int) -> IntArray:
        """int64 [b], how many are open behind each; below zero where more have closed than opened.

        Args:
            before: how many are open before the first.
        """
        return before + np.cumsum(np.where(self.opens, 1, -1))


def without_escapes(text: bytes) -> bytes:
    """The text with every escaped backslash and quote blotted out, as long as it was."""
    return text.replace(rb"\\", b"xx").replace(rb"\"", b"xx") if b"\\" in text else text


def brackets(text: bytes) -> Iterator[Brackets]:
    """The brackets outside strings, block by block, the first blocks small; a string without an end goes to the end.

    Args:
        text: as `without_escapes` gives it.
    """
    begin, size, quotes = 0, _FIRST_BYTES, 0
    while begin < len(text):
        block = np.frombuffer(text, np.uint8, min(size, len(text) - begin), begin)
        kinds = _KINDS[block]
        place = np.flatnonzero(kinds)
        is_quote = block == _QUOTE
        if len(place):
            before = np.cumsum(is_quote, dtype=np.uint8)  # its last bit is enough, so it may overflow
            place = place[(before[place] + quotes) % 2 == 0]
            yield Brackets(place + begin, kinds[place] == _OPENS)
        quotes = (quotes + int(np.count_nonzero(is_quote))) % 2
        begin, size = begin + len(block), min(2 * size, _MOST_BYTES)
