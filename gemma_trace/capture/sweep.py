"""A matrix of captures, one process each, so that a crash costs one cell; resumable at any moment.

What is done is told by the traces themselves: a cell whose folder holds a trace of the same options isn't run again.
What failed, and which options a cell's folder is for, stands in the folder's `sweep.json` (`output.py`). No cell
removes a trace: where its name is another's already, it takes one with a hash (`names.py`). Nothing here imports torch;
the processes do.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata as installed
from itertools import product
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.early import check_early
from gemma_trace.capture.options import as_option, field_of, values_of
from gemma_trace.capture.output import RECORD_NAME as RECORD_NAME
from gemma_trace.capture.output import Record, lock_output, made, make_folder, read_record, traces_in, write_record
from gemma_trace.capture.process import Message, ProcessState, die_with_parent, how_it_ended, said_in
from gemma_trace.capture.run_names import fingerprint, former_names, free_names, named_apart
from gemma_trace.errors import ConfigError, GemmaTraceError, InputError
from gemma_trace.foreign import converted, read_toml
from gemma_trace.metadata import Environment
from gemma_trace.trace.files import clear_partials
from gemma_trace.trace.scratch import clear_abandoned
from gemma_trace.trace.short_paths import PathScrubber
from gemma_trace.trace.trace import load_metadata

REFUSED: Final = "refused"
"""The phase of a cell that failed before its process was started."""
STDERR_NAME: Final = "stderr.log"
"""In a cell's folder, what its process and the libraries in it print; nothing of it is in the trace."""

_TIME_TO_CLEAR_UP_S: Final = 20.0


@dataclass(frozen=True)
class Cell:
    """One capture of a sweep.

    Attributes:
        state: `done` and `failed` may be from an earlier time.
        phase: what it is doing, while it runs.
        error: why it failed, in a line.
        seconds: how long it took, if it ran now.
        former: other names under which its trace may be from an earlier time.
    """

    config: CaptureConfig
    state: ProcessState = "waiting"
    phase: str = ""
    error: str = ""
    seconds: float = 0.0
    former: tuple[str, ...] = ()

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
    return read_toml(path, "the matrix, a TOML file, study or study-fast")


def plan(matrix: Mapping[str, Any], output: Path, changes: Sequence[str] = ()) -> list[Cell]:
    """The cells of a matrix, the last axis the fastest.

    Args:
        matrix: tables `matrix` (lists of values by option) and `options` (values by option).
        output: the folder that holds the runs.
        changes: `OPTION=VALUE` or `OPTION=VALUE,VALUE…`, which replace what the matrix says of that option.

    Raises:
        ConfigError: no such option, or a value that makes no sense.
    """
    if unknown := set(matrix) - {"matrix", "options"}:
        raise ConfigError(f"a sweep has the tables [matrix] and [options], not {', '.join(sorted(unknown))}")
    axes = {field_of(name): _listed(name, values) for name, values in _table(matrix, "matrix").items()}
    options = {field_of(name): value for name, value in _table(matrix, "options").items()}
    for text in changes:
        name, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} is not OPTION=VALUE, e.g. model=4b,12b")
        name = field_of(name)
        options.pop(name, None)
        axes[name] = values_of(name, values)
    axes = {name: [as_option(name, value) for value in values] for name, values in axes.items()}
    options = {name: as_option(name, value) for name, value in options.items()}
    configs = dict.fromkeys(
        CaptureConfig(**options | dict(zip(axes, combination, strict=True)), output=output)
        for combination in product(*axes.values())
    )  # a cell that is asked for twice is run once
    return [Cell(config, former=former_names(config, axes)) for config in named_apart(list(configs), axes)]


