"""Starts the process that HTA runs in, and hears its answers. One that dies or hangs costs the call it was at."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import gemma_trace
from gemma_trace.hta.answers import Answer, Task

DEFAULT_TIMEOUT_S: Final = 300.0
"""How long HTA may take for one answer."""

MOST_STARTS: Final = 5
_NOT_RUN: Final = "not run: HTA's process ended too often before"
_END: Final = None

_Line = dict[str, Any]
_Place = tuple[int, int]


def run_tasks(
    tasks: Sequence[Task], timeout_s: float = DEFAULT_TIMEOUT_S, on_answer: Callable[[], None] = lambda: None
) -> tuple[str, list[Answer]]:
    """Run tasks in HTA.

    Args:
        timeout_s: how long it may take for an answer; loading the file counts towards the first of it.
        on_answer: hears of each answer.

    Returns:
        The package that answered, and the answers, in the tasks' order.
    """
    answers: dict[_Place, Answer] = {}
    wanted: list[_Place] = [(place, number) for place, task in enumerate(tasks) for number in range(len(task.calls))]
    package = ""

    def keep(at: _Place, frames: dict[str, Any] | None = None, error: str = "") -> None:
        task = tasks[at[0]]
        answers[at] = Answer(task, task.calls[at[1]], frames or {}, error)
        on_answer()

    for _ in range(MOST_STARTS):
        left = [at for at in wanted if at not in answers]
        if not left:
            break
        for line in _lines(_plan(tasks, left), timeout_s):
            package = line.get("package", package)
            if "task" in line:
                keep(left[line["call"]], line.get("frames"), line.get("error", ""))
            unheard = [at for at in left if at not in answers]
            for at in unheard if "broken" in line else unheard[:1] if "ended" in line else ():
                keep(at, error=line.get("ended") or f"can't be imported: {line['broken']}")
    for at in wanted:
        if at not in answers:
            keep(at, error=_NOT_RUN)
    return package, [answers[at] for at in wanted]


def _plan(tasks: Sequence[Task], left: Sequence[_Place]) -> bytes:
    """What the process is told: the calls that are left, each with its place among them as its number."""
    plan: list[dict[str, Any]] = []
    last = None
    for place, number in left:
        call = tasks[place].calls[number]
        if place != last:
            plan.append({"file": str(tasks[place].file), "unit_ns": tasks[place].unit_ns, "calls": []})
            last = place
        plan[-1]["calls"].append({"analysis": call.analysis.value, "options": dict(call.options)})
    return json.dumps(plan).encode()


def _lines(plan: bytes, timeout_s: float) -> Iterator[_Line]:
    """The lines of one process. The `call` of each is its number among all; `ended` is why the process ended early."""
    starts = [0]
    for task in json.loads(plan):
        starts.append(starts[-1] + len(task["calls"]))
    heard = 0
    with _process(plan) as (process, lines, log):
        while heard < starts[-1]:
            try:
                text = lines.get(timeout=timeout_s)
            except queue.Empty:
                process.kill()
                yield {"ended": f"no answer within {timeout_s:g} s; raise --timeout"}
                return
            if text is _END:
                yield {"ended": _why_it_ended(process.wait(), log)}
                return
            line: _Line = json.loads(text)
            if "task" in line:
                heard += 1
                line["call"] += starts[line["task"]]
            yield line
            if "broken" in line:
                return


@contextmanager
def _process(plan: bytes) -> Iterator[tuple[subprocess.Popen[bytes], queue.Queue[bytes | None], IO[bytes]]]:
    """The process, the lines it writes (`_END` is its end), and its log."""
    # This very package, wherever it is; and -P, so that no `hta` in the current folder is taken for HTA.
    paths = [str(Path(gemma_trace.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "gemma_trace.hta.in_child"]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        lines: queue.Queue[bytes | None] = queue.Queue()
        reader = threading.Thread(target=_pass_on, args=(process.stdout, lines), daemon=True)
        reader.start()
        try:
            process.stdin.write(plan)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended; the end of its lines says so
        try:
            yield process, lines, log
        finally:
            process.kill()
            process.wait()
            reader.join()


def _pass_on(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(_END)


def _why_it_ended(code: int, log: IO[bytes]) -> str:
    if code == -9:
        return "its process was killed, as the system does where memory runs out"
    log.seek(0)
    said = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return f"its process exited with code {code}" + (f": {said[-1]}" if said else "")
