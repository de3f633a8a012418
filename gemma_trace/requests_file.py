"""Requests as people have them: a JSONL file of chat messages in OpenAI's form, one request a line. Free of torch.

`capture --requests` runs what is in it, and so does whatever drives a server. The format is in
`analysis/docs/requests.md`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from gemma_trace.errors import ConfigError, InputError, UnreadableError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.opening import opened
from gemma_trace.request_media import Media, MediaKind, media_at, media_of_base64

MAX_LINE_BYTES: Final = 256 << 20
"""Of one request, images as `data:` URLs included."""
MAX_FILE_BYTES: Final = 2 << 30
MAX_REQUESTS: Final = 1_000_000
MAX_ID_CHARACTERS: Final = 200
MAX_NEW_TOKENS: Final = 10_000_000

_OPTION: Final = "--requests"
_SYSTEM_ROLES: Final = ("system", "developer")
_ROLES: Final = ("user", "assistant")
_LINE_KEYS: Final = frozenset(
    {"id", "custom_id", "body", "method", "url", "messages", "max_completion_tokens", "max_tokens", "max_new_tokens"}
)


@dataclass(frozen=True)
class Text:
    """A piece of text of a message."""

    text: str


@dataclass(frozen=True)
class Turn:
    """What one side says.

    Attributes:
        role: `user` or `assistant`.
        parts: in the order in which the message has them.
    """

    role: str
    parts: tuple[Text | Media, ...]


@dataclass(frozen=True)
class ChatRequest:
    """One request: what a client has in hand before the clock starts.

    Attributes:
        id: names it in tables; no other request of the file has it.
        turns: the conversation, of which the last turn is the user's.
        system: the system message.
        max_new_tokens: how many tokens to generate; None where the file leaves it to the command.
        not_read: members of the line that say something else, such as `temperature`.
    """

    id: str
    turns: tuple[Turn, ...]
    system: str | None = None
    max_new_tokens: int | None = None
    not_read: tuple[str, ...] = field(default=(), compare=False)

    @property
    def parts(self) -> tuple[Text | Media, ...]:
        """The parts of all messages but the system message."""
        return tuple(part for turn in self.turns for part in turn.parts)

    def media(self, kind: MediaKind) -> tuple[Media, ...]:
        """Its images, videos or audio, in order."""
        return tuple(part for part in self.parts if isinstance(part, Media) and part.kind == kind)


def read_requests(path: Path, online: bool = False) -> list[ChatRequest]:
    """The requests of a file, in its order.

    Files that it names are looked for beside it; that they are there is checked, what is in them isn't.

    Args:
        online: whether an image may be an http(s) URL; it isn't fetched here, but by `Media.read`.

    Raises:
        UnreadableError: the file isn't there, has no requests, or a line of it is none; the message is one line that
            says which.
        ConfigError: a request has a URL, and `online` isn't set.
    """
    requests: list[ChatRequest] = []
    lines_by_id: dict[str, int] = {}
    for number, line in _lines(path):
        where = f"line {number} of {path}"
        request = _Reader(path.parent, where, online).request(line, number)
        if request.id in lines_by_id:
            raise UnreadableError(
                f"{where} has the id {request.id!r}, as line {lines_by_id[request.id]} has; change it"
            )
        lines_by_id[request.id] = number
        requests.append(request)
        if len(requests) > MAX_REQUESTS:
            raise UnreadableError(f"{path} has over {MAX_REQUESTS:,} requests, which is the limit; split it")
    if not requests:
        raise UnreadableError(f"{path} has no requests in it; write one JSON object with messages a line")
    return requests


def shuffled(requests: Sequence[ChatRequest], seed: int | None) -> list[ChatRequest]:
    """The requests in an order that depends on the seed alone; without a seed in their own."""
    order = list(requests)
    if seed is not None:
        random.Random(seed).shuffle(order)
    return order


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that have something on them, with their numbers."""
    total = number = 0
    try:
        with opened(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                total += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise UnreadableError(
                        f"line {number} of {path} is over {MAX_LINE_BYTES >> 20} MiB; name images by their path"
                    )
                if total > MAX_FILE_BYTES:
                    raise UnreadableError(f"{path} is over {MAX_FILE_BYTES >> 30} GiB; name images by their path")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise UnreadableError(f"no file at {path}; check {_OPTION}") from None
    except OSError as error:
        raise UnreadableError(f"can't read {path}: {error.strerror}; check {_OPTION}") from None


class _Message(msgspec.Struct):
    role: str
    content: str | list[str | _Part] | None = None


class _Url(msgspec.Struct):
    url: str


class _Audio(msgspec.Struct):
    data: str


class _Part(msgspec.Struct):
    """A part in OpenAI's form (`image_url`), or in that of transformers (`image`, with `url`, `path` or `base64`)."""

    type: str
    text: str | None = None
    image_url: str | _Url | None = None
    video_url: str | _Url | None = None
    audio_url: str | _Url | None = None
    input_audio: _Audio | None = None
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    url: str | None = None
    path: str | None = None
    base64: str | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    max_new_tokens: int | None = None


class _Named(msgspec.Struct):
    id: str | int | None = None
    custom_id: str | int | None = None


_KINDS: Final[dict[str, MediaKind]] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "video": "video",
    "video_url": "video",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
}


