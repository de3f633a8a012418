"""Which files make up a job: one trace per rank, without duplicates and without those of other jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gemma_trace.foreign import NONE
from gemma_trace.ranks.identity import RankIdentity
from gemma_trace.ranks.reading import ReadFile
from gemma_trace.ranks.summary import RankSummary


@dataclass(frozen=True)
class Members:
    """The ranks of a job, and what is amiss with their files.

    Attributes:
        ranks: one summary per rank, by rank.
        world_size: how many ranks the job has: as the traces say, else as many as there are.
        missing: the ranks that have no trace.
        duplicates: the files that are left out since another one is of the same rank.
        strangers: the files that are left out since they are of a job of another size.
        numbered: the files that nothing tells the rank of, which got the free ones in the order of their names.
        unreadable: why files can't be read, by their names.
        lost_activities: device activities of merged files that belong to no rank.
    """

    ranks: tuple[RankSummary, ...]
    world_size: int
    missing: tuple[int, ...] = ()
    duplicates: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    numbered: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    lost_activities: int = 0

    @property
    def why_none(self) -> str:
        """Why there is no rank at all."""
        if not self.unreadable:
            return "there is no trace of a rank here; check the path"
        return self.unreadable[0][1]


def members_of(files: Sequence[ReadFile]) -> Members:
    """The job that most of these files are of.

    Where two files are of one rank, the first by name is taken: of a rank that was captured twice that is the earlier.
    """
    read = [rank for file in files for rank in file.ranks]
    world_size = _world_size(read)
    strangers = [rank for rank in read if rank.identity.world_size not in (NONE, world_size)]
    members = [rank for rank in read if rank.identity.world_size in (NONE, world_size)]
    by_rank: dict[int, RankSummary] = {}
    duplicates, nameless = [], []
    for rank in members:
        if rank.rank == NONE:
            nameless.append(rank)
        elif rank.rank in by_rank:
            duplicates.append(rank.file)
        else:
            by_rank[rank.rank] = rank
    for rank in nameless:
        number = next(free for free in range(len(members) + 1) if free not in by_rank)
        by_rank[number] = replace(rank, identity=RankIdentity(number, rank.identity.world_size, ""))
    size = world_size if world_size != NONE else max(by_rank, default=-1) + 1
    return Members(
        ranks=tuple(by_rank[number] for number in sorted(by_rank)),
        world_size=size,
        missing=tuple(number for number in range(size) if number not in by_rank),
        duplicates=tuple(duplicates),
        strangers=tuple(rank.file for rank in strangers),
        numbered=tuple(rank.file for rank in nameless) if len(members) > 1 else (),
        unreadable=tuple((file.file, file.error) for file in files if file.error),
        lost_activities=sum(file.lost_activities for file in files),
    )


def _world_size(read: Sequence[RankSummary]) -> int:
    """The size that most traces say the job has, the larger one where two are said equally often."""
    said = Counter(rank.identity.world_size for rank in read if rank.identity.world_size != NONE)
    return max(said, key=lambda size: (said[size], size), default=NONE)
