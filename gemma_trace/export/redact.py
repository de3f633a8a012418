"""A copy of a trace for sharing: the same events, without what says who recorded it, and where.

The file is gone through twice, in bounded memory: first for the names of users and hosts, then to write. Only texts
change; numbers are copied digit by digit, so that the copy is read with the very same figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from gemma_trace.errors import OutputError
from gemma_trace.export.redacted_text import (
    ENVIRONMENTS,
    HOSTS,
    SECRETS,
    USERS,
    TextRedactor,
    is_private_name,
    users_in,
)
from gemma_trace.metadata import METADATA_KEY
from gemma_trace.trace.columns import UNDECODABLE_EVENTS
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.reader import UNDECODABLE, EventSink, stream_events
from gemma_trace.trace.secret_names import named_kind

SUFFIX: Final = ".redacted.json.gz"

_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_TOKENS: Final = re.compile(
    rb"(?P<key>" + _STRING + rb")(?:(?P<colon>\s*:\s*)(?P<value>" + _STRING + rb")?)?", re.DOTALL
)
_PEOPLE: Final = re.compile(rb'"(?i:host|node|fqdn|machine|computer|user|login|log_?name|owner|author|account)')
_HOST_KEY: Final = re.compile(
    r"(?:host_?name|host|node_?name|fqdn|machine_?name|computer_?name|HOSTNAME)", re.IGNORECASE
)
_USER_KEY: Final = re.compile(r"(?:user_?name|user|login|log_?name|owner|author|account)", re.IGNORECASE)
_BLOCK_KEY: Final = re.compile(
    r"env|environ|envs|environment(?:_?(?:variables|vars))?|env_?vars?|os_?environ", re.IGNORECASE
)
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_CACHED: Final = 200_000
_OWN: Final = frozenset({"name", "ph", "cat", "ts", "dur"})
"""The members of an event that its figures rest on; of these only the name is redacted."""

_objects = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True)
class Redaction:
    """What was done.

    Attributes:
        events: how many events were written.
        removed: what was taken out, by kind.
        left_out: how many events couldn't be decoded and aren't in the copy.
        incomplete: the original is damaged or ends before its trace does.
    """

    events: int
    removed: dict[str, int]
    left_out: int
    incomplete: bool


def redact(path: Path, output: Path, on_bytes: Callable[[int], None] | None = None) -> Redaction:
    """Write a copy of a trace without tokens, environment blocks, names of users and hosts, and folders.

    Args:
        output: gzip if it ends in .gz.
        on_bytes: hears how many bytes of the file were done, each time some are; the file is gone through twice.

    Raises:
        InputError: the file can't be read.
        TraceFormatError: it is no trace.
        OutputError: the copy can't be written.
    """
    names = _Names()
    half = None if on_bytes is None else _half(on_bytes)
    first = stream_events(path, names, half)
    names.of_header(first.header)
    redactor = _Redactor(names)
    header = dict(redactor.header(first.header))
    try:
        with atomic_file(output) as out:
            writer = _Writer(out, redactor)
            out.write(b"{\n")
            for key, value in header.items():
                out.write(b"%b: %b,\n" % (msgspec.json.encode(key), value))
            out.write(b'"traceEvents": [\n')
            stream_events(path, writer, half)
            out.write(b"\n]\n}\n")
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror}; check --output") from error
    removed = {kind: count for kind, count in redactor.removed.items() if count}
    left_out = first.repairs.get(UNDECODABLE_EVENTS, 0)
    return Redaction(writer.events, removed, left_out, first.incomplete)


def _half(on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    return lambda count: on_bytes(count // 2)


class _Names(EventSink):
    """Gathers the names of users and hosts that a file gives away."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self.hosts: set[str] = set()

    def decode(self, array: bytes | memoryview) -> bool:
        data = bytes(array)
        try:
            msgspec.json.decode(data)
        except UNDECODABLE:
            return False
        if b"home" in data or b"Users" in data or b"USERS" in data:
            self._of_text(data.decode("utf-8", "replace").replace("\\/", "/").replace("\\\\", "\\"))
        for found in _TOKENS.finditer(data) if _PEOPLE.search(data) else ():
            if found["value"]:
                self._of_pair(_text_of(found["key"]), _text_of(found["value"]))
        return True

    def of_header(self, header: Mapping[str, msgspec.Raw]) -> None:
        """Look at the top-level members as well."""
        for key, raw in header.items():
            self._of_text(bytes(raw).decode("utf-8", "replace").replace("\\/", "/").replace("\\\\", "\\"))
            for name, value in _walk(key, msgspec.json.decode(raw)):
                self._of_pair(name, value)

    def _of_pair(self, key: str, value: str) -> None:
        for pattern, names in ((_HOST_KEY, self.hosts), (_USER_KEY, self.users)):
            if pattern.fullmatch(key) and is_private_name(value) and len(value) < 256:
                names.add(value)

    def _of_text(self, text: str) -> None:
        self.users |= {user for user in users_in(text) if is_private_name(user)}


