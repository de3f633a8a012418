"""The trials of a comparison: which are done, what comes next, and each in a process of its own.

What is done is told by the traces: `<output>/<label>/r<round>/` holds one that can be read. What failed stands in
`compare.json`, and so does what a later run has to know to go on with the same order. Nothing here imports torch.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

import gemma_trace
from gemma_trace.capture.compare.arms import PLACEHOLDER, Arm
from gemma_trace.capture.compare.conditions import Conditions, read_conditions
from gemma_trace.capture.early import check_early
from gemma_trace.capture.output import lock_output, made, make_folder
from gemma_trace.capture.process import ProcessState, die_with_parent, how_it_ended, said_in
from gemma_trace.capture.sweep import same_options
from gemma_trace.errors import CaptureError, InputError, OutputError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.trace.scratch import clear_abandoned, scratch_folder
from gemma_trace.trace.trace import load_metadata

RECORD_NAME: Final = "compare.json"
RECORD_VERSION: Final = 1
_TRACES: Final = ("*.pt.trace.json.gz", "*.pt.trace.json", "*.json.gz", "*.json")
_TAIL: Final = 300


@dataclass(frozen=True)
class Trial:
    """One process of one arm.

    Attributes:
        place: in the order in which the trials are run.
        trace: its trace, once it is done.
        error: why it failed, in a line.
        seconds: how long it took, if it ran now.
        conditions: of the machine before it, if it ran now.
    """

    arm: Arm
    round: int
    place: int
    folder: Path
    state: ProcessState = "waiting"
    trace: Path | None = None
    error: str = ""
    seconds: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)


@dataclass(frozen=True)
class FailedTrial:
    """A trial that failed, and why, in a line."""

    label: str
    round: int
    error: str


@dataclass(frozen=True)
class CompareRecord:
    """What a comparison writes down in its folder.

    Attributes:
        labels: of the arms, sorted.
        order: the round and the arm of every trial, in the order in which they are run.
    """

    labels: tuple[str, ...]
    seed: int
    order: tuple[tuple[int, str], ...] = ()
    failed: tuple[FailedTrial, ...] = ()
    schema_version: int = RECORD_VERSION


def plan_trials(arms: Sequence[Arm], rounds: int, output: Path, seed: int) -> list[Trial]:
    """All trials, round after round, the arms of each in an order drawn by lot, the same for the same seed."""
    trials: list[Trial] = []
    for number in range(1, rounds + 1):
        order = list(arms)
        random.Random(f"{seed}:{number}").shuffle(order)
        for arm in order:
            trials.append(Trial(arm, number, len(trials), output / arm.label / f"r{number:03d}"))
    return trials


def run_trials(
    trials: Sequence[Trial],
    output: Path,
    seed: int,
    *,
    on_change: Callable[[Sequence[Trial]], None],
    is_enough: Callable[[Sequence[Trial]], bool],
) -> list[Trial]:
    """Run what isn't done, one process after the other, until a round ends that is enough.

    Args:
        on_change: hears all trials whenever one of them changes.
        is_enough: whether what is done by the end of a round says enough.

    Raises:
        OutputError: the folder can't be written, or another comparison's trials lie in it.
        GemmaTraceError: a file, a model or a CPU isn't there that a configuration names.
    """
    with made(output):
        _begin(output, trials, seed)
        with lock_output(output, whole=True):
            clear_abandoned()
            current = [_from_before(trial) for trial in trials]
            for arm in sorted({trial.arm for trial in current if trial.state == "waiting"}, key=lambda arm: arm.order):
                if arm.config is not None:
                    check_early(arm.config)
            return _run_locked(current, output, seed, on_change, is_enough)


def _run_locked(
    current: list[Trial],
    output: Path,
    seed: int,
    on_change: Callable[[Sequence[Trial]], None],
    is_enough: Callable[[Sequence[Trial]], bool],
) -> list[Trial]:
    on_change(current)
    for place, trial in enumerate(current):
        if trial.state == "waiting":
            for changed in _run(trial):
                current[place] = changed
                on_change(current)
        _record(output, current, seed)
        ends_round = place + 1 == len(current) or current[place + 1].round != trial.round
        if ends_round and is_enough(current[: place + 1]):
            return current[: place + 1]
    return current


def trace_in(folder: Path) -> Path | None:
    """The trace that a trial wrote: the only one, or the newest."""
    for pattern in _TRACES:
        traces = [path for path in folder.rglob(pattern) if path.is_file() and not path.name.startswith(".")]
        if traces:
            return max(traces, key=lambda path: path.stat().st_mtime_ns)
    return None


def _from_before(trial: Trial) -> Trial:
    """What an earlier run left of a trial: its trace, if it is whole and of the same options."""
    trace = trace_in(trial.folder)
    if trace is None:
        return trial
    try:
        metadata = load_metadata(trace)
    except InputError:
        return trial  # cut off while it was written
    if trial.arm.config is None:
        return replace(trial, state="done", trace=trace)
    same = metadata is not None and same_options(metadata.config, trial.arm.config_for(trial.folder))
    return replace(trial, state="done", trace=trace) if same else trial


def _run(trial: Trial) -> Iterator[Trial]:
    """Run one trial; each state that it has."""
    began = time.monotonic()
    running = replace(trial, state="running", conditions=read_conditions())
    yield running
    trial.folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as ours:
        command, given, environment = _process(trial, ours)
        try:
            done = subprocess.run(
                command,
                input=given,
                capture_output=True,
                env=environment,
                check=False,
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
            )
        except OSError as failure:
            done = subprocess.CompletedProcess(command, 127, b"", str(failure.strerror).encode())
    error = _error_of(trial, done)
    trace = None if error else trace_in(trial.folder)
    if not error and trace is None:
        error = f"it exited with code 0 but wrote no trace into its folder; a command must write one into {PLACEHOLDER}"
    seconds = time.monotonic() - began
    yield replace(running, state="failed" if error else "done", trace=trace, error=error, seconds=seconds)


def _process(trial: Trial, scratch: Path) -> tuple[list[str], bytes | None, Mapping[str, str]]:
    """A trial's command, what it is given, and its environment."""
    if trial.arm.config is None:
        out = str(trial.folder.resolve())
        return [word.replace(PLACEHOLDER, out) for word in trial.arm.command], None, os.environ
    environment = dict(os.environ)
    if trial.arm.python != sys.executable:
        # The same gemma-trace for all arms, and nothing else of ours: another torch is what the other Python is for.
        (scratch / "gemma_trace").symlink_to(Path(gemma_trace.__file__).parent, target_is_directory=True)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(scratch), os.environ.get("PYTHONPATH")]))
    given = msgspec.json.encode(trial.arm.config_for(trial.folder), enc_hook=str)
    return [trial.arm.python, "-P", "-m", "gemma_trace.capture.cell_process"], given, environment


