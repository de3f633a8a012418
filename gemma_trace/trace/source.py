"""A file's bytes, inflated where they are gzip, a chunk at a time and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from isal import igzip_lib

from gemma_trace.errors import InputError

GZIP_MAGIC: Final = b"\x1f\x8b"
CHUNK_BYTES: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 1024 * 1024
_INFLATE_ERROR: Final = cast(type[Exception], igzip_lib.IsalError)  # its stub says it is an instance


@dataclass
class SourceState:
    """What reading a file brought to light; filled while the chunks are drawn."""

    compressed: bool = False
    inflated_bytes: int = 0
    truncated: bool = False
    """A gzip stream ends before its end."""
    damaged: bool = False
    """A gzip stream doesn't inflate; what came before does."""


def read_chunks(path: Path, state: SourceState) -> Iterator[bytes]:
    """The file's content in chunks of some 4 MiB. Gzip is told by its first bytes, not by the file's name.

    What a damaged or truncated gzip stream still yields is yielded, and `state` says so.

    Raises:
        InputError: the file doesn't exist or can't be read.
    """
    try:
        with path.open("rb") as file:
            state.compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            parts = _inflate(file, state) if state.compressed else iter(lambda: file.read(CHUNK_BYTES), b"")
            for part in parts:
                state.inflated_bytes += len(part)
                yield part
    except FileNotFoundError:
        raise InputError(f"no file at {path}; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give a trace file in it") from None
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error


def _inflate(file: BinaryIO, state: SourceState) -> Iterator[bytes]:
    """Inflate every member of a gzip file, CHUNK_BYTES at a time."""
    inflater = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    pending = file.read(_READ_BYTES)
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
            return
        started = True
        if part:
            yield part
        pending = file.read(_READ_BYTES) if inflater.eof or inflater.needs_input else b""
    state.truncated = started and not inflater.eof
