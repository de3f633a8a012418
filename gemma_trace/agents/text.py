"""Text that others wrote, as an agent may have it: on one line, with nothing hidden, and not long.

Names come from traces, and traces from anywhere. A name may hold an order to whoever reads it. Nothing can tell an
order from a name, so each answer says which part of it is data; what can be done here is to leave no control character
and no hidden mark in it, and no room for a long speech.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from gemma_trace.printable import stripped

LONGEST: Final = 120
"""So many characters a text has at most."""

_DIGITS: Final = 6
_LOOKED_AT: Final = 2_000
"""Of a longer text only so much of either end is looked at."""


def tame(text: str, longest: int = LONGEST) -> str:
    """A text with a mark for whatever isn't printable; the middle of a long one is left out, and a digest tells it.

    >>> tame("gemm\\x1b[2J"), tame("a" * 50 + "b" * 50, 20)
    ('gemm\ufffd[2J', 'aaaaaaa…bbbbb#4ba99c')
    """
    if len(text) <= longest:
        return stripped(text)
    digest = digest_of(text)[:_DIGITS]
    room = max(2, longest - _DIGITS - 2)
    tail = 2 * room // 5
    head, end = (stripped(part) for part in (text[:_LOOKED_AT], text[-_LOOKED_AT:]))
    return f"{head[: room - tail]}…{end[-tail:]}#{digest}"


def digest_of(*texts: str) -> str:
    """What tells texts from others, in hexadecimal digits."""
    return sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
