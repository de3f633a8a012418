"""Images, videos and audio of a request: a file, bytes out of a `data:` URL, or an http(s) URL. Free of torch."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from gemma_trace._version import __version__
from gemma_trace.errors import ConfigError, UnreadableError
from gemma_trace.remote_errors import WEB, shown_url

MediaKind = Literal["image", "video", "audio"]

MAX_MEDIA_BYTES: Final = 1 << 30
"""Larger files are refused unread."""

_FETCH_S: Final = 60.0
"""How long a server may say nothing."""
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Of two letters or more: one alone is a drive."""
_SIGNATURES: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"BM"), "image/bmp"),
    (re.compile(rb"II\*\0|MM\0\*"), "image/tiff"),
    (re.compile(rb"RIFF....WAVE", re.DOTALL), "audio/wav"),
    (re.compile(rb"fLaC"), "audio/flac"),
    (re.compile(rb"OggS"), "audio/ogg"),
    (re.compile(rb"ID3|\xff[\xf2\xf3\xfb]"), "audio/mpeg"),
    (re.compile(rb"....ftyp", re.DOTALL), "video/mp4"),
    (re.compile(rb"\x1a\x45\xdf\xa3"), "video/webm"),
)


@dataclass(frozen=True)
class Media:
    """An image, a video or a piece of audio, not yet read.

    Attributes:
        source: a file; the bytes themselves; or an http(s) URL.
    """

    kind: MediaKind
    source: Path | bytes | str = field(repr=False)

    def read(self) -> bytes:
        """Its bytes, as they are in the file; of a URL those that its server sends.

        Raises:
            UnreadableError: it can't be read, or is over `MAX_MEDIA_BYTES`.
        """
        if isinstance(self.source, bytes):
            return self.source
        try:
            data = _fetched(self.source) if isinstance(self.source, str) else _read(self.source)
        except OSError as error:  # urllib's errors are OSErrors, too
            reason = error.strerror or getattr(error, "reason", None) or type(error).__name__
            raise UnreadableError(f"can't read {self.shown}: {reason}") from None
        if len(data) > MAX_MEDIA_BYTES:
            raise UnreadableError(f"{self.shown} is over {MAX_MEDIA_BYTES >> 30} GiB, which is too large")
        return data

    @property
    def shown(self) -> str:
        """What messages call it."""
        if isinstance(self.source, bytes):
            return f"{self.kind} of {len(self.source):,} bytes"
        return shown_url(self.source) if isinstance(self.source, str) else str(self.source)


def mime_type(media: Media, data: bytes) -> str:
    """The media type that content has by its first bytes, or else by its file's name.

    >>> mime_type(Media("image", Path("photo.png")), b"\\xff\\xd8\\xff\\xe0")
    'image/jpeg'
    """
    for signature, name in _SIGNATURES:
        if signature.match(data):
            return name
    named = media.source if isinstance(media.source, str) else str(media.source) if media.source else ""
    if isinstance(media.source, bytes):
        named = ""
    return mimetypes.guess_type(named.partition("?")[0])[0] or f"{media.kind}/*"


def media_at(kind: MediaKind, address: str, folder: Path, *, online: bool) -> Media:
    """What a path, a `file:`, `data:` or http(s) URL names.

    Args:
        folder: against which a path is taken that is not absolute.

    Raises:
        ConfigError: it is an http(s) URL, and `online` isn't set.
        UnreadableError: there is no such file, or it can't be told what is meant.
    """
    scheme_match = _SCHEME.match(address[:40])
    scheme = scheme_match[1].lower() if scheme_match else ""
    if scheme in WEB:
        if not _host(address):
            raise UnreadableError(f"{shown_url(address)[:200]!r} names no server; check it")
        if not online:
            raise ConfigError(
                f"the {kind} {shown_url(address)[:200]} is on the network; give --online to have it fetched, or a file"
            )
        return Media(kind, address)
    if scheme == "data":
        return _in_data_url(kind, address)
    if scheme == "file":
        address = unquote(address[len("file:") :].removeprefix("//localhost").removeprefix("//"))
    elif scheme and not os.path.exists(folder / address):  # noqa: PTH110  Path's raises where a name is too long
        raise UnreadableError(f"nothing of {scheme}: can be read; give the {kind} as a path, or a data: or http(s) URL")
    return Media(kind, _file(kind, address, folder))


def media_of_base64(kind: MediaKind, encoded: str) -> Media:
    """What base64 encodes.

    Raises:
        UnreadableError: it is no base64, or nothing.
    """
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableError(f"the base64 of the {kind} can't be decoded; encode it again") from None
    if not data:
        raise UnreadableError(f"the {kind} has no bytes in it; encode it again")
    return Media(kind, data)


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # brackets that aren't an address of IPv6
        return None


def _in_data_url(kind: MediaKind, address: str) -> Media:
    head, comma, content = address.partition(",")
    if not comma:
        raise UnreadableError(f"the data: URL of the {kind} has no comma before its content; write data:…;base64,…")
    if head.lower().endswith(";base64"):
        return media_of_base64(kind, unquote(content))
    data = unquote_to_bytes(content)
    if not data:
        raise UnreadableError(f"the {kind} has no bytes in it; encode it again")
    return Media(kind, data)


def _file(kind: MediaKind, address: str, folder: Path) -> Path:
    """The file at a path, which is there and is a file."""
    shown = address if len(address) <= 200 else f"{address[:200]}…"
    if not address:
        raise UnreadableError(f"the path of the {kind} is empty")
    path = folder / address
    try:
        state = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte in it
        reason = getattr(error, "strerror", None) or "no file has such a name"
        raise UnreadableError(f"no {kind} at {shown!r} ({reason}); paths are taken from the file's folder") from None
    if not stat.S_ISREG(state.st_mode):
        raise UnreadableError(f"{shown!r} is a folder or a device, not {kind}; give a file")
    if state.st_size > MAX_MEDIA_BYTES:
        raise UnreadableError(f"{shown!r} is over {MAX_MEDIA_BYTES >> 30} GiB, which is too large")
    return path


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_MEDIA_BYTES + 1)


def _fetched(url: str) -> bytes:
    from urllib.request import Request, urlopen

    asked = Request(url, headers={"User-Agent": f"gemma-trace/{__version__}"})
    with urlopen(asked, timeout=_FETCH_S) as answer:
        content: bytes = answer.read(MAX_MEDIA_BYTES + 1)
    return content
