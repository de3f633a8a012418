"""Cuts many spans into pieces that have nothing to do with each other, so that one can be worked on at a time.

What nests in what is decided by spans that overlap. Where a thread has nothing open, what is before and what is behind
can be nested apart, in a fraction of the memory; the result is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from gemma_trace.trace.events import Codes, IntArray

PIECE: Final = 1 << 18
"""Pieces have no more spans than this, where their thread allows it."""


def closed_pieces(ts_ns: IntArray, end_ns: IntArray, track: Codes, rows: IntArray | None = None) -> Iterator[IntArray]:
    """Places of spans, piece by piece: by track, and in a track as they are given.

    No span overlaps or touches one of its track in another piece. A piece is whole tracks, or a part of one.

    Args:
        ts_ns, end_ns: int64 [n], starts and ends; those of one track ascend by start.
        track: integer [n].
        rows: int64 [n], where in longer columns of starts and tracks the spans are.

    Yields:
        int64, places.
    """
    of_rows = track if rows is None else track[rows]
    whole = stable_order(of_rows)
    if len(whole) <= PIECE:
        if len(whole):
            yield whole
        return
    order = whole.astype(np.int32)  # half the memory; columns have fewer rows than that counts
    cuts = _cuts(order, ts_ns, end_ns, of_rows, rows)
    del whole, of_rows
    low = 0
    while low < len(order):
        place = int(np.searchsorted(cuts, low + PIECE, side="right")) - 1
        high = int(cuts[place]) if cuts[place] > low else int(cuts[place + 1])
        yield order[low:high].astype(np.int64)
        low = high


def _cuts(order: Codes, ts_ns: IntArray, end_ns: IntArray, track: Codes, rows: IntArray | None) -> IntArray:
    """int64, the places in `order` where nothing of their track is open, ascending; the last is behind all spans."""
    cuts = np.ones(len(order) + 1, dtype=bool)
    ordered = track[order]
    cuts[1:-1] = ordered[1:] != ordered[:-1]
    edges = np.flatnonzero(cuts).tolist()
    for begin, stop in pairwise(edges):
        if stop - begin <= PIECE:
            continue
        highest = np.iinfo(np.int64).min
        for low in range(begin, stop, PIECE):
            piece = order[low : min(low + PIECE, stop)]
            start = ts_ns[piece if rows is None else rows[piece]]
            reach = np.append(highest, np.maximum(start, end_ns[piece]))
            np.maximum.accumulate(reach, out=reach)
            cuts[low : low + len(piece)] |= start > reach[:-1]
            highest = reach[-1]
    return np.flatnonzero(cuts)


def stable_order(small: Codes) -> IntArray:
    """`argsort`, stable; integers of 16 bits are sorted by radix, some ten times faster than wider ones."""
    fits = len(small) == 0 or (small.min() >= -(2**15) and small.max() < 2**15)
    return np.argsort(small.astype(np.int16) if fits else small, kind="stable")
