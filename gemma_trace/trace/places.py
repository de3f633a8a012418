"""Which rows of a column have which value: looked up at once for all values, not searched for once a value."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.closed_pieces import stable_order
from gemma_trace.trace.events import BoolArray, Codes, IntArray


class Places:
    """The places of each value of a column, ascending.

    >>> list(Places(np.array([7, 3, 7])))
    [(3, array([1])), (7, array([0, 2]))]
    """

    def __init__(self, values: Codes) -> None:
        self._order = stable_order(values)
        ascending = values[self._order]
        self._starts = np.flatnonzero(np.append(True, np.diff(ascending) != 0)[: len(values)])
        self._values = ascending[self._starts].astype(np.int64)
        self._stops = np.append(self._starts[1:], len(values))

    def __iter__(self) -> Iterator[tuple[int, IntArray]]:
        for value, start, stop in zip(self._values.tolist(), self._starts.tolist(), self._stops.tolist(), strict=False):
            yield value, self._order[start:stop]

    def of(self, value: int) -> IntArray:
        """int64, the places that have this value; none if no place has it."""
        place = int(np.searchsorted(self._values, value))
        if place == len(self._values) or self._values[place] != value:
            return self._order[:0]
        return self._order[self._starts[place] : self._stops[place]]


def distinct(values: npt.ArrayLike) -> IntArray:
    """The distinct values of a column of integers, ascending: `np.unique`, which would import `numpy.ma` first.

    >>> distinct([7, 3, 7]).tolist()
    [3, 7]
    """
    ascending = np.sort(np.asarray(values), axis=None)
    values_once: IntArray = ascending[np.append(True, ascending[1:] != ascending[:-1])[: len(ascending)]]
    return values_once


def is_among(values: Codes, wanted: npt.ArrayLike) -> BoolArray:
    """bool, which values of a column of integers are among others: `np.isin`, which would import `numpy.ma` first.

    >>> is_among(np.array([7, 3, 7]), [7, 9]).tolist()
    [True, False, True]
    """
    known = distinct(wanted)
    if not len(known):
        return np.zeros(len(values), dtype=bool)
    among: BoolArray = known[np.minimum(np.searchsorted(known, values), len(known) - 1)] == values
    return among
