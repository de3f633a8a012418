"""How unequal the all-to-alls of a job are: experts or embedding tables that some ranks have more of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.kinds import COMMS, Comm
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places


@dataclass(frozen=True)
class AllToAllLine:
    """How unequal the all-to-alls of a group are.

    Attributes:
        group, description: the process group.
        ranks: how many ranks take part.
        count: how many all-to-alls each has, at most.
        mean_bytes: what a rank sends in all of them, the mean over the ranks; None where the sizes aren't known.
        most_bytes: the same of the rank that sends most.
        most_bytes_rank: which one that is; `NONE` where all send the same.
        bytes_imbalance: `most_bytes / mean_bytes`.
        mean_ns: how long a rank is in all of them, the mean over the ranks.
        most_ns: the same of the rank that is in them longest, since it waits for the others.
        least_ns_rank: the rank that is in them for the shortest time, which the others wait for; `NONE` where all take
            the same time.
        time_imbalance: `most_ns / mean_ns`; None where that is 0.
        split_imbalance: what one receiver gets at most over what one gets at least, the median over the parts that
            list them; None where none does, or one gets nothing.
    """

    group: str
    description: str
    ranks: int
    count: int
    mean_bytes: float | None
    most_bytes: int | None
    most_bytes_rank: int
    bytes_imbalance: float | None
    mean_ns: float
    most_ns: int
    least_ns_rank: int
    time_imbalance: float | None
    split_imbalance: float | None


def all_to_all_lines(calls: Calls, ranks: Sequence[RankSummary]) -> list[AllToAllLine]:
    """One line per group that has all-to-alls, by the time in them."""
    chosen = np.flatnonzero(calls.kind == COMMS.index(Comm.ALL_TO_ALL))
    lines = [_line(calls, chosen[rows], ranks) for _, rows in Places(calls.group[chosen])]
    return sorted(lines, key=lambda line: -line.mean_ns * line.ranks)


def _line(calls: Calls, rows: IntArray, ranks: Sequence[RankSummary]) -> AllToAllLine:
    group = calls.groups[calls.group[rows[0]]]
    places, inverse = np.unique(calls.rank[rows], return_inverse=True)
    lengths, sizes = (np.zeros(len(places), dtype=np.int64) for _ in range(2))
    np.add.at(lengths, inverse, calls.dur_ns[rows])
    np.add.at(sizes, inverse, calls.size_bytes[rows])
    known = bool((calls.size_bytes[rows] >= 0).all())
    mean_bytes, mean_ns = float(sizes.mean()), float(lengths.mean())
    return AllToAllLine(
        group=group.name,
        description=group.description,
        ranks=len(places),
        count=int(np.bincount(inverse).max()),
        mean_bytes=mean_bytes if known else None,
        most_bytes=int(sizes.max()) if known else None,
        most_bytes_rank=_the_one(sizes, int(sizes.max()), places, ranks) if known else NONE,
        bytes_imbalance=float(sizes.max()) / mean_bytes if known and mean_bytes else None,
        mean_ns=mean_ns,
        most_ns=int(lengths.max()),
        least_ns_rank=_the_one(lengths, int(lengths.min()), places, ranks),
        time_imbalance=float(lengths.max()) / mean_ns if mean_ns else None,
        split_imbalance=_split_imbalance(calls, rows, ranks),
    )


def _the_one(values: IntArray, value: int, places: IntArray, ranks: Sequence[RankSummary]) -> int:
    """The global rank that alone has this value; of several the first, `NONE` where all have it."""
    having = np.flatnonzero(values == value)
    return NONE if len(having) == len(values) else ranks[int(places[having[0]])].rank


def _split_imbalance(calls: Calls, rows: IntArray, ranks: Sequence[RankSummary]) -> float | None:
    ratios: list[float] = []
    for number, its_rows in Places(calls.rank[rows]):
        wanted = calls.place[rows[its_rows]]
        splits = ranks[number].collectives.splits
        splits = splits[np.isin(splits[:, 0], wanted) & (splits[:, 1] > 0)]
        ratios += (splits[:, 2] / splits[:, 1]).tolist()
    return float(np.median(ratios)) if ratios else None