def run_sweep(
    cells: Sequence[Cell], *, retry: bool, redo: bool = False, on_change: Callable[[list[Cell]], None]
) -> list[Cell]:
    """Run what isn't done, one process after the other.

    Args:
        retry: run cells again that failed before.
        redo: run all cells again; a trace is replaced once the new one is whole.
        on_change: hears all cells whenever one of them changes.

    Returns:
        The cells, each `done` or `failed`.

    Raises:
        OutputError: the folder that holds the runs can't be written, or another sweep or capture writes there.
        GemmaTraceError: no cell can be run, since a file, a model or a CPU isn't there.
    """
    output = cells[0].config.output
    with made(output), _locked(output):
        clear_abandoned()
        current = _refused(settled(cells, retry=retry, redo=redo))
        for folder in (output, *(cell.folder for cell in current)):
            clear_partials(folder)
        on_change(current)
        for index, cell in enumerate(current):
            if cell.state != "waiting":
                continue
            current[index] = replace(cell, state="running", phase="starting")
            _record(output, current)
            for state in _run(cell, redo=redo):
                current[index] = state
                on_change(current)
            _record(output, current)
    return current


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """The folder is there, and this sweep's alone, while the block runs."""
    make_folder(output)
    with lock_output(output, whole=True):
        yield


def _refused(cells: Sequence[Cell]) -> list[Cell]:
    """The cells, of which those have failed that needn't be tried: a file isn't there, or a name is none.

    Raises:
        GemmaTraceError: all are refused; why the first one is.
    """
    reasons: dict[int, GemmaTraceError] = {}
    for place, cell in enumerate(cells):
        if cell.state == "waiting":
            try:
                check_early(cell.config)
            except GemmaTraceError as error:
                reasons[place] = error
    if len(reasons) == len(cells):
        raise reasons[0]
    return [
        replace(cell, state="failed", phase=REFUSED, error=str(reasons[place])) if place in reasons else cell
        for place, cell in enumerate(cells)
    ]


def settled(cells: Sequence[Cell], *, retry: bool, redo: bool = False) -> list[Cell]:
    """The cells under the names that they have in their folder: done, failed before, or to be run.

    Args:
        retry: what failed before is to be run.
        redo: all is to be run.
    """
    record = read_record(cells[0].config.output)
    named: list[Cell] = []
    for cell in cells:
        taken = {before.name for before in named}
        named.append(_from_before(cell, record, taken, retry=retry or redo, redo=redo))
    return named


def _from_before(cell: Cell, record: Record, taken: Collection[str], *, retry: bool, redo: bool) -> Cell:
    """What an earlier sweep left of a cell, under the name that it has in this folder.

    Args:
        taken: the names of the cells before it.
    """
    output, key = cell.config.output, fingerprint(cell.config)
    for name in dict.fromkeys([cell.name, *cell.former, *(each.name for each in sorted(output.glob(f"*-{key}*")))]):
        ours = name not in taken and record.options.get(name, key) == key
        if ours and _holds(output / name, cell.config, any_version=redo):
            return _renamed(cell, name, state="waiting" if redo else "done")
    for name in free_names(cell.config, cell.name):
        if name in taken or traces_in(output / name) or record.options.get(name, key) != key:
            continue
        cell = _renamed(cell, name)
        failed = None if retry else record.failed.get(name)
        return replace(cell, state="failed", error=failed) if failed else cell
    raise AssertionError("there is always another name")


def _renamed(cell: Cell, name: str, state: ProcessState = "waiting") -> Cell:
    return replace(cell, config=replace(cell.config, name=name), state=state)


def _holds(folder: Path, config: CaptureConfig, *, any_version: bool) -> bool:
    """Whether a folder holds a trace of these options, captured with what is installed.

    What is recorded of the folder has to speak for it too: a trace doesn't tell files of one name apart.

    Args:
        any_version: or captured with other versions.
    """
    for trace in traces_in(folder):
        try:
            metadata = load_metadata(trace)
        except InputError:
            continue
        if metadata is None or not same_options(metadata.config, config):
            continue
        if any_version or same_versions(metadata.environment):
            return True
    return False


def same_versions(recorded: Environment) -> bool:
    """Whether a trace was captured with the torch and the transformers that are installed."""
    pairs = (("torch", recorded.torch), ("transformers", recorded.transformers))
    return all(installed_version(name) in (None, _public(version)) for name, version in pairs)


