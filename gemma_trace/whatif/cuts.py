"""Lines of time, cut into pieces: each thread of a request is a line, and so is each device activity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemma_trace.trace.events import BoolArray, IntArray


@dataclass(frozen=True)
class Boundaries:
    """Where the lines are cut, by line and time. All columns have the length b.

    Attributes:
        line: int64.
        at_ns: int64, from the request's start on.
        length_ns: int64, how far it is to the next boundary of the line; 0 at its last.
        is_point: bool, whether something depends on this instant.
    """

    line: IntArray
    at_ns: IntArray
    length_ns: IntArray
    is_point: BoolArray


class Cuts:
    """Collects the instants at which lines are cut; each is given a handle, by which its boundary is found later."""

    def __init__(self) -> None:
        self._parts: list[tuple[IntArray, IntArray, BoolArray]] = []
        self._count = 0

    def add(self, line: IntArray | int, at_ns: IntArray, *, is_point: bool) -> IntArray:
        """Cut a line, or one line each, at some instants; int64, their handles."""
        count = len(at_ns)
        lines = np.broadcast_to(np.asarray(line, dtype=np.int64), count)
        self._parts.append((lines, at_ns, np.full(count, is_point, dtype=bool)))
        self._count += count
        return np.arange(self._count - count, self._count)

    def done(self) -> tuple[Boundaries, IntArray]:
        """The boundaries; and int64, by handle, the place of each among them."""
        line, at, point = (np.concatenate(columns) for columns in zip(*self._parts, strict=True))
        order = np.lexsort((at, line))
        line, at, point = line[order], at[order], point[order]
        fresh = np.append(True, (np.diff(line) != 0) | (np.diff(at) != 0))
        place = np.cumsum(fresh) - 1
        of_handle = np.empty(len(order), dtype=np.int64)
        of_handle[order] = place
        kept = np.flatnonzero(fresh)
        is_point = np.logical_or.reduceat(point, kept)
        line, at = line[kept], at[kept]
        length = np.append(np.where(np.diff(line) == 0, np.diff(at), 0), 0)
        return Boundaries(line, at, length, is_point), of_handle
