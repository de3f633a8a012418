"""The folder that holds runs: who may write there, and what sweeps wrote down about it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.run_names import fingerprint
from gemma_trace.errors import OutputError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.trace.files import clear_partials, output_file
from gemma_trace.trace.locks import locked

RECORD_NAME: Final = "sweep.json"
RECORD_VERSION: Final = 1

_LOCK_NAME: Final = ".gemma-trace.lock"


@dataclass(frozen=True)
class Record:
    """What sweeps wrote down, by the name of a cell.

    Attributes:
        failed: why, in a line.
        options: the fingerprint of the options that the cell's folder is for.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = RECORD_VERSION


def read_record(output: Path) -> Record:
    """What is recorded in this folder; what can't be read is nothing."""
    try:
        record: Record = decoded((output / RECORD_NAME).read_bytes(), Record)
    except (OSError, UnreadableValueError):
        return Record()
    return record


def write_record(output: Path, record: Record) -> None:
    """Write it down.

    Raises:
        OutputError: the folder can't be written.
    """
    with output_file(output / RECORD_NAME, "check --out-dir") as out:
        out.write(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def make_folder(output: Path) -> None:
    """Make the folder that holds runs.

    Raises:
        OutputError: it can't be made, or written into.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't make the folder {output}: {error.strerror}; check --out-dir") from error
    if not os.access(output, os.W_OK):
        raise OutputError(f"can't write into {output}; give --out-dir a folder that can be written")


def traces_in(folder: Path, worker: str = "*") -> list[Path]:
    """The traces of a run, those of one worker or of all."""
    try:
        traces = folder.glob(f"{worker}.*.pt.trace.json*")
        return sorted(trace for trace in traces if not trace.name.startswith("."))  # those are unfinished
    except OSError:  # a name that is too long for a folder's
        return []


@contextlib.contextmanager
def lock_output(output: Path, *, whole: bool) -> Iterator[None]:
    """Keep others out of a folder that exists while the block runs.

    Args:
        whole: a sweep's, which has the folder for itself; captures share it, each with its own run.

    Raises:
        OutputError: a sweep writes there, or a capture while `whole` is asked for.
    """
    with locked(output / _LOCK_NAME, shared=not whole) as free:
        if not free:
            who = "sweep or capture" if whole else "sweep"
            raise OutputError(
                f"another {who} writes into {output}; wait until it has ended, or give --out-dir another folder"
            )
        yield


@contextlib.contextmanager
def lock_run(output: Path, run: str, worker: str) -> Iterator[None]:
    """Keep other captures out of one run, whose traces are this worker's, while the block runs.

    Raises:
        OutputError: another capture writes it.
    """
    with locked(output / f".{run}.{worker}.lock") as free:
        if not free:
            raise OutputError(
                f"another capture writes into {output / run}; wait until it has ended, or give --name another name"
            )
        yield


@contextlib.contextmanager
def made(output: Path) -> Iterator[None]:
    """The folder is there while the block runs, if it can be; made for it, it goes again if nothing was put there."""
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    with contextlib.suppress(OSError):  # of which whoever writes will hear
        output.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for folder in missing:
                folder.rmdir()


def previous_traces(config: CaptureConfig, run: str, worker: str) -> list[Path]:
    """The traces of the run that a new one would stand beside; they go when the new one is whole.

    What a killed capture left unfinished there goes at once.

    Raises:
        OutputError: there are some and `force` isn't set, or they are a sweep's of other options; or the folder
            can't be written.
    """
    folder = config.output / run
    previous = traces_in(folder, worker)
    if previous and not config.force:
        raise OutputError(f"{folder} has a trace in it already; give another --name, or --force to replace it")
    key = fingerprint(config)
    if previous and read_record(config.output).options.get(run, key) != key:
        raise OutputError(f"{folder} has a trace in it that a sweep captured with other options; give another --name")
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(f"can't write into {existing}; give --out-dir a folder that can be written")
    clear_partials(folder, f".{worker}.")
    return previous
