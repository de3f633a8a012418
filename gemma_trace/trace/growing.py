"""What columns grow from: numpy arrays that are extended in place, and tables that give values their codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import NONE, id_of

_ENTRY_BYTES: Final = 100

LARGE_BYTES: Final = 32 << 20
"""From this size on, malloc takes a block from the system for itself and moves it by its pages.

M_MMAP_THRESHOLD of glibc is at most this much on 64-bit machines: man 3 mallopt.
"""


class Interner(dict[Any, int]):
    """Values → codes, in order of first sight.

    Attributes:
        held_bytes: what the values take, some.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held_bytes = 0

    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self)
        self.held_bytes += sys.getsizeof(value) + _ENTRY_BYTES
        return code


class TextInterner(Interner):
    """Texts → codes; no text at all is `NONE`."""

    def __init__(self) -> None:
        super().__init__()
        self[b""] = NONE

    def __missing__(self, value: bytes) -> int:
        self.held_bytes += sys.getsizeof(value) + _ENTRY_BYTES
        code = self[value] = len(self) - 1
        return code

    @property
    def known(self) -> tuple[bytes, ...]:
        """The texts, by code."""
        return tuple(self)[1:]


class TrackInterner(dict[tuple[Any, Any], int]):
    """Process and thread → codes. An id is the same as a number and as text: 7, 7.0 and "7" are one thread.

    Attributes:
        known: the tracks, by code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[int | str, int | str], int] = {}

    def __missing__(self, ids: tuple[Any, Any]) -> int:
        code = self[ids] = self.known.setdefault((id_of(ids[0]), id_of(ids[1])), len(self.known))
        return code


class GrowingColumn:
    """A column that grows in place, so that a large trace's columns are in memory once and not as parts and whole."""

    def __init__(self, dtype: type[np.generic]) -> None:
        self._values = np.empty(0, dtype=dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def extend(self, values: npt.ArrayLike) -> None:
        """Append values."""
        added = np.asarray(values, dtype=self._values.dtype)
        self.grow(len(added))[:] = added

    def grow(self, count: int) -> npt.NDArray[Any]:
        """Append rows, to be filled before the column grows again."""
        end = self._used + count
        if end > len(self._values):
            if self._used:
                self._values.resize(max(end, self._next_length()), refcheck=False)
            else:
                self._values = np.empty(end, dtype=self._values.dtype)  # often all that comes, where a block is read
        rows = self._values[self._used : end]
        self._used = end
        return rows

    def _next_length(self) -> int:
        """How many rows to make room for next.

        numpy writes zeros into new rows, so that they are in memory before they are used: a large column grows by an
        eighth. That copies nothing, since the system moves the pages of what is large.
        """
        length = len(self._values)
        return length * 2 if self._values.nbytes < LARGE_BYTES else length + length // 8

    def widen(self, dtype: type[np.generic]) -> None:
        """Have the values in another type from now on, which holds them all."""
        self._values = self._values.astype(dtype)

    def take(self) -> npt.NDArray[Any]:
        """The column; it can't grow any more."""
        if self._used < len(self._values):
            self._values.resize(self._used, refcheck=False)
        return self._values


class OptionalColumn:
    """A column of integers of which a row may have no value, `NONE`. It takes no memory while no row has one.

    Args:
        widest: the type that holds all values that may come. They are int32 until one comes that doesn't fit.
    """

    def __init__(self, widest: type[np.signedinteger[Any]]) -> None:
        self._dtype: type[np.signedinteger[Any]] = np.int32
        self._widest = widest
        self._empty = 0
        self._column: GrowingColumn | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no row has a value."""
        return self._column is None

    def extend(self, count: int, place: Sequence[int] | npt.NDArray[np.int64] | slice, values: npt.ArrayLike) -> None:
        """Append rows.

        Args:
            count: how many.
            place: which of them may have a value.
            values: of those; one may be `NONE` all the same.
        """
        added = np.asarray(values)
        if not _fits(added, self._dtype):
            self._widen()
        if self._column is None:
            if not (added != NONE).any():
                self._empty += count
                return
            self._column = GrowingColumn(self._dtype)
            self._column.grow(self._empty).fill(NONE)
        rows = self._column.grow(count)
        if len(added) < count:
            rows.fill(NONE)
            if len(added):
                rows[place] = added
        elif count:
            rows[:] = added

    def _widen(self) -> None:
        self._dtype = self._widest
        if self._column is not None:
            self._column.widen(self._widest)

    def take(self) -> npt.NDArray[Any]:
        """The column; it can't grow any more. One without values is `NONE` once, repeated and not to be written to."""
        if self._column is not None:
            return self._column.take()
        return np.broadcast_to(np.asarray(NONE, dtype=self._dtype), self._empty)


def _fits(values: npt.NDArray[Any], dtype: type[np.signedinteger[Any]]) -> bool:
    """Whether a type of integers holds all of these."""
    if values.dtype.itemsize <= np.dtype(dtype).itemsize or not len(values):
        return True
    bounds = np.iinfo(dtype)
    return bool(bounds.min <= values.min() and values.max() <= bounds.max)


def rows_of(
    column: npt.NDArray[Any], order: npt.NDArray[np.int64], out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """All rows of a column in another order; one that is a single value, repeated, stays that.

    Args:
        out: takes them, where it is given: memory that has been written to costs a third of what new memory does.
    """
    if column.strides == (0,):
        return column
    # "clip" changes nothing, since all places are rows; with "raise" numpy would fill memory of its own first.
    return np.take(column, order, out=out, mode="clip")
