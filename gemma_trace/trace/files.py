"""How every trace file of ours is written: whole or not at all, and without the user's home folder in it."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

from gemma_trace.errors import OutputError
from gemma_trace.trace.gzip_blocks import GzipBlocks
from gemma_trace.trace.locks import if_abandoned, make_owned

PARTIAL_SUFFIX: Final = ".partial"


@contextlib.contextmanager
def atomic_file(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole; a failure leaves nothing behind. Gzip if it ends in .gz.

    What a killed process left on its way to the same name is cleared.

    Args:
        private: for this user alone, whatever the umask allows.

    Raises:
        OSError: it can't be written, or something else than a file has that name, such as a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "something else than a file has that name")
    clear_partials(path.parent, _partial_prefix(path))

    def make() -> tuple[Path, int]:
        partial = path.with_name(f"{_partial_prefix(path)}.{os.urandom(4).hex()}{PARTIAL_SUFFIX}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        return partial, os.open(partial, flags, 0o600 if private else 0o666)

    partial, descriptor = make_owned(make)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            if path.suffix == ".gz":
                with GzipBlocks(raw.write) as out:
                    yield cast(BinaryIO, out)
                    out.finish()
            else:
                yield raw
            raw.flush()
            partial.replace(path)  # while it is still locked, and so nobody takes it for left behind
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def output_file(path: Path, advice: str = "check --output") -> Iterator[BinaryIO]:
    """`atomic_file` for what the user asked for.

    Args:
        advice: what to do where it can't be written, for the message.

    Raises:
        OutputError: it can't be written.
    """
    try:
        with atomic_file(path) as file:
            yield file
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; {advice}") from error


def clear_partials(folder: Path, prefix: str = ".") -> None:
    """Remove the unfinished files of this prefix whose writer was killed."""
    with contextlib.suppress(OSError):
        for partial in folder.glob(f"{glob.escape(prefix)}*{PARTIAL_SUFFIX}"):
            with if_abandoned(partial) as abandoned, contextlib.suppress(OSError):
                if abandoned:
                    partial.unlink()


def _partial_prefix(path: Path) -> str:
    """What the unfinished file's name begins with; short enough for any name that is a file's."""
    return f".{path.name[:40]}"


def home_scrubber() -> Callable[[bytes], bytes]:
    """A function that puts `~` for the user's home folder wherever JSON text has it at the beginning of a path."""
    home = os.path.expanduser("~").rstrip("/\\")  # noqa: PTH111  Path.home() raises where there is none
    if len(home) <= 1:
        return lambda text: text
    pattern = re.compile(re.escape(msgspec.json.encode(home)[1:-1]) + rb"(?=[/\\\"])")
    return lambda text: pattern.sub(b"~", text)
