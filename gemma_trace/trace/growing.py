"""What columns grow from: numpy arrays that are extended in place, and tables that give values their codes."""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import id_of

_ENTRY_BYTES: Final = 100


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
        self._values = np.empty(1024, dtype=dtype)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def extend(self, values: npt.ArrayLike) -> None:
        """Append values."""
        added = np.asarray(values, dtype=self._values.dtype)
        end = self._used + len(added)
        if end > len(self._values):
            self._values.resize(max(end, 2 * len(self._values)), refcheck=False)
        self._values[self._used : end] = added
        self._used = end

    def take(self) -> npt.NDArray[Any]:
        """The column; it can't grow any more."""
        self._values.resize(self._used, refcheck=False)
        return self._values