class _Reader:
    """Reads one line.

    Args:
        folder: against which paths are taken.
        where: the line, for messages.
    """

    def __init__(self, folder: Path, where: str, online: bool) -> None:
        self._folder = folder
        self._where = where
        self._online = online

    def request(self, line: bytes, number: int) -> ChatRequest:
        """The request of a line; its id is the line's number where it has none."""
        members: dict[str, msgspec.Raw] = self._decoded(line, dict[str, msgspec.Raw])
        told = bytes(members["body"]) if "body" in members else line  # as OpenAI's batch files have it
        body: _Body = self._decoded(told, _Body)
        inner: dict[str, Any] = self._decoded(told, dict[str, msgspec.Raw])
        system, messages = self._system(body.messages)
        turns = tuple(self._turn(message) for message in messages)
        if not turns or turns[-1].role != "user":
            raise self._wrong("its last message is not the user's", "end it with one of the role user")
        return ChatRequest(
            id=self._id(self._decoded(line, _Named), number),
            turns=turns,
            system=system,
            max_new_tokens=self._new_tokens(body),
            not_read=tuple(sorted((set(members) | set(inner)) - _LINE_KEYS)),
        )

    def _id(self, named: _Named, number: int) -> str:
        given = named.custom_id if named.id is None else named.id
        name = str(number if given is None else given).strip()
        if not 0 < len(name) <= MAX_ID_CHARACTERS:
            raise self._wrong(f"its id has {len(name)} characters", f"give it 1 to {MAX_ID_CHARACTERS}")
        return name

    def _new_tokens(self, body: _Body) -> int | None:
        for given in (body.max_completion_tokens, body.max_new_tokens, body.max_tokens):
            if given is None:
                continue
            if not 1 <= given <= MAX_NEW_TOKENS:
                raise self._wrong(f"it asks for {given} new tokens", "ask for 1 or more")
            return given
        return None

    def _system(self, messages: list[_Message]) -> tuple[str | None, list[_Message]]:
        """The system message, which is the first if there is one, and the others."""
        if not messages or messages[0].role not in _SYSTEM_ROLES:
            return None, messages
        parts = self._parts(messages[0])
        if not all(isinstance(part, Text) for part in parts):
            raise self._wrong("its system message has more than text in it", "put images into a message of the user's")
        return "\n".join(part.text for part in parts if isinstance(part, Text)), messages[1:]

    def _turn(self, message: _Message) -> Turn:
        if message.role in _SYSTEM_ROLES:
            raise self._wrong("a system message follows other messages", "put one system message first")
        if message.role not in _ROLES:
            raise self._wrong(f"{message.role!r} is no role of a message", "give system, user or assistant")
        parts = self._parts(message)
        if not parts:
            raise self._wrong("a message of it is empty", "give it content")
        return Turn(message.role, parts)

    def _parts(self, message: _Message) -> tuple[Text | Media, ...]:
        content = message.content or []
        if isinstance(content, str):
            return (Text(content),)
        return tuple(Text(part) if isinstance(part, str) else self._part(part) for part in content)

    def _part(self, part: _Part) -> Text | Media:
        if part.type in ("text", "input_text"):
            if part.text is None:
                raise self._wrong("a part of type text has no text", "write it as text")
            return Text(part.text)
        kind = _KINDS.get(part.type)
        if kind is None:
            raise self._wrong(f"{part.type!r} is no type of a part", "give text, image_url, video_url or audio_url")
        try:
            if encoded := part.base64 or (part.input_audio and part.input_audio.data):
                return media_of_base64(kind, encoded)
            return media_at(kind, self._address(part, kind), self._folder, online=self._online)
        except ConfigError as error:
            raise ConfigError(f"{self._where}: {error}") from None
        except InputError as error:
            raise UnreadableError(f"{self._where}: {error}") from None

    def _address(self, part: _Part, kind: MediaKind) -> str:
        given = (getattr(part, f"{kind}_url"), getattr(part, kind), part.url, part.path)
        for each in given:
            if each is not None:
                return each.url if isinstance(each, _Url) else str(each)
        raise self._wrong(f"a part of type {part.type} names no {kind}", f"name it as {kind}_url")

    def _decoded(self, data: bytes, kind: Any) -> Any:
        try:
            return decoded(data, kind)
        except UnreadableValueError as error:
            raise self._wrong(f"it can't be read ({error})", "write one JSON object with messages a line") from None

    def _wrong(self, what: str, advice: str) -> UnreadableError:
        return UnreadableError(f"{self._where} is no request: {what}; {advice}")