def installed_version(package: str) -> str | None:
    """The version that is installed, without what says how it was built; None where none is."""
    try:
        return _public(installed.version(package))
    except installed.PackageNotFoundError:
        return None


def _public(version: str) -> str:
    return version.partition("+")[0]


def same_options(recorded: Mapping[str, Any], config: CaptureConfig) -> bool:
    """Whether a trace was captured with these options; the device is recorded as it was found.

    What isn't recorded is an option of a later version, which wasn't there to be changed from its default.
    """
    scrub = PathScrubber(keep_paths=config.keep_paths)
    wanted = json.loads(scrub(msgspec.json.encode(config.record())))
    device, device_then = wanted.pop("device"), str(recorded.get("device"))
    same_device = device == "auto" or device_then.split(":")[0] == device.split(":")[0]
    defaults = CaptureConfig().record()
    return same_device and all(recorded.get(name, defaults[name]) == value for name, value in wanted.items())


def _run(cell: Cell, *, redo: bool) -> Iterator[Cell]:
    """Run a cell's process; a cell each time that it has something new to say."""
    began = time.monotonic()
    yield (running := replace(cell, state="running", phase="starting"))
    given = msgspec.json.encode(replace(cell.config, name=cell.name, force=redo), enc_hook=str)
    error = ""
    with (
        _kept(cell.folder / STDERR_NAME) as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "gemma_trace.capture.cell_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,  # what a cell has to say it says on stdout
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        ) as process,
    ):
        try:
            for said in _told(process, given):
                error = said.error or error
                if said.phase:
                    yield (running := replace(running, phase=said.phase, seconds=time.monotonic() - began))
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    seconds = time.monotonic() - began
    if code == 0:
        yield replace(cell, state="done", seconds=seconds)
        return
    if not error and (cell.folder / STDERR_NAME).exists():
        error = f"{how_it_ended(code)}; its {STDERR_NAME} may say why"
    yield replace(cell, state="failed", error=error or how_it_ended(code), seconds=seconds)


@contextlib.contextmanager
def _kept(log: Path) -> Iterator[BinaryIO | int]:
    """A file for what a process prints on stderr; it is gone again, with its folder, where there was nothing."""
    try:
        log.parent.mkdir(exist_ok=True)
        file = log.open("wb")
    except OSError:  # of which the cell will hear
        yield subprocess.DEVNULL
        return
    with file:
        yield file
    with contextlib.suppress(OSError):
        if not log.stat().st_size:
            log.unlink()
            log.parent.rmdir()  # which fails where there is a trace in it


def _told(process: subprocess.Popen[bytes], given: bytes) -> Iterator[Message]:
    """Give a cell's process its options, and hear what it has to say until it ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # it has died already; its exit code will tell
        process.stdin.write(given)
        process.stdin.close()
    for line in process.stdout:
        yield said_in(line)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a cell's process: it gets the time to clear up what it made, but not for ever."""
    process.terminate()
    try:
        process.wait(_TIME_TO_CLEAR_UP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _record(output: Path, cells: Sequence[Cell]) -> None:
    """Write down what failed and what each folder is for, beside what other sweeps into this folder left."""
    before = read_record(output)
    begun = [cell for cell in cells if cell.state != "waiting"]
    failed = {name: error for name, error in before.failed.items() if name not in {cell.name for cell in begun}}
    failed |= {cell.name: cell.error for cell in begun if cell.state == "failed"}
    options = {**before.options} | {cell.name: fingerprint(cell.config) for cell in begun}
    write_record(output, Record(failed, options))


def _table(matrix: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    no_table = ConfigError(f"{name} is not a table; write [{name}] on a line of its own")
    table: Mapping[str, Any] = converted(matrix.get(name, {}), dict[str, Any], no_table)
    return table


def _listed(name: str, values: Any) -> list[Any]:
    no_list = ConfigError(f"[matrix] {name} is not a list of values")
    listed: list[Any] = converted(values, Annotated[list[Any], msgspec.Meta(min_length=1)], no_list)
    return listed
