"""What of an event's JSON is decoded: three structs, from the fastest to the one that takes anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any, ClassVar, Final, Generic, TypeVar, Union, cast

import msgspec

from gemma_trace.foreign import NUMBERS_TOO_LARGE, UNDECODABLE, id_of, integer, is_too_large, members_of, text, value_of
from gemma_trace.trace.events import NONE
from gemma_trace.trace.schema import DETAIL_COLUMNS

ABSENT: Final = msgspec.Raw(b"")
"""An argument that isn't there."""


class SpanArgs(msgspec.Struct, gc=False):
    """The arguments of spans that become columns; all others are passed over."""

    external_id: int | str = msgspec.field(name="External id", default=NONE)
    concrete_inputs: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=ABSENT)
    input_types: msgspec.Raw = msgspec.field(name="Input type", default=ABSENT)
    input_strides: msgspec.Raw = msgspec.field(name="Input Strides", default=ABSENT)
    input_dims: msgspec.Raw = msgspec.field(name="Input Dims", default=ABSENT)
    device: int | str = NONE
    stream: int | str = NONE
    correlation: int | str = NONE
    bytes: int | str = NONE
    grid: msgspec.Raw = ABSENT
    block: msgspec.Raw = ABSENT
    occupancy_pct: int | float | str = msgspec.field(name="est. achieved occupancy %", default=NONE)
    collective: msgspec.Raw = msgspec.field(name="Collective name", default=ABSENT)
    graph_node: int | str = msgspec.field(name="graph node id", default=NONE)
    node_stage: msgspec.Raw = msgspec.field(name="stage", default=ABSENT)
    node_text: msgspec.Raw = msgspec.field(name="str", default=ABSENT)
    node_annotation: msgspec.Raw = msgspec.field(name="annotation", default=ABSENT)


BriefSpanArgs = cast(
    type[SpanArgs],
    msgspec.defstruct(
        "BriefSpanArgs",
        [
            (field.name, field.type, msgspec.field(name=field.encode_name, default=field.default))
            for field in msgspec.structs.fields(SpanArgs)
            if field.name not in DETAIL_COLUMNS
        ],
        gc=False,
    ),
)
"""The same without what is read only where something needs it."""


class MemoryArgs(msgspec.Struct, gc=False):
    """Those of the allocators' instants."""

    reserved_bytes: int | str = msgspec.field(name="Total Reserved", default=NONE)
    allocated_bytes: int | str = msgspec.field(name="Total Allocated", default=NONE)
    memory_bytes: int | str = msgspec.field(name="Bytes", default=NONE)
    address: int | str = msgspec.field(name="Addr", default=NONE)
    memory_device: int | str = msgspec.field(name="Device Id", default=NONE)


class UnreadArgs(msgspec.Struct, gc=False):
    """Arguments of which nothing is read but that they are there."""


class Args(SpanArgs, gc=False):
    """The arguments of an event that may be a span or an allocator's instant."""

    reserved_bytes: int | str = msgspec.field(name="Total Reserved", default=NONE)
    allocated_bytes: int | str = msgspec.field(name="Total Allocated", default=NONE)
    memory_bytes: int | str = msgspec.field(name="Bytes", default=NONE)
    address: int | str = msgspec.field(name="Addr", default=NONE)
    memory_device: int | str = msgspec.field(name="Device Id", default=NONE)


_Args = TypeVar("_Args")


class SpanEvent(msgspec.Struct, Generic[_Args], gc=False, tag_field="ph", tag="X"):
    """A complete event. It is told by its phase, before anything else of it is read."""

    ph: ClassVar[str] = "X"
    id: ClassVar[int] = NONE

    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: float | None = float("nan")
    dur: float | None = float("nan")
    args: _Args | None = None


class _Begin(SpanEvent[_Args], gc=False, tag="B"):
    ph: ClassVar[str] = "B"


class _Plain(msgspec.Struct, gc=False, tag_field="ph"):
    """An event whose arguments are no columns."""

    ph: ClassVar[str]
    args: ClassVar[None] = None

    id: int | str = NONE
    pid: int | str = ""
    tid: int | str = ""
    ts: float | None = float("nan")
    cat: str = ""
    name: str = ""
    dur: float | None = float("nan")


class _Instant(msgspec.Struct, Generic[_Args], gc=False, tag_field="ph", tag="i"):
    ph: ClassVar[str] = "i"
    id: ClassVar[int] = NONE

    cat: str = ""
    name: str = ""
    pid: int | str = ""
    tid: int | str = ""
    ts: float | None = float("nan")
    dur: float | None = float("nan")
    args: _Args | None = None


_OTHER_PHASES: Final = "sfMCE"  # each has its type; all others are decoded as `Event`
_PLAIN: Final = {ph: type(f"_Plain_{ph}", (_Plain,), {"ph": ph}, gc=False, tag=ph) for ph in _OTHER_PHASES}
_TYPES_BY_THEMSELVES: Final = {SpanEvent, _Instant, *_PLAIN.values()} - {_PLAIN["E"]}
"""Those of events that don't hang together with spans; only `B` and `E` do."""

