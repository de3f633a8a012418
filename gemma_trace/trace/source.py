"""A file's bytes, inflated where they are gzip, a chunk at a time and in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

from isal import igzip_lib, isal_zlib

from gemma_trace.errors import UnreadableError
from gemma_trace.opening import opened

GZIP_MAGIC: Final = b"\x1f\x8b"
CHUNK_BYTES: Final = 1024 * 1024
MAX_INFLATED_BYTES: Final = 64 << 30
"""No profiler writes more; a small file that claims to is a bomb."""

INFLATES: Final = 16
"""Some times as long as its compressed file a trace is."""

_READ_BYTES: Final = 256 * 1024
_SALVAGE_BYTES: Final = 64 * 1024
_ZLIB_GZIP: Final = 31  # zlib.h: 15 bits of window, and 16 for a gzip header
_INFLATE_ERROR: Final = cast(type[Exception], igzip_lib.IsalError)  # its stub says it is an instance


@dataclass
class Fingerprint:
    """What tells a file's content from another's that took its place, at hardly any cost; no proof against intent."""

    size_bytes: int = 0
    crc32: int = 0

    def add(self, part: bytes) -> None:
        """The next bytes of the file."""
        self.size_bytes += len(part)
        self.crc32 = isal_zlib.crc32(part, self.crc32)


@dataclass
class SourceState:
    """What reading a file brought to light; filled while the chunks are drawn.

    Attributes:
        on_bytes: hears how many bytes were read from the file, each time some are.
    """

    on_bytes: Callable[[int], None] | None = None

    compressed: bool = False
    inflated_bytes: int = 0
    truncated: bool = False
    """A gzip stream ends before its end."""
    damaged: bool = False
    """A gzip stream doesn't inflate; what came before does."""
    content: Fingerprint = field(default_factory=Fingerprint, compare=False)
    """Of the file as it was read; of all of it once every chunk is drawn."""


def read_chunks(path: Path, state: SourceState) -> Iterator[bytes]:
    """The file's content in chunks of some 1 MiB. Gzip is told by its first bytes, not by the file's name.

    What a damaged or truncated gzip stream still yields is yielded, and `state` says so.

    Raises:
        UnreadableError: the file doesn't exist or can't be read, or it is a pipe that nobody writes into.
    """
    try:
        with opened(path) as file:
            state.compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            for part in _inflate(file, state) if state.compressed else _plain(file, state):
                state.inflated_bytes += len(part)
                if state.inflated_bytes > MAX_INFLATED_BYTES:
                    raise UnreadableError(
                        f"{path} inflates to over {MAX_INFLATED_BYTES >> 30} GiB; capture fewer steps"
                    )
                yield part
            while _read(file, CHUNK_BYTES, state):
                pass  # padding: it belongs to the content
    except FileNotFoundError:
        raise UnreadableError(f"no file at {path}; check the path") from None
    except IsADirectoryError:
        raise UnreadableError(f"{path} is a folder; give a trace file in it") from None
    except OSError as error:
        raise UnreadableError(f"can't read {path}: {error.strerror or error}") from error


def expected_json_bytes(file_bytes: int, *, compressed: bool) -> int:
    """How long a file's JSON will be, some."""
    return file_bytes * (INFLATES if compressed else 1)


def _read(file: BinaryIO, size: int, state: SourceState) -> bytes:
    data = file.read(size)
    state.content.add(data)
    if state.on_bytes:
        state.on_bytes(len(data))
    return data


def _plain(file: BinaryIO, state: SourceState) -> Iterator[bytes]:
    while part := _read(file, CHUNK_BYTES, state):
        yield part


def _inflate(file: BinaryIO, state: SourceState) -> Iterator[bytes]:
    """Inflate every member of a gzip file, CHUNK_BYTES at a time."""
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    pending = _read(file, _READ_BYTES, state)
    started = False
    while pending or not inflater.needs_input:
        if inflater.eof:
            pending = inflater.unused_data + pending
            if not pending.startswith(GZIP_MAGIC):
                return  # padding after the last member
            inflater, started = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), False
        try:
            part = inflater.decompress(pending, CHUNK_BYTES)
        except _INFLATE_ERROR:
            state.damaged = True
            yield from _salvage(file, state.inflated_bytes)
            file.seek(state.content.size_bytes)
            return
        started = True
        if part:
            yield part
        pending = _read(file, _READ_BYTES, state) if inflater.eof or inflater.needs_input else b""
    state.truncated = started and not inflater.eof


def _salvage(file: BinaryIO, skip: int) -> Iterator[bytes]:
    """Inflate a damaged file from its start, up to the very byte that is damaged.

    igzip keeps nothing of the call in which it fails. zlib does no better, but it can be taken back to where it was
    before the call, and then be fed byte by byte.

    Args:
        skip: how much of the inflated data has been yielded already.
    """
    file.seek(0)
    inflater: zlib._Decompress | None = zlib.decompressobj(_ZLIB_GZIP)
    while inflater and (piece := file.read(_SALVAGE_BYTES)):
        before = inflater.copy()
        parts, inflater = _inflate_members(inflater, piece, len(piece))
        if inflater is None:
            parts, _ = _inflate_members(before, piece, 1)
        data = b"".join(parts)
        yield data[skip:]
        skip = max(0, skip - len(data))


def _inflate_members(
    inflater: zlib._Decompress, piece: bytes, step: int
) -> tuple[list[bytes], zlib._Decompress | None]:
    """Inflate a piece of a file, `step` bytes at a time, across the ends of its members.

    Returns:
        What it inflates to, and the inflater to go on with; None where the data is damaged.
    """
    parts = []
    for start in range(0, len(piece), step):
        data = piece[start : start + step]
        try:
            while data:
                parts.append(inflater.decompress(data))
                data = inflater.unused_data
                if inflater.eof:
                    inflater = zlib.decompressobj(_ZLIB_GZIP)
        except zlib.error:
            return parts, None
    return parts, inflater
