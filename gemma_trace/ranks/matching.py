"""Which calls of different ranks are the same collective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.aligning import by_their_ends
from gemma_trace.ranks.kinds import COMMS, PAIRWISE, Comm
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import Places, distinct

_PAIRWISE: Final = np.array([kind in PAIRWISE for kind in COMMS])
_SEND: Final = COMMS.index(Comm.SEND)
_UNEQUAL: Final = np.array([kind in (Comm.ALL_TO_ALL, Comm.GATHER, Comm.SCATTER) for kind in COMMS])
"""What is of another size on each rank."""

_BY_NUMBER, _BY_ORDER, _BY_PEER = range(3)


def matched(columns: Mapping[str, IntArray], numbers: IntArray) -> tuple[IntArray, int]:
    """Match the calls of all ranks.

    Args:
        columns: int64 [n] each, by rank and start: rank, kind, dtype, group, size_bytes, start_ns, dur_ns, seq, peer.
        numbers: int64, the global rank of each place that `rank` names.

    Returns:
        int64 [n], which collective each call is a part of, numbered from 0, `NONE` where no other rank has a part of
        it; and how many calls stand where another rank's is of another kind, type or size.
    """
    rank, kind, group = columns["rank"], columns["kind"], columns["group"]
    pairwise, numbered = _PAIRWISE[kind], columns["seq"] != NONE
    way = np.where(pairwise, _BY_PEER, np.where(numbered, _BY_NUMBER, _BY_ORDER))
    key = [way, group, *(np.full(len(rank), NONE) for _ in range(3))]
    _key_pairs(key, columns, numbers, np.flatnonzero(pairwise))
    by_number = np.flatnonzero(way == _BY_NUMBER)
    key[2][by_number] = columns["seq"][by_number]
    key[3][by_number] = _nth(joined(rank[by_number], group[by_number], columns["seq"][by_number]))
    known = np.ones(len(rank), dtype=bool)
    mismatched = 0
    for _, calls in Places(np.where(way == _BY_ORDER, group, NONE)):
        if way[calls[0]] == _BY_ORDER:
            order = _aligned(columns, calls)
            key[2][calls], known[calls] = order, order != NONE
            mismatched += int((order == NONE).sum())
    known &= ~pairwise | (columns["peer"] != NONE)
    code = joined(*key)
    odd = _odd_ones(code, columns, known)
    return _with_company(code, rank, known & ~odd), mismatched + int(odd.sum())


def _key_pairs(key: Sequence[IntArray], columns: Mapping[str, IntArray], numbers: IntArray, calls: IntArray) -> None:
    """A send is the receive of the other rank that has the same place among those of its direction."""
    rank, peer = numbers[columns["rank"][calls]], columns["peer"][calls]
    sends = columns["kind"][calls] == _SEND
    source, target = np.where(sends, rank, peer), np.where(sends, peer, rank)
    key[2][calls], key[3][calls] = source, target
    key[4][calls] = _nth(joined(columns["rank"][calls], columns["group"][calls], source, target))


def joined(*columns: IntArray) -> IntArray:
    """int64 [n], equal where all columns are."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        code = np.unique(code * max(len(values), 1) + inverse, return_inverse=True)[1]
    return code


def _nth(code: IntArray) -> IntArray:
    """int64 [n], how many before each have its code."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(code)])
    nth = np.empty(len(code), dtype=np.int64)
    nth[order] = np.arange(len(code)) - np.repeat(first, np.diff(np.append(first, len(code))))
    return nth


def _aligned(columns: Mapping[str, IntArray], calls: IntArray) -> IntArray:
    """The place of each of a group's calls in the sequence of the rank that has most of them; `NONE` where it has none.

    Where a rank has the same sequence, by its order; else by when each is over, see `by_their_ends`.

    Args:
        calls: int64, their indices, by rank and start.
    """
    kind = columns["kind"][calls]
    size = np.where(_UNEQUAL[kind], NONE, columns["size_bytes"][calls])
    signature = joined(kind, columns["dtype"][calls], size)
    end = columns["start_ns"][calls] + columns["dur_ns"][calls]
    by_rank = [rows for _, rows in Places(columns["rank"][calls])]
    longest = max(by_rank, key=len)
    order = np.empty(len(calls), dtype=np.int64)
    for rows in by_rank:
        if np.array_equal(signature[rows], signature[longest]):
            order[rows] = np.arange(len(rows))
        else:
            order[rows] = by_their_ends(signature[rows], end[rows], signature[longest], end[longest])
    return order


def _odd_ones(code: IntArray, columns: Mapping[str, IntArray], known: BoolArray) -> BoolArray:
    """bool [n], which calls are of another kind or type than most of those that they would be matched with."""
    odd = np.zeros(len(code), dtype=bool)
    signature = joined(np.where(_PAIRWISE[columns["kind"]], NONE, columns["kind"]), columns["dtype"])
    pair, inverse, count = np.unique(joined(code, signature)[known], return_inverse=True, return_counts=True)
    if len(pair) == len(distinct(code[known])):
        return odd
    most = np.zeros(int(code.max()) + 1, dtype=np.int64)
    np.maximum.at(most, code[known], count[inverse])
    odd[known] = count[inverse] < most[code[known]]
    return odd


def _with_company(code: IntArray, rank: IntArray, known: BoolArray) -> IntArray:
    """The codes of those that several ranks have, numbered from 0 in the order of their first call."""
    match = np.full(len(code), NONE)
    pairs = np.unique(np.stack((code[known], rank[known])), axis=1)
    ranks = np.bincount(pairs[0], minlength=int(code.max(initial=0)) + 1)
    chosen = np.flatnonzero(known & (ranks[code] > 1))
    _, first, inverse = np.unique(code[chosen], return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    match[chosen] = number[inverse]
    return match
