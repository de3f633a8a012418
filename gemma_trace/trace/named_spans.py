"""Spans by their names."""

from __future__ import annotations

import re

import numpy as np

from gemma_trace.trace.events import BoolArray, Events, IntArray


def named(events: Events, spans: IntArray, pattern: re.Pattern[str]) -> BoolArray:
    """Which of these spans have a name that is wholly of a pattern; each name is looked at once.

    Args:
        spans: int64 [k], indices of spans.

    Returns:
        bool [k].
    """
    used, place = np.unique(events.name[spans], return_inverse=True)
    fits = [pattern.fullmatch(events.names[code]) is not None for code in used.tolist()]
    is_named: BoolArray = np.array(fits, dtype=bool)[place]
    return is_named
