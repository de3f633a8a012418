"""What of an event's JSON is decoded: three structs, from the fastest to the one that takes anything."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gemma_trace.trace.events import NONE

ABSENT: Final = msgspec.Raw(b"")
"""An argument that isn't there."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,4})?")

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on text that is no JSON; RecursionError where values nest deeper than any trace's."""

Arguments = Callable[[], Sequence[bytes]]
"""Gives the JSON text of `args` of every event of a batch, empty where there is none. Called only where it matters."""


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


class LooseEvent(msgspec.Struct, gc=False):
    """A trace event of which nothing is assumed but that it is an object."""

    ph: Any = ""
    cat: Any = ""
    name: Any = ""
    pid: Any = ""
    tid: Any = ""
    ts: msgspec.Raw = ABSENT
    dur: msgspec.Raw = ABSENT
    id: Any = NONE
    args: msgspec.Raw = ABSENT


class _Rest(msgspec.Struct, gc=False):
    """What of an event `Args` doesn't hold."""

    args: msgspec.Raw = ABSENT


_rest = msgspec.json.Decoder(list[_Rest])


decode_fast = msgspec.json.Decoder(list[Event]).decode
decode_exact = msgspec.json.Decoder(list[ExactEvent]).decode
decode_loose = msgspec.json.Decoder(list[LooseEvent]).decode


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ARGUMENTS: Final = {
    field.encode_name: (field.name, field.type is msgspec.Raw) for field in msgspec.structs.fields(Args)
}
"""By the name that an argument has in the file, its name here, and whether its JSON text is kept."""


def arguments_of(array: bytes | memoryview) -> list[bytes]:
    """The JSON text of `args` of each event of a JSON array that has been decoded before."""
    return [bytes(event.args) for event in _rest.decode(array)]


def tightened(event: LooseEvent) -> ExactEvent:
    """The event with the types it should have; what can't be read as its type is absent."""
    args = None
    if bytes(event.args).startswith(b"{"):
        values: dict[str, Any] = {}
        for key, raw in _members(event.args).items():
            if (found := _ARGUMENTS.get(key)) is not None:
                values[found[0]] = raw if found[1] else integer(msgspec.json.decode(raw))
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


def integer(value: Any) -> int:
    """The integer that a number or a text is; `NONE` for all else, and for what 64 bits don't hold."""
    if isinstance(value, str):
        value = int(value) if _INTEGER.fullmatch(value) else NONE
    if isinstance(value, float):
        value = int(value) if value.is_integer() else NONE
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else NONE


def number(value: Any) -> int | float | None:
    """The finite number that a JSON value is, or that its text spells; None for all else, truth values too."""
    if isinstance(value, str):
        stripped = value.strip()
        value = float(stripped) if _DECIMAL.fullmatch(stripped) else None
    if type(value) is float:
        return value if math.isfinite(value) else None
    return value if type(value) is int and -(2**1023) < value < 2**1023 else None


def id_of(value: Any) -> int | str:
    """A process's, thread's or arrow's id; a number if it is one, however it is written."""
    if type(value) is int:
        return value
    number = integer(value)
    return number if number != NONE else text(value)


def text(value: Any) -> str:
    """A value as text; nothing is the empty text."""
    if isinstance(value, str):
        return value
    return "" if value is None else str(value)
