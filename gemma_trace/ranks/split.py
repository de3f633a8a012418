"""A trace into which the ranks of a job were merged → one trace per rank.

Its processes are named after their ranks ("rank 3 python"). The host's spans belong to the rank of their process,
device activities to that of the process which launched them: several ranks may draw theirs on the same tracks.
"""

from __future__ import annotations

import copy
import re
from typing import Final

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.trace.events import BoolArray
from gemma_trace.trace.header import DistributedInfo
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

_RANK: Final = re.compile(r"\brank[-_ #:]*(\d{1,7})(?!\d)", re.IGNORECASE)


def ranks_in(trace: Trace) -> dict[int, list[str]]:
    """The ids of the processes of each rank, by rank; empty where fewer than two ranks have named processes."""
    ranks: dict[int, list[str]] = {}
    hosts = {trace.spans.tracks[code].pid for code in distinct(trace.spans.track[trace.host]).tolist()}
    for pid in sorted(hosts):
        named = _RANK.search(f"{trace.names.processes.get(pid, '')} {trace.names.labels.get(pid, '')}")
        if named:
            ranks.setdefault(int(named[1]), []).append(pid)
    return ranks if len(ranks) > 1 else {}


def split(trace: Trace) -> tuple[list[Trace], int]:
    """The trace of each rank, and how many activities belong to none, since their launch isn't in the trace.

    Returns:
        The trace itself, and 0, where it is of one rank.
    """
    ranks = ranks_in(trace)
    if not ranks:
        return [trace], 0
    spans = trace.spans
    rank_of_pid = {pid: rank for rank, pids in ranks.items() for pid in pids}
    of_track = np.array([rank_of_pid.get(track.pid, NONE) for track in spans.tracks], dtype=np.int64)
    rank = of_track[spans.track]
    launch = trace.launch
    rank[trace.activities] = np.where(launch >= 0, rank[launch], NONE)
    world_size = trace.distributed.world_size if trace.distributed else NONE
    lost = int((rank[trace.activities] == NONE).sum())
    return [_part(trace, rank == number, number, max(world_size, len(ranks))) for number in sorted(ranks)], lost


def _part(trace: Trace, kept: BoolArray, rank: int, world_size: int) -> Trace:
    """Some of the spans of a trace as a trace of a rank."""
    part = copy.copy(trace)
    for name in [name for name in vars(part) if hasattr(type(part), name)]:  # what was derived from all spans
        del vars(part)[name]
    part.rows = np.flatnonzero(kept)
    part.spans = trace.spans.taken(part.rows)
    part.distributed = DistributedInfo(rank, world_size, "", trace.distributed.groups if trace.distributed else ())
    return part