def _walk(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of a JSON value, with the key that it stands under."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _walk(name, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(key, inner)


class _Redactor:
    """Redacts JSON text: headers as values, events as text, so that nothing but texts changes."""

    def __init__(self, names: _Names) -> None:
        self.removed: Counter[str] = Counter()
        self._everywhere = TextRedactor(names.users, names.hosts, self.removed)
        self._in_names = TextRedactor(names.users, names.hosts, self.removed, words=False)
        self._cache: dict[tuple[bytes, bool], tuple[bytes, Counter[str]]] = {}

    def header(self, header: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, bytes]]:
        """The members that stay, redacted."""
        for key, raw in header.items():
            kept = self._value(key, msgspec.json.decode(raw), ours=key == METADATA_KEY)
            if kept is not _GONE:
                yield self._everywhere.text(key), msgspec.json.encode(kept)

    def _value(self, key: str, value: Any, *, ours: bool = False) -> Any:
        if isinstance(value, dict):
            if not ours and _is_environment(key, value):
                self.removed[ENVIRONMENTS] += 1
                return _GONE
            inner = {name: self._value(name, each, ours=ours) for name, each in value.items()}
            return {self._everywhere.text(name): each for name, each in inner.items() if each is not _GONE}
        if isinstance(value, list):
            return [each for each in (self._value(key, one, ours=ours) for one in value) if each is not _GONE]
        return self.under(key, value) if isinstance(value, str) else value

    def under(self, key: str, value: str) -> str:
        """A text by what it is named, or by what is in it."""
        if value and (_HOST_KEY.fullmatch(key) or _USER_KEY.fullmatch(key)) and not value.isdigit():
            kind = HOSTS if _HOST_KEY.fullmatch(key) else USERS
            self.removed[kind] += 1
            return "<host>" if kind == HOSTS else "<user>"
        if named_kind(key, value, quoted=True):
            self.removed[SECRETS] += 1
            return "<secret>"
        return self._everywhere.text(value)

    def event(self, text: bytes) -> bytes:
        """An event's text with its strings redacted; its own name loses no words, since it is told by that."""
        if b'"env' in text or b'"ENV' in text or b'"os' in text:
            value = self._blocks(text)
            text = value if value is not None else text
        at = 0 if b'"M"' in text else text.find(b'"args"')
        return _TOKENS.sub(lambda found: self._token(found, own=found.start() < at or at < 0), text)

    def _blocks(self, text: bytes) -> bytes | None:
        """The event without the environment blocks among its arguments; None where it has none."""
        event = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if "args" not in event:
            return None
        args = msgspec.json.decode(event["args"])
        if not isinstance(args, dict):
            return None
        kept = {
            key: value for key, value in args.items() if not (isinstance(value, dict) and _is_environment(key, value))
        }
        if len(kept) == len(args):
            return None
        self.removed[ENVIRONMENTS] += len(args) - len(kept)
        return msgspec.json.encode(event | {"args": msgspec.Raw(msgspec.json.encode(kept))})

    def _token(self, found: re.Match[bytes], *, own: bool) -> bytes:
        """A string, or a key and its string, redacted; what was done to one is remembered."""
        known = self._cache.get((found[0], own))
        if known is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            before = self.removed.copy()
            text = self._pair(found, own=own)
            self._cache[found[0], own] = (text, self.removed - before)
            return text
        self.removed += known[1]
        return known[0]

    def _pair(self, found: re.Match[bytes], *, own: bool) -> bytes:
        key, colon, value = found["key"], found["colon"] or b"", found["value"]
        if not value:
            return self._changed(key, self._everywhere.text) + colon
        name = _text_of(key)
        if own and name in _OWN:
            redactor = self._in_names if name == "name" else None
            return key + colon + (self._changed(value, redactor.text) if redactor else value)
        return (
            self._changed(key, self._everywhere.text)
            + colon
            + self._changed(value, lambda text: self.under(name, text))
        )

    @staticmethod
    def _changed(raw: bytes, change: Callable[[str], str]) -> bytes:
        """A JSON string's own bytes, unless it changes."""
        text = _text_of(raw)
        changed = change(text)
        return raw if changed == text else msgspec.json.encode(changed)


_GONE: Final = object()


def _is_environment(key: str, value: Mapping[str, Any]) -> bool:
    """Whether an object holds a process's environment: by its own name, or since it is of NAME: text pairs."""
    variables = [name for name, each in value.items() if _VARIABLE.fullmatch(name) and isinstance(each, str)]
    return bool(_BLOCK_KEY.fullmatch(key)) or (len(variables) > 2 and 2 * len(variables) > len(value))


def _text_of(raw: bytes) -> str:
    """The text of a JSON string; half characters are replaced."""
    try:
        return msgspec.json.decode(raw, type=str)
    except UNDECODABLE:
        return raw[1:-1].decode("utf-8", "replace")


class _Writer(EventSink):
    """Writes the events of a file, redacted.

    Attributes:
        events: how many were written.
    """

    def __init__(self, out: BinaryIO, redactor: _Redactor) -> None:
        self._out, self._redactor = out, redactor
        self.events = 0

    def decode(self, array: bytes | memoryview) -> bool:
        data = bytes(array)
        try:
            msgspec.json.decode(data)  # all of it: what is copied has to be sound
            objects = _objects.decode(data)
        except UNDECODABLE:
            return False
        texts = [bytes(each) for each in objects]
        if not all(text.startswith(b"{") for text in texts):
            return False
        for text in texts:
            self._out.write((b",\n" if self.events else b"") + self._redactor.event(text))
            self.events += 1
        return True
