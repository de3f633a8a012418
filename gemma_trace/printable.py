"""The one place that makes text safe to print: whatever would steer a terminal, hide or reorder text is shown instead.

Names come from traces, and traces from anywhere. A name may hold an escape sequence that rewrites the screen, a mark
that turns the reading order round, or characters that nobody sees. All that stays of them here is what they are:
`\\x1b`, `\\u202e`. Letters of any script, accents and emoji are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any, Final

from gemma_trace.lazy_patterns import LazyPattern

_CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
_MARKS: Final = (
    r"\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180b-\u180f\u200b\u200c\u200e\u200f\u2028-\u202e"
    r"\u2060-\u206f\ufeff\ufff0-\ufffc\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Marks of format: of direction, of no width, of language; and what chooses a glyph's variant, tags among them."""
_BLANKS: Final = r"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0d"
"""Letters and accents that have no ink."""
_NOBODYS: Final = r"\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff\U000f0000-\U0010ffff" + "".join(
    rf"\U000{plane:x}fffe\U000{plane:x}ffff" for plane in range(1, 15)
)
"""Halves of pairs, private characters and those that are none."""
_EMOJI: Final = r"\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINER: Final = rf"(?<![{_EMOJI}])\u200d|\u200d(?![{_EMOJI}])"
"""A joiner of no width; between two emoji it makes one of them."""

_UNSAFE: Final = LazyPattern(rf"[{_CONTROLS}{_MARKS}{_BLANKS}{_NOBODYS}]|{_JOINER}")
_UNSAFE_RUN: Final = LazyPattern(rf"(?:{_UNSAFE.pattern})+")
_UNSAFE_IN_JSON: Final = LazyPattern(rf"(?!\n)(?:{_UNSAFE.pattern})")
_HALVES: Final = LazyPattern(r"[\ud800-\udfff]")
_SHORT: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    """A text on one line in which nothing acts on a terminal and nothing is hidden.

    >>> printable("\\x1b[2Jgemm\\n")
    '\\\\x1b[2Jgemm\\\\n'
    >>> printable("Größe 模型 🚀")
    'Größe 模型 🚀'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_shown, text)


def stripped(text: str) -> str:
    """A text on one line without what isn't printable; where some of that was there is one mark.

    >>> stripped("\\x1b[2Jgemm\\n\\n")
    '\ufffd[2Jgemm\ufffd'
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE_RUN.sub("\ufffd", text)


def printable_lines(text: str) -> str:
    """A text of several lines, each of them printable; a line ends at a line feed, and nowhere else."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON with the same values, in which what isn't printable is written as an escape."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSAFE_IN_JSON.sub(_escaped_in_json, text)


def path_text(path: str | PathLike[str]) -> str:
    """A path as text that every encoding can hold: bytes of its name that are no UTF-8 are shown.

    >>> path_text("trace-\\udcff.json")
    'trace-\\\\xff.json'
    """
    text = fspath(path)
    return text if text.isascii() else _HALVES.sub(_shown, text)


def encodable(value: Any) -> Any:
    """A value of mappings, sequences and texts whose every text UTF-8 can hold."""
    if isinstance(value, str):
        return path_text(value)
    if isinstance(value, Mapping):
        return {encodable(key): encodable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(each) for each in value]
    return value


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a file's name that is no UTF-8
        code -= 0xDC00
    if code < 0x100:
        return _SHORT.get(character) or rf"\x{code:02x}"
    return rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(rf"\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2))