def _error_of(trial: Trial, done: subprocess.CompletedProcess[bytes]) -> str:
    """Why a process failed, in a line; nothing where it didn't."""
    if done.returncode == 0:
        return ""
    said = [said_in(line) for line in done.stdout.splitlines()]
    told = next((message.error for message in reversed(said) if message.error), "")
    if told:
        return told
    how = how_it_ended(done.returncode)
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    missing = [line for line in last if "ModuleNotFoundError" in line]
    if missing and trial.arm.config is not None:
        return f"{missing[0]}; install what a capture requires there: pip install 'gemma-trace[capture]'"
    return f"{how}{f': {last[0][:_TAIL]}' if last and trial.arm.config is None else ''}"


def _begin(output: Path, trials: Sequence[Trial], seed: int) -> None:
    """Make the folder; refuse one in which something else was compared."""
    make_folder(output)
    before = _recorded(output)
    labels = tuple(sorted({trial.arm.label for trial in trials}))
    if before and (before.labels, before.seed) != (labels, seed):
        raise OutputError(
            f"{output} has a comparison in it, of {', '.join(before.labels)} with seed {before.seed}; give another "
            "--out-dir, or the same options to continue it"
        )


def _recorded(output: Path) -> CompareRecord | None:
    """What an earlier run wrote down; None where there is nothing that can be read."""
    try:
        record: CompareRecord = decoded((output / RECORD_NAME).read_bytes(), CompareRecord)
    except (OSError, UnreadableValueError):
        return None
    return record


def _record(output: Path, trials: Sequence[Trial], seed: int) -> None:
    """Write down what was run in which order, and what failed."""
    from gemma_trace.trace.files import output_file

    record = CompareRecord(
        labels=tuple(sorted({trial.arm.label for trial in trials})),
        seed=seed,
        order=tuple((trial.round, trial.arm.label) for trial in trials),
        failed=tuple(
            FailedTrial(trial.arm.label, trial.round, trial.error) for trial in trials if trial.state == "failed"
        ),
    )
    with output_file(output / RECORD_NAME, "check --out-dir") as file:
        file.write(msgspec.json.format(msgspec.json.encode(record)) + b"\n")


def require_enough(trials: Sequence[Trial]) -> None:
    """Refuse a comparison in which an arm has no trace.

    Raises:
        CaptureError: every trial of an arm failed.
    """
    for label in dict.fromkeys(trial.arm.label for trial in trials):
        of_arm = [trial for trial in trials if trial.arm.label == label]
        if not any(trial.state == "done" for trial in of_arm):
            error = next((trial.error for trial in of_arm if trial.error), "it wasn't run")
            raise CaptureError(f"every trial of {label} failed: {error}")
