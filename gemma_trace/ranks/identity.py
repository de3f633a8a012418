"""Which rank of its job a trace is: by its header, else by the name of its file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_trace.foreign import NONE
from gemma_trace.trace.header import MOST_RANKS, DistributedInfo

_IN_NAME: Final = re.compile(r"rank[-_. ]?(\d{1,7})(?!\d)", re.IGNORECASE)


@dataclass(frozen=True)
class RankIdentity:
    """Which rank a trace is.

    Attributes:
        rank: its global rank; `NONE` where nothing tells.
        world_size: how many ranks the job has; `NONE` where nothing tells.
        source: what told: "distributedInfo" or "file name"; "" where nothing did.
    """

    rank: int
    world_size: int
    source: str


def identity_of(distributed: DistributedInfo | None, path: Path) -> RankIdentity:
    """Which rank a trace file is.

    Args:
        distributed: what its header says.

    >>> identity_of(None, Path("traces/rank3.17.pt.trace.json.gz"))
    RankIdentity(rank=3, world_size=-1, source='file name')
    """
    world_size = distributed.world_size if distributed else NONE
    if distributed and distributed.rank != NONE:
        return RankIdentity(distributed.rank, world_size, "distributedInfo")
    named = rank_in_name(path)
    return RankIdentity(named, world_size, "file name" if named != NONE else "")


def rank_in_name(path: Path) -> int:
    """The rank that a file's name says, else that its folder's name does; `NONE` where neither does."""
    named = _rank_in(path.name)
    return named if named != NONE else _rank_in(path.parent.name)


def folder_of_job(path: Path) -> Path:
    """The folder that a job's traces lie in: the file's own, or the one above where each rank has a folder."""
    has_folder = _rank_in(path.name) == NONE and _rank_in(path.parent.name) != NONE
    return path.parent.parent if has_folder else path.parent


def _rank_in(name: str) -> int:
    match = _IN_NAME.search(name)
    rank = int(match[1]) if match else NONE
    return rank if rank < MOST_RANKS else NONE
