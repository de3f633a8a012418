"""The collectives of all ranks in one table, matched with each other.

Two ranks' collectives are the same one where their group and its sequence number are; where a trace has no numbers, by
their order in the group. What doesn't fit together in kind, type or size is not matched but counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.collective_names import Group
from gemma_trace.ranks.matching import matched
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.trace.events import BoolArray, IntArray


@dataclass(frozen=True)
class Calls:
    """Every rank's part in every collective. All columns have the length n, by rank and in it by start.

    Attributes:
        rank: int64, the place of the rank among the summaries.
        place: int64, the place in the rank's `collectives`.
        kind: int64, codes into `KINDS`.
        dtype: int64, codes into `dtypes`.
        group: int64, codes into `groups`.
        size_bytes: int64, as nccl-tests counts it; `NONE` where the trace doesn't tell.
        start_ns: int64, in ns since 1970 where the traces tell, on the rank's own clock.
        dur_ns: int64.
        match: int64, which collective it is a part of; `NONE` where no other rank's part was found.
        parts: int64 [m], how many ranks' parts each of the matched collectives has.
        mismatched: how many calls stand where another rank has a collective of another kind, type or size.
    """

    rank: IntArray
    place: IntArray
    kind: IntArray
    dtype: IntArray
    group: IntArray
    size_bytes: IntArray
    start_ns: IntArray
    dur_ns: IntArray
    match: IntArray
    parts: IntArray
    mismatched: int
    dtypes: tuple[str, ...]
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        return len(self.rank)

    @property
    def end_ns(self) -> IntArray:
        """int64 [n], when each was over, on the rank's own clock."""
        return self.start_ns + self.dur_ns

    @property
    def is_matched(self) -> BoolArray:
        """bool [n], which calls have a part of another rank beside them."""
        is_matched: BoolArray = self.match != NONE
        return is_matched


def calls_of(ranks: Sequence[RankSummary]) -> Calls:
    """All calls of a job's ranks, matched."""
    columns = _table(ranks)
    listed = [group for rank in ranks for group in rank.collectives.groups]
    group, keys = _codes([(group.name, group.ranks, group.size) for group in listed])
    dtype, dtypes = _codes([name for rank in ranks for name in rank.collectives.dtypes])
    columns["group"] = np.array(group, dtype=np.int64)[columns["group"]]
    columns["dtype"] = np.array(dtype, dtype=np.int64)[columns["dtype"]]
    numbers = np.array([rank.rank for rank in ranks], dtype=np.int64)
    match, mismatched = matched(columns, numbers)
    columns = {name: columns[name] for name in columns if name not in ("seq", "peer")}
    return Calls(
        **columns,
        match=match,
        parts=np.bincount(match[match != NONE]),
        mismatched=mismatched,
        dtypes=tuple(dtypes),
        groups=tuple(listed[group.index(code)] for code in range(len(keys))),
    )


def _table(ranks: Sequence[RankSummary]) -> dict[str, IntArray]:
    """The columns of all ranks one behind the other; codes of groups and types count on from rank to rank."""
    groups = dtypes = 0
    parts: dict[str, list[IntArray]] = {}
    for number, rank in enumerate(ranks):
        collectives = rank.collectives
        columns = {
            "rank": np.full(len(collectives), number),
            "place": np.arange(len(collectives)),
            "kind": collectives.kind.astype(np.int64),
            "dtype": collectives.dtype.astype(np.int64) + dtypes,
            "group": collectives.group.astype(np.int64) + groups,
            "size_bytes": collectives.size_bytes,
            "start_ns": collectives.start_ns + rank.base_ns,
            "dur_ns": collectives.dur_ns,
            "seq": collectives.seq,
            "peer": collectives.peer.astype(np.int64),
        }
        for name, values in columns.items():
            parts.setdefault(name, []).append(values)
        groups, dtypes = groups + len(collectives.groups), dtypes + len(collectives.dtypes)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _codes(values: Sequence[Hashable]) -> tuple[list[int], list[Any]]:
    """A code per value, and the value of each code."""
    known: dict[Hashable, int] = {}
    codes = [known.setdefault(value, len(known)) for value in values]
    return codes, list(known)
