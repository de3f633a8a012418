"""Each stage of each request over the ranks: the spread, the slowest rank, and why it is that one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.ranks.grid import Grid
from gemma_trace.ranks.stragglers import Cause, over_others


@dataclass(frozen=True)
class RequestStageLine:
    """One stage of one request. Times are of the ranks that have it; a rank's own time is without wait for others.

    Attributes:
        request: the request's label.
        stage: the stage's name.
        ranks: how many ranks have it.
        median_ns: the median of their times.
        own_min_ns, own_median_ns, own_max_ns: of their own times.
        spread_ns: `own_max_ns - own_min_ns`.
        slowest_rank: the global rank with `own_max_ns`, the first of several.
        excess_ns: its own time over the median of the other ranks'; 0 where it is alone.
        cause: the part of it in which it exceeds the others most; "" where it exceeds them in none.
        wall_ns: the length of the request, on the rank where it is longest.
        ceiling_ns: what the request would take at least if that rank were as fast as the median in this stage: another
            rank may be nearly as slow.
    """

    request: str
    stage: str
    ranks: int
    median_ns: float
    own_min_ns: int
    own_median_ns: float
    own_max_ns: int
    spread_ns: int
    slowest_rank: int
    excess_ns: int
    cause: str
    wall_ns: int
    ceiling_ns: int


def request_stage_lines(grid: Grid, numbers: Sequence[int]) -> Iterator[RequestStageLine]:
    """One line per request and stage, by request.

    Args:
        numbers: the global rank of each place.
    """
    places = range(len(grid.stages))
    there = [grid.is_there[:, :, stage] for stage in places]
    excess = [over_others(grid.own_ns[:, :, stage], there[stage]) for stage in places]
    parts = [
        [over_others(part[:, :, stage], there[stage]) for part in (grid.compute_ns, grid.launch_ns, grid.network_ns)]
        for stage in places
    ]
    for request, label in enumerate(grid.requests):
        wall_ns = int(grid.wall_ns[:, request].max())
        for stage in places:
            present = np.flatnonzero(there[stage][:, request])
            if not len(present):
                continue
            own_ns = grid.own_ns[present, request, stage]
            place = int(np.argmax(own_ns))
            slowest, most = int(present[place]), int(own_ns[place])
            over = int(excess[stage][slowest, request])
            next_ns = int(np.delete(own_ns, place).max(initial=0)) if len(present) > 1 else most
            each = [int(part[slowest, request]) for part in parts[stage]]
            yield RequestStageLine(
                request=label,
                stage=grid.stages[stage],
                ranks=len(present),
                median_ns=float(np.median(grid.time_ns[present, request, stage])),
                own_min_ns=int(own_ns.min()),
                own_median_ns=float(np.median(own_ns)),
                own_max_ns=most,
                spread_ns=most - int(own_ns.min()),
                slowest_rank=numbers[slowest],
                excess_ns=over,
                cause=tuple(Cause)[int(np.argmax(each))].value if max(each) > 0 else "",
                wall_ns=wall_ns,
                ceiling_ns=wall_ns - min(over, most - next_ns),
            )
