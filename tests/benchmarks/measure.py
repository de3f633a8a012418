"""Runs commands, each in a process of its own, in turns; takes time and peak memory from outside."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.benchmarks.jobs import JobReport

ROOT: Final = Path(__file__).resolve().parents[2]
NOISY: Final = 0.10
"""An interquartile range over this share of the median is flagged."""


@dataclass(frozen=True)
class Task:
    """A command to measure.

    Attributes:
        what: `load`, `stages`, `kernels` …
        by: which program does it.
        on: the trace; empty for none.
        reports: its last line of output is a `JobReport`.
        repeats: how often at most; None for as often as all others.
    """

    what: str
    by: str
    on: str
    command: tuple[str, ...]
    reports: bool = True
    repeats: int | None = None
    timeout_s: float = 600


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        wall_s: from the process's start to its end.
        peak_bytes: its largest resident set.
        failure: empty if it did what it should.
    """

    wall_s: float
    peak_bytes: int
    report: JobReport | None = None
    failure: str = ""


@dataclass
class Series:
    """All runs of one task; it ends at the first failure."""

    task: Task
    runs: list[Run] = field(default_factory=list)

    @property
    def good(self) -> list[Run]:
        return [run for run in self.runs if not run.failure]

    @property
    def failure(self) -> str:
        return next((run.failure for run in self.runs if run.failure), "")

    @property
    def seconds(self) -> list[float]:
        """The job alone where it tells, else the process."""
        return [run.report.seconds if run.report else run.wall_s for run in self.good]

    @property
    def median_s(self) -> float:
        return _median(self.seconds)

    @property
    def wall_s(self) -> float:
        return _median([run.wall_s for run in self.good])

    @property
    def peak_bytes(self) -> float:
        return _median([run.peak_bytes for run in self.good])

    @property
    def baseline_bytes(self) -> float:
        return _median([run.report.baseline_bytes for run in self.good if run.report])

    @property
    def noisy(self) -> bool:
        if len(self.seconds) < 3:
            return False
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return high - low > NOISY * self.median_s


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def run_once(task: Task) -> Run:
    """Run a task's command in a new process and wait for it, no longer than its timeout.

    Linux counts what the parent held at the fork towards the child's peak, so the parent must stay small: it imports
    nothing but the standard library.
    """
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or ours, which no installer has compiled, is compiled every time
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            task.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        late = threading.Event()

        def stop() -> None:
            late.set()
            os.kill(process.pid, signal.SIGKILL)

        timer = threading.Timer(task.timeout_s, stop)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        peak_bytes = usage.ru_maxrss * 1024
        out.seek(0)
        err.seek(0)
        if late.is_set():
            return Run(wall_s, peak_bytes, failure=f"stopped after {task.timeout_s:.0f} s")
        if process.returncode:
            return Run(wall_s, peak_bytes, failure=_why(process.returncode, err.read().decode(errors="replace")))
        report = JobReport.from_json(out.read().splitlines()[-1]) if task.reports else None
        return Run(wall_s, peak_bytes, report)


def _why(code: int, errors: str) -> str:
    if "MemoryError" in errors:
        return "out of memory"
    if code == -signal.SIGKILL:
        return "killed, most likely because memory ran out"
    lines = errors.strip().splitlines()
    return f"exit code {code}: {lines[-1][:200]}" if lines else f"exit code {code}"


def interleave(tasks: Sequence[Task], repeats: int, say: Callable[[str], None]) -> list[Series]:
    """Run all tasks in turns, so that what disturbs one disturbs the others too."""
    all_series = [Series(task) for task in tasks]
    for number in range(repeats):
        for series in all_series:
            task = series.task
            if series.failure or number >= (repeats if task.repeats is None else task.repeats):
                continue
            say(f"{task.what} {task.on} with {task.by}, {number + 1} of {task.repeats or repeats}")
            series.runs.append(run_once(task))
    return all_series
