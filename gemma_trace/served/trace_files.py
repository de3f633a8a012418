"""The traces that a server writes into a folder: waited for, and copied beside the client's record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gemma_trace.errors import UnreadableError
from gemma_trace.opening import opened
from gemma_trace.remote import RemotePath, files_of
from gemma_trace.served.stamps import PATTERN

PROCESSES: Final = "processes"
"""The folder, beside the record, of the traces of a server's processes."""

SETTLED_S: Final = 2.0
"""A file that hasn't grown for so long is whole."""

_LOOK_EVERY_S: Final = 0.25
_PATTERNS: Final = ("*.json", "*.json.gz", PATTERN)

Known = dict[Path, tuple[int, int]]
"""Size in bytes and time of change of files."""


def known_files(folder: Path) -> Known:
    """The traces that are in a folder, or below it.

    Raises:
        UnreadableError: it can't be looked into.
    """
    known: Known = {}
    folder = _afresh(folder)
    try:
        for path in sorted({path for pattern in _PATTERNS for path in folder.rglob(pattern)}):
            if path.is_file() and not path.name.startswith("."):
                with suppress(FileNotFoundError):  # written under this name alone until it is whole
                    state = path.stat()
                    known[path] = (state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise UnreadableError(f"can't read {folder}: {error.strerror}; check --traces") from error
    return known


def _afresh(folder: Path) -> Path:
    """A folder as nobody has looked at it yet: what a URL names is otherwise asked for once."""
    if not isinstance(folder, RemotePath):
        return folder
    files_of(folder.url)[0].invalidate_cache()
    return RemotePath(folder.url)


def wait_for_new(folder: Path, before: Known, wait_s: float, now: Callable[[], float] = time.monotonic) -> list[Path]:
    """The files that weren't there before, once all have stopped growing.

    Args:
        wait_s: after so long those are taken that are there.
    """
    until = now() + wait_s
    last: Known = {}
    since = now()
    while True:
        new = {path: state for path, state in known_files(folder).items() if before.get(path) != state}
        if new != last:
            last, since = new, now()
        has_trace = any(not path.match(PATTERN) for path in new)
        if (has_trace and now() - since >= SETTLED_S) or now() >= until:
            return list(new)
        time.sleep(_LOOK_EVERY_S)


def keep(files: list[Path], folder: Path) -> tuple[list[str], list[str]]:
    """Copy traces into the folder of a record.

    Returns:
        Their paths in it, without those of the plugin's files, which are no traces; and a line for each file that can't
        be copied.
    """
    kept: list[str] = []
    notes: list[str] = []
    for number, path in enumerate(files):
        name = f"{PROCESSES}/{path.name}"
        if name in kept or (folder / name).exists():
            name = f"{PROCESSES}/{number}-{path.name}"
        try:
            (folder / PROCESSES).mkdir(parents=True, exist_ok=True)
            with opened(path) as file, (folder / name).open("wb") as out:
                shutil.copyfileobj(file, out)
        except OSError as error:
            notes.append(f"can't copy {path} into {folder}: {error.strerror}; check --traces")
            continue
        if not path.match(PATTERN):
            kept.append(name)
    return kept, notes
