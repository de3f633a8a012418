"""A matrix of captures, one process each, so that a crash costs one cell; resumable at any moment.

What is done is told by the traces themselves: a cell whose folder holds a trace of the same options isn't run again.
What failed stands in the folder's `sweep.json`. Nothing here imports torch; the processes do.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.options import as_option, parsed_option
from gemma_trace.errors import ConfigError, InputError, OutputError
from gemma_trace.trace.opening import read_text
from gemma_trace.trace.short_paths import PathScrubber
from gemma_trace.trace.trace import load_metadata

RECORD_NAME: Final = "sweep.json"
RECORD_VERSION: Final = 1

STUDY: Final[Mapping[str, Any]] = {
    "matrix": {
        "model": ["4b", "12b", "27b"],
        "dtype": ["bfloat16", "float32"],
        "device": ["cuda", "cpu"],
        "image_backend": ["torchvision", "pil"],
    },
    "options": {"runs": 10, "warmup": 10, "profile_runs": 1},
}
"""The reference study's matrix: 24 cells, 10 runs after 10 warm-ups."""

State = Literal["waiting", "running", "done", "failed"]
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


@dataclass(frozen=True)
class Cell:
    """One capture of a sweep.

    Attributes:
        state: `done` and `failed` may be from an earlier time.
        phase: what it is doing, while it runs.
        error: why it failed, in a line.
        seconds: how long it took, if it ran now.
    """

    config: CaptureConfig
    state: State = "waiting"
    phase: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The run's name; `auto` stands for a device that isn't known before it runs."""
        return self.config.run_name(self.config.device.split(":")[0])

    @property
    def folder(self) -> Path:
        """Where its trace goes."""
        return self.config.output / self.name


def read_matrix(path: Path) -> Mapping[str, Any]:
    """A sweep's TOML file: a table `matrix` of lists, and a table `options` of what is the same for all.

    Raises:
        InputError: it can't be read as TOML.
    """
    try:
        return tomllib.loads(read_text(path))
    except FileNotFoundError:
        raise InputError(f"no file at {path}; give a TOML file, or study") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"can't read {path} as TOML: {error}") from error


def plan(matrix: Mapping[str, Any], output: Path, changes: Sequence[str] = ()) -> list[Cell]:
    """The cells of a matrix, the last axis the fastest.

    Args:
        matrix: tables `matrix` (lists of values by option) and `options` (values by option).
        output: the folder that holds the runs.
        changes: `OPTION=VALUE` or `OPTION=VALUE,VALUE…`, which stand over the matrix.

    Raises:
        ConfigError: no such option, a value that makes no sense, or two cells of one name.
    """
    if unknown := set(matrix) - {"matrix", "options"}:
        raise ConfigError(f"a sweep has the tables [matrix] and [options], not {', '.join(sorted(unknown))}")
    for table in matrix:
        if not isinstance(matrix[table], Mapping):
            raise ConfigError(f"{table} is no table; write [{table}] on a line of its own")
    axes = {name: list(_listed(name, values)) for name, values in matrix.get("matrix", {}).items()}
    options = dict(matrix.get("options", {}))
    for text in changes:
        name, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} is no OPTION=VALUE, e.g. model=4b,12b")
        options.pop(name, None)
        axes[name] = [parsed_option(name, value) for value in values.split(",")]
    known = {field.name for field in fields(CaptureConfig)} - {"output", "force", "name"}
    if wrong := [name for name in [*axes, *options] if name not in known]:
        raise ConfigError(f"a capture has no option {wrong[0]!r}; it has {', '.join(sorted(known))}")
    axes = {name: [as_option(name, value) for value in values] for name, values in axes.items()}
    options = {name: as_option(name, value) for name, value in options.items()}
    cells = [
        Cell(CaptureConfig(**options | dict(zip(axes, combination, strict=True)), output=output, force=True))
        for combination in product(*axes.values())
    ]
    names = [cell.name for cell in cells]
    twice = {name for name in names if names.count(name) > 1}
    # What doesn't tell one run from another by itself has to be in its name.
    for index, cell in enumerate(cells):
        if cell.name in twice:
            varying = "-".join(f"{axis}-{getattr(cell.config, axis)}" for axis in axes if len(axes[axis]) > 1)
            cells[index] = Cell(replace(cell.config, name=_as_name(varying)))
    return cells


def run_sweep(cells: Sequence[Cell], *, retry: bool, on_change: Callable[[list[Cell]], None]) -> list[Cell]:
    """Run what isn't done, one process after the other.

    Args:
        retry: run cells again that failed before.
        on_change: hears all cells whenever one of them changes.

    Returns:
        The cells, each `done` or `failed`.

    Raises:
        OutputError: the folder that holds the runs can't be written.
    """
    _make_folder(cells[0].config.output)
    current = [_from_before(cell, retry=retry) for cell in cells]
    on_change(current)
    for index, cell in enumerate(current):
        if cell.state != "waiting":
            continue
        for state in _run(cell):
            current[index] = state
            on_change(current)
        _record(current)
    _record(current)
    return current


def _from_before(cell: Cell, *, retry: bool) -> Cell:
    """What an earlier sweep left of a cell."""
    for trace in sorted(cell.folder.glob("*.pt.trace.json.gz")):
        try:
            metadata = load_metadata(trace)
        except InputError:
            continue  # cut off while it was written
        if metadata and same_options(metadata.config, cell.config):
            return replace(cell, state="done")
    if not retry and (failed := _read_record(cell.config.output).get(cell.name)):
        return replace(cell, state="failed", error=str(failed))
    return cell


def same_options(recorded: Mapping[str, Any], config: CaptureConfig) -> bool:
    """Whether a trace was captured with these options; the device is recorded as it was found."""
    scrub = PathScrubber(keep_paths=config.keep_paths)
    wanted = json.loads(scrub(msgspec.json.encode(config.record())))
    device, found = wanted.pop("device"), str(recorded.get("device"))
    same_device = device == "auto" or found.split(":")[0] == device.split(":")[0]
    return same_device and all(recorded.get(name) == value for name, value in wanted.items())


def _run(cell: Cell) -> Iterator[Cell]:
    """Run a cell's process; a cell each time that it has something new to say."""
    began = time.monotonic()
    yield (running := replace(cell, state="running", phase="starting"))
    given = msgspec.json.encode(cell.config, enc_hook=str)
    error = ""
    with subprocess.Popen(
        [sys.executable, "-m", "gemma_trace.capture.cell"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what a cell has to say it says on stdout; libraries may name files and hosts
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(given)
        process.stdin.close()
        for line in process.stdout:
            said = _said(line)
            error = said.get("error", error)
            if "phase" in said:
                yield (running := replace(running, phase=said["phase"], seconds=time.monotonic() - began))
        code = process.wait()
    seconds = time.monotonic() - began
    if code == 0:
        yield replace(cell, state="done", seconds=seconds)
    else:
        yield replace(cell, state="failed", error=error or _ended(code), seconds=seconds)


def _said(line: bytes) -> dict[str, str]:
    """A line of a cell's process; what isn't ours (a library that prints) is nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}


def _ended(code: int) -> str:
    """How a process ended that said nothing."""
    if code == -signal.SIGKILL:
        return "killed, most likely for want of memory"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"


def _die_with_parent() -> None:
    """In the new process: let the kernel end it when the sweep is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _record(cells: Sequence[Cell]) -> None:
    """Write down what failed, beside what other sweeps into this folder left."""
    output = cells[0].config.output
    failed = _read_record(output)
    for cell in cells:
        failed.pop(cell.name, None)
        if cell.state == "failed":
            failed[cell.name] = cell.error
    partial = output / f".{RECORD_NAME}.{os.getpid()}.partial"
    try:
        partial.write_text(json.dumps({"schema_version": RECORD_VERSION, "failed": failed}, indent=2) + "\n")
        partial.replace(output / RECORD_NAME)
    except OSError as error:
        raise OutputError(f"can't write {output / RECORD_NAME}: {error.strerror}; check --output") from error
    finally:
        partial.unlink(missing_ok=True)


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't make the folder {output}: {error.strerror}; check --output") from error
    if not os.access(output, os.W_OK):
        raise OutputError(f"can't write into {output}; give --output a folder that can be written")


def _read_record(output: Path) -> dict[str, str]:
    try:
        record = json.loads((output / RECORD_NAME).read_text())
    except (OSError, ValueError):
        return {}
    failed = record.get("failed") if isinstance(record, dict) else None
    return dict(failed) if isinstance(failed, dict) else {}


def _listed(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"[matrix] {name} is no list of values")
    return values


def _as_name(text: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in text)