TaggedEvent = SpanEvent[SpanArgs] | _Begin[SpanArgs] | _Instant[MemoryArgs] | _Plain
"""An event of a known phase, with the fields that events of that phase have: what is decoded fastest."""


class Event(msgspec.Struct, gc=False):
    """A trace event of any phase whose times are numbers that a float64 holds exactly enough."""

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
    """`Args`, in their order, whose integers may be anything."""

    external_id: Any = msgspec.field(name="External id", default=NONE)
    concrete_inputs: msgspec.Raw = msgspec.field(name="Concrete Inputs", default=ABSENT)
    input_types: msgspec.Raw = msgspec.field(name="Input type", default=ABSENT)
    input_strides: msgspec.Raw = msgspec.field(name="Input Strides", default=ABSENT)
    input_dims: msgspec.Raw = msgspec.field(name="Input Dims", default=ABSENT)
    device: Any = NONE
    stream: Any = NONE
    correlation: Any = NONE
    bytes: Any = NONE
    grid: msgspec.Raw = ABSENT
    block: msgspec.Raw = ABSENT
    occupancy_pct: Any = msgspec.field(name="est. achieved occupancy %", default=NONE)
    collective: msgspec.Raw = msgspec.field(name="Collective name", default=ABSENT)
    graph_node: Any = msgspec.field(name="graph node id", default=NONE)
    node_stage: msgspec.Raw = msgspec.field(name="stage", default=ABSENT)
    node_text: msgspec.Raw = msgspec.field(name="str", default=ABSENT)
    node_annotation: msgspec.Raw = msgspec.field(name="annotation", default=ABSENT)
    reserved_bytes: Any = msgspec.field(name="Total Reserved", default=NONE)
    allocated_bytes: Any = msgspec.field(name="Total Allocated", default=NONE)
    memory_bytes: Any = msgspec.field(name="Bytes", default=NONE)
    address: Any = msgspec.field(name="Addr", default=NONE)
    memory_device: Any = msgspec.field(name="Device Id", default=NONE)


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
AnyEvent = TaggedEvent | Event | ExactEvent
AnySpan = SpanEvent[SpanArgs] | Event | ExactEvent
AnyMemoryArgs = MemoryArgs | Args


class _Rest(msgspec.Struct, gc=False):
    """What of an event `Args` doesn't hold."""

    args: msgspec.Raw = ABSENT


_rest = msgspec.json.Decoder(list[_Rest])


def _tagged(span_args: Any, memory_args: Any) -> msgspec.json.Decoder[list[TaggedEvent]]:
    types: Any = Union[SpanEvent[span_args], _Begin[span_args], _Instant[memory_args], *_PLAIN.values()]
    return msgspec.json.Decoder(list[types])


decode_tagged = _tagged(SpanArgs, MemoryArgs).decode
decode_brief = _tagged(BriefSpanArgs, UnreadArgs).decode
"""The same without the details, whose arguments are `BriefSpanArgs` and `UnreadArgs`."""

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
    """

    def __init__(self, array: bytes | memoryview) -> None:
        self._array = array

    def texts(self) -> list[bytes]:
        """The JSON text of the `args` of each, empty where there are none."""
        return [bytes(event.args) for event in _rest.decode(self._array)]

    def taken(self, chosen: Sequence[bool]) -> Arguments:
        """Those of some of the events."""
        return _Taken(self, chosen)


class _Taken(Arguments):
    def __init__(self, source: Arguments, chosen: Sequence[bool]) -> None:
        self._source, self._chosen = source, chosen

    def texts(self) -> list[bytes]:
        return list(compress(self._source.texts(), self._chosen))


def parts_of(
    events: Sequence[TaggedEvent | Event], arguments: Arguments
) -> list[tuple[Sequence[TaggedEvent | Event], Arguments]]:
    """The events that are no spans, and those that are: to go over objects of one type takes a third less.

    All of them in one where their order among each other counts, or where they aren't told by their types.
    """
    kinds = list(map(type, events))
    spans = kinds.count(SpanEvent)
    if spans in (0, len(kinds)) or not _TYPES_BY_THEMSELVES.issuperset(kinds):
        return [(events, arguments)]
    is_span = [kind is SpanEvent for kind in kinds]
    is_other = [kind is not SpanEvent for kind in kinds]
    return [(list(compress(events, chosen)), arguments.taken(chosen)) for chosen in (is_other, is_span)]


def phases_of(events: Sequence[AnyEvent]) -> list[str]:
    """The `ph` of each event."""
    kinds = list(map(type, events))
    return ["X"] * len(kinds) if kinds.count(SpanEvent) == len(kinds) else [event.ph for event in events]


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
            if (argument := _ARGUMENTS.get(key)) is not None:
                values[argument[0]] = raw if argument[1] else _integer(value_of(raw, unread), unread)
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
