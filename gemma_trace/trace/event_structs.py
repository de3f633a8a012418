"""What of an event's JSON is decoded: three structs, from the fastest to the one that takes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gemma_trace.foreign import NUMBERS_TOO_LARGE, UNDECODABLE, id_of, integer, is_too_large, members_of, text, value_of
from gemma_trace.trace.events import NONE, IntArray

ABSENT: Final = msgspec.Raw(b"")
"""An argument that isn't there."""


class Args(msgspec.Struct, gc=False):
    """The arguments that become columns; all others are passed over."""

    correlation: int | str = NONE
    external_id: int | str = msgspec.field(name="External id", default=NONE)
    stream: int | str = NONE
    device: int | str = NONE
    bytes: int | str = NONE
    input_dims: msgspec.Raw = msgspec.field(name="Input Dims", default=ABSENT)
    input_types: msgspec.Raw = msgspec.field(name="Input type", default=ABSENT)
    input_strides: msgspec.Raw = msgspec.field(name="Input Strides", default=ABSENT)
    concrete_inputs: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=ABSENT)
    grid: msgspec.Raw = ABSENT
    block: msgspec.Raw = ABSENT
    occupancy_pct: int | float | str = msgspec.field(name="est. achieved occupancy %", default=NONE)
    memory_device: int | str = msgspec.field(name="Device Id", default=NONE)
    memory_bytes: int | str = msgspec.field(name="Bytes", default=NONE)
    allocated_bytes: int | str = msgspec.field(name="Total Allocated", default=NONE)
    address: int | str = msgspec.field(name="Addr", default=NONE)
    reserved_bytes: int | str = msgspec.field(name="Total Reserved", default=NONE)
    collective: msgspec.Raw = msgspec.field(name="Collective name", default=ABSENT)


class Event(msgspec.Struct, gc=False):
    """A trace event whose times are numbers that a float64 holds exactly enough."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: float | None = float("nan")
    dur: float | None = float("nan")
    id: int | str = NONE
    args: Args | None = None


class ExactEvent(msgspec.Struct, gc=False):
    """A trace event whose times are kept as text."""

    ph: str = ""
    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: msgspec.Raw = ABSENT
    dur: msgspec.Raw = ABSENT
    id: int | str = NONE
    args: Args | None = None


class _LooseArgs(msgspec.Struct, gc=False):
    """`Args` whose integers may be anything."""

    correlation: Any = NONE
    external_id: Any = msgspec.field(name="External id", default=NONE)
    stream: Any = NONE
    device: Any = NONE
    bytes: Any = NONE
    input_dims: msgspec.Raw = msgspec.field(name="Input Dims", default=ABSENT)
    input_types: msgspec.Raw = msgspec.field(name="Input type", default=ABSENT)
    input_strides: msgspec.Raw = msgspec.field(name="Input Strides", default=ABSENT)
    concrete_inputs: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=ABSENT)
    grid: msgspec.Raw = ABSENT
    block: msgspec.Raw = ABSENT
    occupancy_pct: Any = msgspec.field(name="est. achieved occupancy %", default=NONE)
    memory_device: Any = msgspec.field(name="Device Id", default=NONE)
    memory_bytes: Any = msgspec.field(name="Bytes", default=NONE)
    allocated_bytes: Any = msgspec.field(name="Total Allocated", default=NONE)
    address: Any = msgspec.field(name="Addr", default=NONE)
    reserved_bytes: Any = msgspec.field(name="Total Reserved", default=NONE)
    collective: msgspec.Raw = msgspec.field(name="Collective name", default=ABSENT)


class _LooseHead(msgspec.Struct, gc=False):
    """A trace event of which nothing is assumed but that it is an object, without its arguments."""

    ph: Any = ""
    cat: Any = ""
    name: Any = ""
    pid: Any = ""
    tid: Any = ""
    ts: msgspec.Raw = ABSENT
    dur: msgspec.Raw = ABSENT
    id: Any = NONE


class _LooseEvent(_LooseHead, gc=False):
    args: _LooseArgs | None = None


class _LoosestEvent(_LooseHead, gc=False):
    """One whose arguments are no object, or hold what can't be decoded: their text."""

    args: msgspec.Raw = ABSENT


LooseEvent = _LooseEvent | _LoosestEvent


class _Rest(msgspec.Struct, gc=False):
    """What of an event `Args` doesn't hold."""

    args: msgspec.Raw = ABSENT


_rest = msgspec.json.Decoder(list[_Rest])


decode_fast = msgspec.json.Decoder(list[Event]).decode
decode_exact = msgspec.json.Decoder(list[ExactEvent]).decode
_decode_loose = msgspec.json.Decoder(list[_LooseEvent]).decode
_decode_loosest = msgspec.json.Decoder(list[_LoosestEvent]).decode


def decode_loose(array: bytes | memoryview) -> Sequence[LooseEvent]:
    """The events of a JSON array of objects, whatever their values are.

    Raises:
        One of `foreign.UNDECODABLE`: it isn't one.
    """
    try:
        return _decode_loose(array)
    except UNDECODABLE:
        return _decode_loosest(array)


_ARGUMENTS: Final = {
    field.encode_name: (field.name, field.type is msgspec.Raw) for field in msgspec.structs.fields(Args)
}
"""By the name that an argument has in the file, its name here, and whether its JSON text is kept."""
_LEAST, _MOST = -(2**63), 2**63 - 1
_INTEGERS: Final = tuple(place for place, (_, is_text) in enumerate(_ARGUMENTS.values()) if not is_text)


class Arguments:
    """The `args` of every event of a batch, decoded only where they matter.

    Args:
        array: the JSON array of the events, which has been decoded before.
        kept: int64, the places of those that are still there; None is all.
    """

    def __init__(self, array: bytes | memoryview, kept: IntArray | None = None) -> None:
        self._array, self._kept = array, kept

    def texts(self) -> list[bytes]:
        """The JSON text of the `args` of each, empty where there are none."""
        events = _rest.decode(self._array)
        kept = range(len(events)) if self._kept is None else self._kept.tolist()
        return [bytes(events[place].args) for place in kept]

    def taken(self, kept: IntArray) -> Arguments:
        """Those of some of the events."""
        return Arguments(self._array, kept if self._kept is None else self._kept[kept])


def tightened(event: LooseEvent, unread: Counter[str]) -> ExactEvent:
    """The event with the types it should have; what can't be read as its type is absent.

    Args:
        unread: counts arguments that can't be read at all, and numbers that 64 bits don't hold.
    """
    args = None
    if isinstance(event.args, _LooseArgs):
        held = list(msgspec.structs.astuple(event.args))
        for place in _INTEGERS:
            value = held[place]
            if type(value) is not int or not _LEAST <= value <= _MOST:
                held[place] = _integer(value, unread)
        args = Args(*held)
    elif event.args is not None and bytes(event.args).startswith(b"{"):  # one of them can't be decoded
        values: dict[str, Any] = {}
        for key, raw in members_of(event.args, unread).items():
            if (found := _ARGUMENTS.get(key)) is not None:
                values[found[0]] = raw if found[1] else _integer(value_of(raw, unread), unread)
        args = Args(**values)
    return ExactEvent(
        ph=text(event.ph),
        cat=text(event.cat),
        name=text(event.name),
        pid=id_of(event.pid),
        tid=id_of(event.tid),
        ts=event.ts,
        dur=event.dur,
        id=event.id,
        args=args,
    )


def _integer(value: Any, unread: Counter[str]) -> int:
    unread[NUMBERS_TOO_LARGE] += is_too_large(value)
    return integer(value)
