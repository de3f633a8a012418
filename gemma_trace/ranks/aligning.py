"""Two ranks' sequences of collectives that aren't the same: one has calls that the other hasn't.

Ranks leave a collective together, so their ends differ by what their clocks do, and by the same for all of them. Of
all pairs that could be the same collective, the real ones are those whose differences lie close together.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places

MOST_PAIRS: Final = 250_000
"""So many pairs of calls are looked at; of longer sequences those of the nearest places."""

NEAR: Final = 16
"""How far apart the places are that are looked at then."""

SHARE_OF_GAP: Final = 4
"""Ends may differ by a quarter of the shortest time between two calls of a kind, so that a call fits just one."""

MOST_APART_NS: Final = 1_000_000_000


def by_their_ends(signature: IntArray, end_ns: IntArray, others: IntArray, others_end_ns: IntArray) -> IntArray:
    """The place of each call in the other rank's sequence; `NONE` where it isn't in it.

    Args:
        signature, others: int64, equal where two calls may be the same collective.
        end_ns, others_end_ns: int64, when each was over, on either rank's clock.
    """
    places = np.full(len(signature), NONE)
    others_rows = Places(others)
    pairs = [(rows, others_rows.of(value)) for value, rows in Places(signature) if len(others_rows.of(value))]
    if not pairs:
        return places
    apart = _most_apart(pairs, end_ns, others_end_ns)
    offset = _common_difference([_differences(end_ns[rows], others_end_ns[other]) for rows, other in pairs], apart)
    for rows, other in pairs:
        # The nearest of theirs, in the order of their ends.
        order = np.argsort(others_end_ns[other], kind="stable")
        ascending = others_end_ns[other][order]
        wanted = end_ns[rows] - offset
        after = np.clip(np.searchsorted(ascending, wanted), 1, max(len(ascending) - 1, 1))
        left, right = after - 1, np.minimum(after, len(ascending) - 1)
        nearest = np.where(wanted - ascending[left] <= ascending[right] - wanted, left, right)
        fits = np.abs(ascending[nearest] - wanted) <= apart
        places[rows[fits]] = other[order[nearest[fits]]]
    return places


def _most_apart(pairs: list[tuple[IntArray, IntArray]], end_ns: IntArray, others_end_ns: IntArray) -> int:
    gaps = [
        np.diff(np.sort(ends))
        for rows, other in pairs
        for ends in (end_ns[rows], others_end_ns[other])
        if len(ends) > 1
    ]
    shortest = min((int(gap.min()) for gap in gaps), default=SHARE_OF_GAP * MOST_APART_NS)
    return min(max(shortest // SHARE_OF_GAP, 1), MOST_APART_NS)


def _differences(ends: IntArray, others: IntArray) -> IntArray:
    """All differences between the ends of calls of a kind; of many those of near places."""
    if len(ends) * len(others) <= MOST_PAIRS:
        return np.subtract.outer(ends, others).reshape(-1)
    near = np.arange(-NEAR, NEAR + 1)
    place = np.arange(len(ends))[:, None] + near
    inside = (place >= 0) & (place < len(others))
    differences: IntArray = (ends[:, None] - others[np.clip(place, 0, len(others) - 1)])[inside]
    return differences


def _common_difference(differences: list[IntArray], apart: int) -> int:
    """The difference around which most of them lie; of several the least."""
    ascending = np.sort(np.concatenate(differences))
    count = np.searchsorted(ascending, ascending + apart, side="right") - np.arange(len(ascending))
    best = np.flatnonzero(count == count.max())
    first = int(best[np.argmin(np.abs(ascending[best]))])
    return int(ascending[first + (int(count[first]) - 1) // 2])
