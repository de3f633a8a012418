"""Where an array of events may be cut in two: at a comma between two objects, which need not be two events."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

CUTS_TRIED: Final = 2
MOST_EMPTY_BYTES: Final = 16
"""An empty object in so many bytes is more than any trace has."""

_EVENT_START: Final = re.compile(rb"\}\s*+(,)\s*+\{")
_FIRST_LOOK_BYTES: Final = 4096
_SAMPLES: Final = 8
_SAMPLE_BYTES: Final = 4096


def cut_of(pending: bytearray) -> int | None:
    """The first of `cuts_of`, if there is one."""
    return next(iter(cuts_of(pending)), None)


def cuts_of(pending: bytearray) -> list[int]:
    """The last commas between two objects, the last one first, from as little of the end as holds one.

    Args:
        pending: an opening bracket and events, the last of them perhaps not whole.

    Returns:
        None of them where the array is mostly empty objects, which had better be told apart.
    """
    if _is_mostly_empty(pending):
        return []
    looked = _FIRST_LOOK_BYTES
    while CUTS_TRIED:
        begin = max(0, len(pending) - looked)
        starts = deque(_EVENT_START.finditer(pending, begin), CUTS_TRIED)
        if starts or not begin:
            return [match.start(1) for match in reversed(starts)]
        looked *= 8
    return []


def _is_mostly_empty(pending: bytearray) -> bool:
    """Whether empty objects are more frequent than in any trace, by samples: to count them all takes a tenth as long
    as to decode a chunk."""
    begins = range(0, len(pending), max(_SAMPLE_BYTES, len(pending) // _SAMPLES))
    empty = sum(pending.count(b"{}", begin, begin + _SAMPLE_BYTES) for begin in begins)
    return empty * MOST_EMPTY_BYTES > min(len(pending), len(begins) * _SAMPLE_BYTES)
