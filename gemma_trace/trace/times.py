"""The times of many events at once, as exactly as `clock.py` reads one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.trace.clock import time_ns
from gemma_trace.trace.events import BoolArray, IntArray

_WHOLE: Final = rb"-?+[1-3]?[0-9]{1,15}+"  # of which the nanoseconds stay below MAX_TIME_NS
_ALL_WHOLE, _ALL_THOUSANDTHS, _ALL_PLAIN = (
    re.compile(pattern + rb"(?:," + pattern + rb")*+")
    for pattern in (_WHOLE, _WHOLE + rb"\.[0-9]{3}", _WHOLE + rb"(?:\.[0-9]{1,3})?+")
)
_NOTHING: Final = frozenset({b"", b"null"})


@dataclass(frozen=True)
class Times:
    """Times of events. All columns have the length n.

    Attributes:
        ns: int64, nanoseconds; 0 where there are none.
        absent: bool, where there are none.
        is_text: bool, which were written as text.
        unreadable: bool, which were given, and are neither null nor a time.
    """

    ns: IntArray
    absent: BoolArray
    is_text: BoolArray
    unreadable: BoolArray


def times_of(values: Sequence[bytes]) -> Times:
    """What `time_ns` makes of many values: at once, where they are written as profilers write them.

    Args:
        values: the JSON text of each; empty where there is none.
    """
    given = np.array([value not in _NOTHING for value in values], dtype=bool)
    ns, nothing = np.zeros(len(values), dtype=np.int64), np.zeros(len(values), dtype=bool)
    plain = _plain_times_ns(values if given.all() else [value for value in values if value not in _NOTHING])
    if plain is not None:
        ns[given] = plain
        return Times(ns, ~given, nothing, nothing)
    each = [time_ns(value) for value in values]
    absent = np.array([time is None for time in each], dtype=bool)
    ns[~absent] = [time for time in each if time is not None]
    is_text = np.array([value.startswith(b'"') for value in values], dtype=bool)
    return Times(ns, absent, is_text, given & absent)


def _plain_times_ns(values: Sequence[bytes]) -> IntArray | None:
    """int64, the nanoseconds of times with three decimals at most; None where one is written in another way."""
    if not values:
        return np.zeros(0, dtype=np.int64)
    text = b",".join(values)
    if _ALL_WHOLE.fullmatch(text):
        return np.array(list(map(int, text.split(b","))), dtype=np.int64) * 1000
    if _ALL_THOUSANDTHS.fullmatch(text):
        return np.array(list(map(int, text.replace(b".", b"").split(b","))), dtype=np.int64)
    if _ALL_PLAIN.fullmatch(text):
        parts = [value.partition(b".") for value in values]
        return np.array([int(whole + decimals.ljust(3, b"0")) for whole, _, decimals in parts], dtype=np.int64)
    return None
