"""What collective a device activity or a range of the host is, from whatever the trace says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Final

import numpy as np

from gemma_trace.foreign import NONE, integer, list_of
from gemma_trace.ranks.kinds import (
    NO_TRANSFER,
    PAIRWISE,
    Comm,
    item_bytes,
    kind_of,
    plain_name,
    size_elements,
)
from gemma_trace.trace.collective_args import CollectiveArgs, collective_args
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.trace import Trace

PARAMS: Final = "record_param_comms"
"""The op that torch records with every collective's arguments."""

MOST_BYTES: Final = 1 << 60
"""No collective moves more."""

_BACKEND_RANGE: Final = re.compile(r"(nccl|rccl|gloo|mpi|ucc|xccl|hccl|mccl|cncl|eccl):")
_HOST_RANGE: Final = re.compile(r"(gloo|mpi|ucc):")


@dataclass(frozen=True)
class Group:
    """A process group.

    Attributes:
        name: as torch calls it; "" where the trace doesn't tell.
        description: what it is for; "" where the trace doesn't tell.
        ranks: its global ranks; empty where the trace doesn't tell.
        size: how many ranks it has; `NONE` where the trace doesn't tell.
    """

    name: str = ""
    description: str = ""
    ranks: tuple[int, ...] = ()
    size: int = NONE


@dataclass(frozen=True)
class Identity:
    """What a collective is.

    Attributes:
        kind: what it does.
        dtype: of its elements; "" where the trace doesn't tell.
        group: who takes part.
        seq: counts the group's collectives; `NONE` where the trace doesn't tell.
        size_bytes: as nccl-tests counts it; `NONE` where the trace doesn't tell.
        peer: the other rank of a send or a receive; `NONE` for all else.
        least_bytes, most_bytes: of an all-to-all what this rank sends to the one that gets the least and the most.
    """

    kind: Comm
    dtype: str = ""
    group: Group = Group()
    seq: int = NONE
    size_bytes: int = NONE
    peer: int = NONE
    least_bytes: int = NONE
    most_bytes: int = NONE


class Identities:
    """Tells of an activity, or of a range of the host, what collective it is."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._spans = trace, trace.spans
        spans = trace.spans
        self._said_by = trace.innermost((spans.collective != NONE) & trace.on_host)
        self._named_by = trace.innermost(self._named(lambda name: _BACKEND_RANGE.match(name) is not None))
        self._known: dict[tuple[int, int], Identity | None] = {}
        self._descriptions = {group.name: group for group in trace.distributed.groups} if trace.distributed else {}

    def host_ranges(self) -> IntArray:
        """int64, the spans in which a process without a device is in a collective, by start.

        They are the backend's own ranges; failing those the calls.
        """
        for wanted in (lambda name: _HOST_RANGE.match(name) is not None, lambda name: name == PARAMS):
            ranges = np.flatnonzero(self._named(wanted))
            if len(ranges):
                return ranges
        return np.zeros(0, dtype=np.int64)

    def of(self, row: int, call: int) -> Identity | None:
        """What collective a span is.

        Args:
            row: the index of an activity or of a range of the host.
            call: that of the call which launched it, or of the range itself; `NONE` where it isn't known.

        Returns:
            None where it is none: a wait, the making of a group.
        """
        spans = self._spans
        said = int(spans.collective[row])
        if said == NONE and call != NONE:
            caller = int(self._said_by[call])
            said = int(spans.collective[caller]) if caller != NONE else NONE
        named = int(self._named_by[call]) if call != NONE else NONE
        kernel = int(spans.name[row])
        key = (said, -1) if said != NONE else (NONE, named) if named != NONE else (NONE, -2 - kernel)
        if key not in self._known:
            args = collective_args(spans.texts[said]) if said != NONE else None
            if args is not None:
                self._known[key] = self._as_said(args)
            elif named != NONE:
                self._known[key] = self._as_named(named)
            else:
                self._known[key] = Identity(kind_of(spans.names[kernel]))
        return self._known[key]

    def _named(self, is_wanted: Callable[[str], bool]) -> BoolArray:
        """bool [n], which spans of the host have such a name."""
        wanted = np.array([is_wanted(name) for name in self._spans.names], dtype=bool)
        return wanted[self._spans.name] & self._trace.on_host

    def _as_said(self, args: CollectiveArgs) -> Identity | None:
        """What the arguments say."""
        if plain_name(args.name) in NO_TRANSFER:
            return None
        kind = kind_of(args.name)
        listed = self._descriptions.get(args.group)
        ranks = args.ranks or (listed.ranks if listed else ())
        size = args.group_size if args.group_size > 0 else len(ranks) or NONE
        description = args.description or (listed.description if listed else "")
        elements = size_elements(kind, args.in_elements, args.out_elements, size)
        sent = [_bytes_of(count, args.dtype) for count in args.in_splits]
        return Identity(
            kind,
            args.dtype,
            Group(args.group, description, ranks, size),
            args.seq,
            _bytes_of(elements, args.dtype),
            (args.destination if kind is Comm.SEND else args.source) if kind in PAIRWISE else NONE,
            min(sent, default=NONE),
            max(sent, default=NONE),
        )

    def _as_named(self, named: int) -> Identity:
        """What a backend's range says by its name and the shapes of its inputs."""
        spans, trace = self._spans, self._trace
        kind = kind_of(spans.names[spans.name[named]].partition(":")[2])
        size = trace.distributed.world_size if trace.distributed else NONE
        dims, types = (self._listed(int(column[named])) for column in (spans.input_dims, spans.input_types))
        shaped = [
            (_elements(shape), dtype) for shape, dtype in zip(dims, types, strict=False) if isinstance(shape, list)
        ]
        dtype = str(shaped[0][1]) if shaped else ""
        elements = sum(count for count, _ in shaped) if shaped else NONE
        # Its input is what the rank gives: of an all-gather one part of what nccl-tests counts.
        elements = size_elements(kind, elements, NONE, size)
        return Identity(kind, dtype, Group(size=size), size_bytes=_bytes_of(elements, dtype))

    def _listed(self, code: int) -> list[object]:
        return list_of(self._spans.texts[code]) if code != NONE else []


def _elements(shape: list[object]) -> int:
    return prod(max(integer(length), 0) for length in shape)


def _bytes_of(elements: int, dtype: str) -> int:
    item = item_bytes(dtype)
    known = item > 0 and 0 <= elements <= MOST_BYTES // item
    return elements * item if known else NONE
