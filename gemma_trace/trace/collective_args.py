"""What the call or the kernel of a collective says of it: the arguments that torch writes from `ParamCommsDebugInfo`.

The names are those of `torch/csrc/profiler/util.cpp` (`saveNcclMeta`): they stand on `record_param_comms` and, since
torch 2.3, on the kernels too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gemma_trace.foreign import MOST_NUMBERS, NONE, decoded, integer, members_of, numbers_of, text, value_of


@dataclass(frozen=True)
class CollectiveArgs:
    """One collective, as the process that took part says.

    Attributes:
        name: as torch calls it, e.g. "allreduce" or "_allgather_base".
        dtype: of its elements, as c10 calls it, e.g. "Float"; "" where it isn't said.
        in_elements, out_elements: how many elements go in and come out on this rank; `NONE` where it isn't said.
        group: the process group's name; "" where it isn't said.
        description: what the group is for, e.g. "default_pg".
        group_size: how many ranks it has; `NONE` where it isn't said.
        ranks: the global ranks of the group; empty where they aren't said.
        seq: counts the collectives of the group; `NONE` where it isn't said.
        in_splits, out_splits: elements to and from each rank of an all-to-all; empty where they are equal.
        source, destination: global ranks of a send or a receive; `NONE` for all else.
    """

    name: str
    dtype: str = ""
    in_elements: int = NONE
    out_elements: int = NONE
    group: str = ""
    description: str = ""
    group_size: int = NONE
    ranks: tuple[int, ...] = ()
    seq: int = NONE
    in_splits: tuple[int, ...] = ()
    out_splits: tuple[int, ...] = ()
    source: int = NONE
    destination: int = NONE


class _Kept(msgspec.Struct, omit_defaults=True, gc=False):
    """The arguments that are kept, with values of any type."""

    name: Any = msgspec.field(name="Collective name")
    dtype: Any = None
    in_elements: Any = msgspec.field(name="In msg nelems", default=None)
    out_elements: Any = msgspec.field(name="Out msg nelems", default=None)
    group: Any = msgspec.field(name="Process Group Name", default=None)
    description: Any = msgspec.field(name="Process Group Description", default=None)
    group_size: Any = msgspec.field(name="Group size", default=None)
    ranks: Any = msgspec.field(name="Process Group Ranks", default=None)
    first_rank: Any = msgspec.field(name="Global rank start", default=None)
    rank_stride: Any = msgspec.field(name="Global rank stride", default=None)
    seq: Any = msgspec.field(name="Seq", default=None)
    in_splits: Any = msgspec.field(name="In split size", default=None)
    out_splits: Any = msgspec.field(name="Out split size", default=None)
    source: Any = msgspec.field(name="Src Rank", default=None)
    destination: Any = msgspec.field(name="Dst Rank", default=None)


_NAME: Final = b'"Collective name"'
_kept = msgspec.json.Decoder(_Kept)
_NAMES: Final = frozenset(field.encode_name for field in msgspec.structs.fields(_Kept))


def collective_text(args: bytes) -> bytes:
    """Of an event's arguments as JSON those of its collective, in an order of their own; empty where there is none."""
    if _NAME not in args:
        return b""
    try:
        return msgspec.json.encode(_kept.decode(args))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        # No collective's; or one of its values is what no parser takes, and costs itself alone.
        members = {name: value_of(raw) for name, raw in members_of(args).items() if name in _NAMES}
        return msgspec.json.encode(members) if members.get("Collective name") is not None else b""


def collective_args(kept: str) -> CollectiveArgs | None:
    """What `collective_text` kept, with values of the right types; None where that isn't a collective's name."""
    values = decoded(kept, _Kept)
    name = text(values.name)
    if not name:
        return None
    group_size = integer(values.group_size)
    return CollectiveArgs(
        name=name,
        dtype=text(values.dtype),
        in_elements=max(integer(values.in_elements), NONE),
        out_elements=max(integer(values.out_elements), NONE),
        group=text(values.group),
        description=text(values.description),
        group_size=group_size,
        ranks=_ranks(values, group_size),
        seq=integer(values.seq),
        in_splits=numbers_of(values.in_splits),
        out_splits=numbers_of(values.out_splits),
        source=integer(values.source),
        destination=integer(values.destination),
    )


def _ranks(values: _Kept, group_size: int) -> tuple[int, ...]:
    """The ranks that are listed; of a list that torch cut (over 30 ranks) those that a start and a stride give."""
    listed = numbers_of(values.ranks)
    if listed and (group_size in (NONE, len(listed))):
        return listed
    first, stride = integer(values.first_rank), integer(values.rank_stride)
    if 0 < group_size <= MOST_NUMBERS and first >= 0 and stride > 0:
        return tuple(range(first, first + group_size * stride, stride))
    return ()
