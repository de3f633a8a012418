"""Runs work in forked children that kill themselves, SIGKILL and all, at a moment that is counted and not timed.

python -m tests.killing FOLDER SEED < jobs.json, a job a line of output: what was killed where, what it had done.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "mmap.")
"""The audit events that are calls into the file system."""

IMPORTED = (
    *(
        "pyarrow.ipc",
        "pyarrow.parquet",
        "gemma_trace.store.store",
        "rich.console",
        "rich.live",
        "rich.table",
        "gemma_trace.report.html.page",
    ),
    *(
        "gemma_trace.report.html.build",
        "gemma_trace.report.records",
        "gemma_trace.report.terminal",
        "typer._completion_shared",
    ),
    *(
        f"gemma_trace.cli.{command}"
        for command in ("export", "report", "kernels", "stages", "sweep", "capture", "index")
    ),
    *(f"gemma_trace.report.tables.{view}" for view in ("kernels", "summary", "index")),
)
"""What the children would import, each by itself."""


class _Counter:
    """Counts what a process asks of the file system: each watched event, and each write of a file made whole."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self.count = 0
        self._folder, self._last = os.fsencode(folder), last

    def step(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(WATCHED) and any(self._is_ours(each) for each in arguments):
            self.step()

    def _is_ours(self, argument: object) -> bool:
        return isinstance(argument, str | bytes | os.PathLike) and os.fsencode(argument).startswith(self._folder)


def count_writes(step: Callable[[], None]) -> None:
    """Let each write of `atomic_file` be a step, half of it done."""
    real = os.fdopen

    class Halves:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: Any) -> int:
            view = memoryview(data)
            self._file.write(view[: len(view) // 2])
            self._file.flush()
            step()
            self._file.write(view[len(view) // 2 :])
            return len(view)

    @contextlib.contextmanager
    def opened(*arguments: Any, **more: Any) -> Any:
        with real(*arguments, **more) as file:
            yield Halves(file)

    vars(os)["fdopen"] = opened


def steps_of(work: Callable[[], object], folder: Path, last: int | None) -> int | None:
    """Do the work in a child; how many steps it took, None if it was killed at its last one."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            counter = _Counter(folder, last)
            count_writes(counter.step)
            sys.addaudithook(counter.hear)
            work()
            os.write(theirs, str(counter.count).encode())
        finally:
            os._exit(70)
    os.close(theirs)
    with os.fdopen(ours) as told:
        said = told.read()
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return None
    assert said, "the child failed"
    return int(said)


def run_command(arguments: list[str], cache: Path) -> None:
    """A command with a cache of its own, its output nowhere."""
    from gemma_trace.cli import main

    os.environ["XDG_CACHE_HOME"] = str(cache)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    assert main(arguments) == 0


def named(command: list[str], output: str) -> list[str]:
    """The command for this output."""
    return [part.replace("OUTPUT", output) for part in command]


def main() -> None:
    """Kill the jobs that stdin names."""
    folder, draw = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    os.environ["TMPDIR"] = str(folder / "tmp")
    jobs = json.load(sys.stdin)
    for module in IMPORTED:
        importlib.import_module(module)
    from gemma_trace.trace import cache

    vars(cache)["WORTHWHILE_BYTES"] = 1
    for job in jobs:

        def steps(output: str, last: int | None, job: dict[str, Any] = job) -> int | None:
            cache = folder / f"cache-{job['name']}-{output}"
            return steps_of(lambda: run_command(named(job["command"], output), cache), folder, last)

        total = steps("whole", None)  # how many steps it takes if nobody kills it
        assert total
        for attempt in range(job["kills"]):
            output, last = f"killed{attempt}", draw.randrange(1, total)
            killed = steps(output, last) is None
            print(json.dumps({"job": job["name"], "output": output, "step": last, "of": total, "killed": killed}))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
