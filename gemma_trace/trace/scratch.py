"""Folders for what is needed while a command runs. What a killed one left is cleared by the next one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gemma_trace.trace.locks import if_abandoned, make_owned

PREFIX: Final = "gemma-trace-scratch-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of this user's alone in the system's folder for such, which is gone when the block ends."""
    clear_abandoned()
    folder, descriptor = make_owned(_make)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def clear_abandoned() -> None:
    """Remove the scratch folders whose process was killed."""
    with contextlib.suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            with if_abandoned(folder) as abandoned:
                if abandoned and folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)


def _make() -> tuple[Path, int]:
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        return folder, os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return folder, -1
