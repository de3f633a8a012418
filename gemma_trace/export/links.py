"""The numbers that tie a launch to its kernel and an arrow's start to its end, in a file that holds several ranks.

Every rank counts its launches by itself, so the same number stands for others on another rank. In a merged file they
are apart by a power of ten, so that the last ten digits are still what the rank's own trace says.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

RANK_STEP: Final = 10**10
"""Between the numbers of a rank and those of the next. CUPTI's correlation ids have 32 bits."""

_OTHERS: Final = 2**62
"""Above it are the ids of arrows that were text, or larger than `RANK_STEP`."""

_CORRELATION: Final = re.compile(rb'(?<!\\)("correlation":\s*)(\d{1,10})(?=\s*[,}])')


class LinkNumbers:
    """What the numbers of one trace become.

    Args:
        rank: whose they are; None for the only trace of a file, in which they stay.

    >>> LinkNumbers(3).arrow(60047)
    30000060047
    """

    def __init__(self, rank: int | None = None) -> None:
        self._rank = rank
        self._others: dict[int | str, int] = {}

    def arrow(self, number: int | str) -> int | str:
        """The id of an arrow."""
        if self._rank is None:
            return number
        if isinstance(number, int) and 0 <= number < RANK_STEP:
            return self._rank * RANK_STEP + number
        return self._others.setdefault(number, _OTHERS + self._rank * RANK_STEP + len(self._others))

    def args(self, args: bytes) -> msgspec.Raw:
        """A span's arguments, as JSON text."""
        return msgspec.Raw(_CORRELATION.sub(self._moved, args) if self._rank else args)

    def _moved(self, number: re.Match[bytes]) -> bytes:
        return b"%b%d" % (number[1], (self._rank or 0) * RANK_STEP + int(number[2]))
