"""Kinds of collectives: what backends call them, what their size is, and what nccl-tests makes of it.

Sizes and bandwidths are those of nccl-tests (`doc/PERFORMANCE.md`): the size of an all-gather is what each rank has
afterwards, that of a reduce-scatter and of an all-to-all what it has before. The algorithm bandwidth is size over time.
The bus bandwidth is that times a factor, so that it can be held against a link's rate whatever the number of ranks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from gemma_trace.foreign import NONE


class Comm(StrEnum):
    """What a collective does."""

    ALL_REDUCE = "all_reduce"
    ALL_GATHER = "all_gather"
    REDUCE_SCATTER = "reduce_scatter"
    ALL_TO_ALL = "all_to_all"
    BROADCAST = "broadcast"
    REDUCE = "reduce"
    GATHER = "gather"
    SCATTER = "scatter"
    BARRIER = "barrier"
    SEND = "send"
    RECEIVE = "receive"
    SEND_RECEIVE = "send_receive"
    """A kernel that sends and receives, of which no call says what for."""
    OTHER = "other"


COMMS: Final = tuple(Comm)

SYNCHRONOUS: Final = frozenset(
    {
        Comm.ALL_REDUCE,
        Comm.ALL_GATHER,
        Comm.REDUCE_SCATTER,
        Comm.ALL_TO_ALL,
        Comm.BARRIER,
    }
)
"""No rank leaves one of these before all have come, so that all leave together but for the transfer."""

PAIRWISE: Final = frozenset({Comm.SEND, Comm.RECEIVE})

_PATTERNS: Final = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"reducescatter", Comm.REDUCE_SCATTER),
        (r"allreduce", Comm.ALL_REDUCE),
        (r"allgather", Comm.ALL_GATHER),
        (r"alltoall", Comm.ALL_TO_ALL),
        (r"broadcast", Comm.BROADCAST),
        (r"barrier", Comm.BARRIER),
        (r"i?sendi?rec", Comm.SEND_RECEIVE),
        (r"irecv|recv|receive", Comm.RECEIVE),
        (r"isend|send", Comm.SEND),
        (r"gather", Comm.GATHER),
        (r"scatter", Comm.SCATTER),
        (r"reduce", Comm.REDUCE),
    )
)
_SEPARATORS: Final = re.compile(r"[^a-z0-9]")

NO_TRANSFER: Final = frozenset({"wait", "init", "destroy", "pointertopoint", "startcoalescing", "endcoalescing"})
"""What `record_param_comms` is written for besides collectives; no data goes anywhere."""

_ITEM_BYTES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("byte", "char", "bool", "signedchar", "unsignedchar", "int8", "uint8"), 1),
    **dict.fromkeys(("float8e5m2", "float8e4m3fn", "float8e5m2fnuz", "float8e4m3fnuz", "float8e8m0fnu"), 1),
    **dict.fromkeys(("short", "half", "bfloat16", "c10half", "c10bfloat16", "uint16", "shortint"), 2),
    **dict.fromkeys(("int", "float", "uint32", "unsignedint"), 4),
    **dict.fromkeys(("long", "longint", "double", "uint64", "complexfloat", "c10complexfloat"), 8),
    **dict.fromkeys(("complexdouble", "c10complexdouble"), 16),
}
"""c10's scalar types (`toString` in `c10/core/ScalarType.h`) and C++'s names of them, as "Input type" has them."""


def kind_of(name: str) -> Comm:
    """What a collective is, by what torch, NCCL, RCCL or gloo calls it or its kernel.

    >>> kind_of("_allgather_base"), kind_of("nccl:all_to_all"), kind_of("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL")
    (<Comm.ALL_GATHER: 'all_gather'>, <Comm.ALL_TO_ALL: 'all_to_all'>, <Comm.REDUCE_SCATTER: 'reduce_scatter'>)
    """
    plain = plain_name(name)
    return next((kind for pattern, kind in _PATTERNS if pattern.search(plain)), Comm.OTHER)


def plain_name(name: str) -> str:
    """A name's letters and digits, in lower case; of a kernel without its arguments."""
    return _SEPARATORS.sub("", name.partition("(")[0].lower())


def item_bytes(dtype: str) -> int:
    """The size of an element; `NONE` for an unknown type.

    >>> item_bytes("BFloat16"), item_bytes("c10::BFloat16"), item_bytes("long int")
    (2, 2, 8)
    """
    return _ITEM_BYTES.get(plain_name(dtype), NONE)


def size_elements(kind: Comm, in_elements: int, out_elements: int, ranks: int) -> int:
    """How many elements a collective's size is, as nccl-tests counts them; `NONE` where it can't be told."""
    if kind in (Comm.ALL_GATHER, Comm.GATHER):
        if out_elements > in_elements or ranks < 1:
            return out_elements
        return in_elements * ranks if in_elements >= 0 else NONE
    if kind is Comm.ALL_TO_ALL:  # of unequal ones what the rank is busy with
        return max(in_elements, out_elements)
    if kind is Comm.RECEIVE:
        return out_elements if out_elements >= 0 else in_elements
    return in_elements if in_elements >= 0 else out_elements


_BUS_FACTORS: Final[Mapping[Comm, Callable[[int], float]]] = {
    Comm.ALL_REDUCE: lambda ranks: 2 * (ranks - 1) / ranks,
    Comm.ALL_GATHER: lambda ranks: (ranks - 1) / ranks,
    Comm.REDUCE_SCATTER: lambda ranks: (ranks - 1) / ranks,
    Comm.ALL_TO_ALL: lambda ranks: (ranks - 1) / ranks,
    Comm.GATHER: lambda ranks: (ranks - 1) / ranks,
    Comm.SCATTER: lambda ranks: (ranks - 1) / ranks,
    Comm.BROADCAST: lambda _: 1.0,
    Comm.REDUCE: lambda _: 1.0,
    Comm.SEND: lambda _: 1.0,
    Comm.RECEIVE: lambda _: 1.0,
    Comm.SEND_RECEIVE: lambda _: 1.0,
}


def bus_factor(kind: Comm, ranks: int) -> float | None:
    """Bus bandwidth over algorithm bandwidth (nccl-tests, `doc/PERFORMANCE.md`); None where none is defined."""
    factor = _BUS_FACTORS.get(kind)
    return factor(ranks) if factor and ranks > 0 else None
