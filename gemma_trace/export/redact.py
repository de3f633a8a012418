"""Writes a copy of a trace for sharing: the same events, without what tells who recorded it, and where.

The file is read twice, in bounded memory: first to find the names of users and hosts, then to write the copy. Only
texts that hold something private change. Everything else, above all numbers, is copied byte by byte, so that the copy
gives exactly the same figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from gemma_trace.arguments import checked
from gemma_trace.export.private_names import PrivateNames
from gemma_trace.export.redacted_json import JsonRedactor, Members
from gemma_trace.foreign import UnreadableValueError, decoded, members_of
from gemma_trace.remote import path_of
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.events import ROLES, Role
from gemma_trace.trace.files import output_file
from gemma_trace.trace.header import METADATA_KEY, metadata_of
from gemma_trace.trace.reader import EVENTS_KEY, UNREADABLE_HEADER, stream_events
from gemma_trace.trace.salvage import EventSink

SUFFIX: Final = ".redacted.json.gz"

_TIMES: Final = frozenset({"ts", "dur", "tts", "tdur"})
_IDS: Final = frozenset({"pid", "tid", "id", "cat", "bind_id"})
_SYMBOLS: Final = frozenset({Role.DEVICE, Role.LAUNCH})

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class Redaction:
    """The result of a redaction.

    Attributes:
        events: number of events written.
        removed: what was removed, counted by kind.
        left_out: number of events that can't be decoded and are not in the copy.
        headers_left_out: number of headers that can't be read and are not in the copy.
        incomplete: whether the original is damaged or truncated.
    """

    events: int
    removed: dict[str, int]
    left_out: int
    headers_left_out: int
    incomplete: bool


@checked
def redact(path: str | Path, output: str | Path, on_bytes: Callable[[int], None] | None = None) -> Redaction:
    """Write a copy of a trace without tokens, environment blocks, names of users and hosts, and folders.

    Args:
        output: gzip if it ends in .gz.
        on_bytes: is called with the number of bytes read, after each piece; the file is read twice.

    Raises:
        InputError: the file can't be read.
        TraceFormatError: it is not a trace, or an export for viewers.
        OutputError: the copy can't be written.
    """
    path, output = path_of(path), Path(output)
    half = None if on_bytes is None else _half(on_bytes)
    names = PrivateNames()
    first = stream_events(path, names, half)
    metadata_of(first.header, path)
    names.of_header(first.header)
    redactor = JsonRedactor(names.users, names.hosts)
    with output_file(output) as out:
        writer = _Writer(out, redactor)
        out.write(b"{\n")
        kept: dict[str, msgspec.Raw] = {}
        for key, raw in first.header.items():
            _add(kept, redactor.member(key, bytes(raw), ours=key == METADATA_KEY))
        for key, raw in kept.items():
            out.write(b"%b: %b,\n" % (_encoder.encode(key), bytes(raw)))
        out.write(b"%b: [\n" % _encoder.encode(EVENTS_KEY))
        stream_events(path, writer, half)
        out.write(b"\n]\n}\n")
    return Redaction(
        writer.events,
        {kind: count for kind, count in redactor.removed.items() if count},
        first.repairs.get(UNDECODABLE_EVENTS, 0),
        first.repairs.get(UNREADABLE_HEADER, 0),
        first.incomplete,
    )


def _half(on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    return lambda count: on_bytes(count // 2)


class _Writer(EventSink):
    """Writes the redacted events of a file.

    Attributes:
        events: number of events written.
    """

    def __init__(self, out: BinaryIO, redactor: JsonRedactor) -> None:
        self._out, self._redactor = out, redactor
        self.events = 0

    def decode(self, array: bytes | memoryview) -> bool:
        """Write events; see `EventSink`."""
        try:
            data = bytes(array).decode("utf-8", "replace").encode()
            events = decoded(data, list[dict[str, msgspec.Raw]])
        except UnreadableValueError:
            return False
        written = [self._event(event) for event in events]
        if written:
            lines = _encoder.encode_lines(written)[:-1].replace(b"}\n{", b"},\n{")
            self._out.write((b",\n" if self.events else b"") + lines)
            self.events += len(written)
        return True

    def _event(self, event: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
        redactor = self._redactor
        counter = bytes(event.get("ph", b"")) == b'"C"'
        kept: dict[str, msgspec.Raw] = {}
        for key, value in event.items():
            raw = bytes(value)
            if b'"' not in raw and (key in _TIMES or key in _IDS):
                kept[key] = value
            elif key == "args" and raw.startswith(b"{"):
                kept[key] = self._args(value, raw, distinct=counter)
            elif key in _TIMES and raw[1:2].isdigit():
                kept[key] = value
            elif key in _IDS or (counter and key == "name"):
                kept[key] = msgspec.Raw(redactor.distinct(raw))
            elif key == "name":
                role = ROLES.get(bytes(event.get("cat", b"")).strip(b'"').decode("utf-8", "replace").lower())
                kept[key] = msgspec.Raw(redactor.name(raw, symbol=role in _SYMBOLS))
            else:
                _add(kept, redactor.member(key, raw))
        return kept

    def _args(self, args: msgspec.Raw, raw: bytes, *, distinct: bool) -> msgspec.Raw:
        """The redacted arguments of an event; the original bytes if nothing in them changes."""
        if b'"' not in raw:
            return args
        kept: dict[str, msgspec.Raw] = {}
        same = True
        for key, value in members_of(raw).items():
            before = bytes(value)
            if b'"' not in before and key not in kept and self._redactor.is_plain(key):
                kept[key] = value
                continue
            members = self._redactor.member(key, before, distinct=distinct)
            same = same and members == ((key, before),)
            _add(kept, members)
        return args if same else msgspec.Raw(_encoder.encode(kept))


def _add(kept: dict[str, msgspec.Raw], members: Members) -> None:
    """Add members. A key that redaction made equal to another one gets a number."""
    for key, changed in members:
        name = key
        while name in kept:
            name += "~"
        kept[name] = msgspec.Raw(changed)
