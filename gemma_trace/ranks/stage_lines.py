"""The stages of a job over its ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.ranks.grid import Grid


@dataclass(frozen=True)
class RankStageLine:
    """One stage over the ranks. Times are per request, the mean over the requests of a rank.

    Attributes:
        stage: its name.
        ranks: how many ranks have it.
        mean_ns, min_ns, max_ns: over the ranks.
        min_rank, max_rank: the global ranks of the least and of the most.
        own_mean_ns, own_max_ns: the same without the wait for other ranks.
        own_max_rank: the global rank of the most.
        communication_ns: exposed communication, the mean over the ranks.
        wait_ns: the part of it that is wait for other ranks.
        share: of the request's wall time, from 0 to 1, the mean over the ranks; None where that is 0.
    """

    stage: str
    ranks: int
    mean_ns: float
    min_ns: float
    max_ns: float
    min_rank: int
    max_rank: int
    own_mean_ns: float
    own_max_ns: float
    own_max_rank: int
    communication_ns: float
    wait_ns: float
    share: float | None


def rank_stage_lines(grid: Grid, numbers: Sequence[int]) -> Iterator[RankStageLine]:
    """One line per stage.

    Args:
        numbers: the global rank of each place.
    """
    requests = np.maximum((grid.wall_ns > 0).sum(axis=1), 1)
    wall = grid.wall_ns.sum(axis=1) / requests
    for place, stage in enumerate(grid.stages):
        having = np.flatnonzero(grid.is_there[:, :, place].any(axis=1))
        time, own_ns, communication, wait = (
            values[having, :, place].sum(axis=1) / requests[having]
            for values in (grid.time_ns, grid.own_ns, grid.communication_ns, grid.wait_ns)
        )
        if not len(having):
            continue
        whole = float(wall[having].sum())
        yield RankStageLine(
            stage=stage,
            ranks=len(having),
            mean_ns=float(time.mean()),
            min_ns=float(time.min()),
            max_ns=float(time.max()),
            min_rank=numbers[int(having[np.argmin(time)])],
            max_rank=numbers[int(having[np.argmax(time)])],
            own_mean_ns=float(own_ns.mean()),
            own_max_ns=float(own_ns.max()),
            own_max_rank=numbers[int(having[np.argmax(own_ns)])],
            communication_ns=float(communication.mean()),
            wait_ns=float(wait.mean()),
            share=float(time.sum()) / whole if whole else None,
        )
