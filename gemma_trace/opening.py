"""Opens what a path on the command line names: a file; or a pipe, once what is written into it is here.

A pipe can be read only once, and commands read their input several times, so what comes out of one is copied into a
file without a name. Nothing waits for ever: a pipe that nobody writes into is an error, and so is any device.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final, cast

from gemma_trace.errors import UnreadableError
from gemma_trace.remote import RemotePath

WAIT_S: Final = 10.0
"""How long a pipe may have no writer."""
SILENCE_S: Final = 30.0
"""How long a writer may write nothing."""
MAX_FETCHED_BYTES: Final = 1 << 30
"""Of larger files no copy is made, which would take that much of the disk."""
MAX_PIPED_BYTES: Final = 64 << 30

_POLL_S: Final = 0.05
_PIECE_BYTES: Final = 1 << 20
_KINDS: Final = (
    (stat.S_ISCHR, "a device or a terminal"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)

_Piped = dict[tuple[int, int], BinaryIO]
_fetched: ContextVar[Mapping[Path, BinaryIO]] = ContextVar("_fetched", default=MappingProxyType({}))
_piped: ContextVar[_Piped | None] = ContextVar("_piped", default=None)


@contextlib.contextmanager
def pipes_kept() -> Iterator[None]:
    """While the block runs, what came out of a pipe is kept, so that the pipe can be opened again."""
    kept: _Piped = {}
    token = _piped.set(kept)
    try:
        yield
    finally:
        _piped.reset(token)
        for file in kept.values():
            file.close()


@contextlib.contextmanager
def fetched_once(path: Path) -> Iterator[None]:
    """While the block runs, a file behind a URL is read out of a copy, so that reading it again asks nobody again.

    A file of over `MAX_FETCHED_BYTES`, or whose size isn't known, is not copied.

    Raises:
        UnreadableError: it can't be read.
        FileNotFoundError: nothing is there.
    """
    if not isinstance(path, RemotePath) or not 0 < path.stat().st_size <= MAX_FETCHED_BYTES:
        yield
        return
    with _nameless_file() as copy:
        with path.open() as file:
            shutil.copyfileobj(file, copy, _PIECE_BYTES)
        token = _fetched.set({**_fetched.get(), path: copy})
        try:
            yield
        finally:
            _fetched.reset(token)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The content of a file or a pipe, at its beginning; it can be sought in.

    Raises:
        UnreadableError: it is a device or a socket, or a pipe that nobody writes into.
        OSError: it doesn't exist or can't be read.
    """
    if (copy := _fetched.get().get(path)) is not None:
        copy.seek(0)
        yield copy
        return
    state = path.stat()
    for is_kind, kind in _KINDS:
        if is_kind(state.st_mode):
            raise UnreadableError(f"{path} is {kind}; give a file, or a pipe that something writes into")
    if not stat.S_ISFIFO(state.st_mode):
        with path.open("rb") as file:
            yield file
        return
    kept = _piped.get()
    key = (state.st_dev, state.st_ino)
    if kept is not None and key in kept:
        kept[key].seek(0)
        yield kept[key]
        return
    with contextlib.ExitStack() as stack:
        copy = _nameless_file()
        if kept is None:
            stack.enter_context(copy)
        else:
            kept[key] = copy
        for piece in _pieces(path):
            copy.write(piece)
        copy.seek(0)
        yield copy


def _nameless_file() -> BinaryIO:
    import tempfile  # which takes long to import, and few commands are given a pipe or a URL

    return cast(BinaryIO, tempfile.TemporaryFile())


def _pieces(path: Path) -> Iterator[bytes]:
    """What is written into a pipe, until its writers have closed it."""
    pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        total = 0
        began = heard = time.monotonic()
        while True:
            try:
                piece = os.read(pipe, _PIECE_BYTES)
            except BlockingIOError:  # there is a writer, and nothing to read
                if time.monotonic() - heard > SILENCE_S:
                    raise UnreadableError(
                        f"{path} is a pipe into which nothing was written for {SILENCE_S:.0f} s; "
                        "write the trace into a file, and give that"
                    ) from None
                select.select([pipe], [], [], 1.0)
                continue
            heard = time.monotonic()
            if piece:
                total += len(piece)
                if total > MAX_PIPED_BYTES:
                    raise UnreadableError(
                        f"{path} gives over {MAX_PIPED_BYTES >> 30} GiB; write a shorter trace into a file"
                    )
                yield piece
            elif total:
                return
            elif heard - began > WAIT_S:
                raise UnreadableError(
                    f"{path} is a pipe that nobody wrote into for {WAIT_S:.0f} s; start the program that writes the "
                    f"trace into it, or give a file"
                )
            else:  # no writer yet
                time.sleep(_POLL_S)
    finally:
        os.close(pipe)
