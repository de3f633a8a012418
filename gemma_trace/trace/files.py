"""How every trace file of ours is written: whole or not at all, and without the user's home folder in it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from isal import igzip

_COMPRESSION_LEVEL: Final = 2


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole; a failure leaves nothing behind. Gzip if it ends in .gz.

    Raises:
        OSError: it can't be written, or something else than a file has that name, such as a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "something else than a file has that name")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        opened: BinaryIO = (
            igzip.open(partial, "wb", compresslevel=_COMPRESSION_LEVEL)  # type: ignore[no-untyped-call]
            if path.suffix == ".gz"
            else partial.open("wb")
        )
        with opened as out:
            yield out
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def home_scrubber() -> Callable[[bytes], bytes]:
    """A function that puts `~` for the user's home folder wherever JSON text has it at the beginning of a path."""
    home = os.path.expanduser("~").rstrip("/\\")  # noqa: PTH111  Path.home() raises where there is none
    if len(home) <= 1:
        return lambda text: text
    pattern = re.compile(re.escape(msgspec.json.encode(home)[1:-1]) + rb"(?=[/\\\"])")
    return lambda text: pattern.sub(b"~", text)
