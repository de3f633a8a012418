"""Ranks that the others wait for: which, in which stage, how much later, and why.

A rank's own time in a stage is its time without the wait for others. How much longer that is than the median of the
other ranks' in the same request is its excess. A rank is a repeated straggler in a stage where the median of its
excesses stands out from what the other ranks scatter by, see `scatter.py`; a request in which one stands out by itself
is a random one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.ranks.grid import Array3, Grid
from gemma_trace.ranks.scatter import Scatters
from gemma_trace.trace.events import BoolArray, IntArray

MIN_SHARE_OF_REQUEST: Final = 0.002
"""An excess below this share of the request's wall time is not worth naming."""

MIN_SHARE_OF_STAGE: Final = 0.01
"""Nor is one below this share of the stage's own time."""


class Cause(StrEnum):
    """Which part of a stage's own time is longer."""

    COMPUTE = "compute late"
    LAUNCH = "launch late"
    NETWORK = "network slow"


class Pattern(StrEnum):
    """Whether a rank is late again and again."""

    REPEATED = "repeated"
    RANDOM = "random"


@dataclass(frozen=True)
class Straggler:
    """A rank that is late in a stage.

    Attributes:
        rank: the place of the rank among the summaries.
        stage: the stage's name.
        pattern: whether it is late in the typical request, or in single ones.
        requests: in how many requests its excess stands out.
        of_requests: in how many requests it has the stage.
        first_request: the label of the first of them.
        excess_ns: the median of its excess over the median of the other ranks; of a random one over those requests.
        cause: the part of its own time that most of the excess is in.
        compute_ns, launch_ns, network_ns: the parts of the excess.
        threshold_ns: what an excess has to exceed to stand out.
        wall_ns: the median length of these requests, on the rank where it is longest.
        ceiling_ns: what a request would take at least if this rank were as fast as the median in this stage: another
            rank may be nearly as slow.
    """

    rank: int
    stage: str
    pattern: Pattern
    requests: int
    of_requests: int
    first_request: str
    excess_ns: int
    cause: Cause
    compute_ns: int
    launch_ns: int
    network_ns: int
    threshold_ns: int
    wall_ns: int
    ceiling_ns: int

    @property
    def gain_ns(self) -> int:
        """What a request would gain at most."""
        return self.wall_ns - self.ceiling_ns


def stragglers_of(grid: Grid) -> list[Straggler]:
    """The stragglers of a job, those with the largest gain first."""
    stragglers = [each for stage in range(len(grid.stages)) for each in _of_stage(grid, stage)]
    return sorted(stragglers, key=lambda each: (-each.gain_ns * each.requests, -each.excess_ns, each.rank))


def over_others(values: Array3, there: BoolArray) -> npt.NDArray[np.int64]:
    """int64 [ranks, requests], by how much each exceeds the median of the other ranks that are there.

    Args:
        values, there: [ranks, requests].

    Returns:
        0 where a rank isn't there, or is alone.
    """
    excess = np.zeros(values.shape, dtype=np.int64)
    for request in range(values.shape[1]):
        present = np.flatnonzero(there[:, request])
        if len(present) > 1:
            excess[present, request] = values[present, request] - _medians_of_others(values[present, request])
    return excess


def _medians_of_others(values: IntArray) -> IntArray:
    """int64 [n], of each value the median of the others, rounded down.

    >>> _medians_of_others(np.array([1, 2, 9])).tolist()
    [5, 5, 1]
    """
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values))
    low, high = (len(values) - 2) // 2, (len(values) - 1) // 2
    medians: IntArray = (ascending[low + (low >= place)] + ascending[high + (high >= place)]) // 2
    return medians


def _of_stage(grid: Grid, stage: int) -> Iterator[Straggler]:
    there = grid.is_there[:, :, stage]
    if (there.sum(axis=0) < 2).all():
        return
    own_ns = grid.own_ns[:, :, stage]
    excess = over_others(own_ns, there)
    wall = float(np.median(grid.wall_ns.max(axis=0)))
    floor = max(MIN_SHARE_OF_REQUEST * wall, MIN_SHARE_OF_STAGE * float(np.median(own_ns[there])))
    stages, ranks = len(grid.stages), int(there.any(axis=1).sum())
    scatters = Scatters(own_ns, there)
    out = np.zeros(there.shape, dtype=bool)
    singles: dict[int, float] = {}
    for rank in np.flatnonzero(there.any(axis=1)).tolist():
        requests = np.flatnonzero(there[rank])
        among = scatters.of(rank, excess[rank, requests])
        typical = max(floor, among.typical_ns(stages * ranks))
        if np.median(excess[rank, requests]) > typical and among.tells_typical:
            pattern = Pattern.REPEATED if len(requests) > 1 else Pattern.RANDOM
            yield _straggler(grid, stage, rank, requests, excess, pattern, typical)
        elif among.tells_single:
            singles[rank] = max(floor, among.single_ns(stages * int(there.sum())))
            out[rank, requests] = excess[rank, requests] > singles[rank]
    for rank in np.flatnonzero(out.any(axis=1)).tolist():
        yield _straggler(grid, stage, rank, np.flatnonzero(out[rank]), excess, Pattern.RANDOM, singles[rank])


def _straggler(
    grid: Grid, stage: int, rank: int, requests: IntArray, excess: IntArray, pattern: Pattern, threshold: float
) -> Straggler:
    there = grid.is_there[:, :, stage]
    parts = [
        int(np.median(over_others(part[:, :, stage], there)[rank, requests]))
        for part in (grid.compute_ns, grid.launch_ns, grid.network_ns)
    ]
    own_ns = np.where(there, grid.own_ns[:, :, stage], 0)
    others = np.delete(own_ns, rank, axis=0)[:, requests].max(axis=0)
    gain = np.clip(np.minimum(own_ns[rank, requests] - others, excess[rank, requests]), 0, None)
    wall = grid.wall_ns[:, requests].max(axis=0)
    middle = int(np.argsort(wall, kind="stable")[(len(wall) - 1) // 2])
    wall_ns = int(wall[middle])
    return Straggler(
        rank=rank,
        stage=grid.stages[stage],
        pattern=pattern,
        requests=int((excess[rank, requests] > threshold).sum()),
        of_requests=int(there[rank].sum()),
        first_request=grid.requests[int(requests[np.argmax(excess[rank, requests] > threshold)])],
        excess_ns=int(np.median(excess[rank, requests])),
        cause=tuple(Cause)[int(np.argmax(parts))],
        compute_ns=parts[0],
        launch_ns=parts[1],
        network_ns=parts[2],
        threshold_ns=int(threshold),
        wall_ns=wall_ns,
        ceiling_ns=wall_ns - int(np.median(gain)),
    )
