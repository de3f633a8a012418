"""Starts a process that decodes blocks: by a fork, which takes milliseconds, where that is safe; else as a program.

A fork has one thread, whatever the process that it is of has: a lock that another of its threads held stays shut in it.
So only a process of a single thread is forked, as one is that runs a command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, Protocol, cast

from gemma_trace.trace.block_worker import answer_orders

_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from gemma_trace.trace.block_worker import main; main(*map(int, sys.argv[2:]))"
)
_THREADS: Final = Path("/proc/self/task")
_DESCRIPTORS: Final = Path("/proc/self/fd")


class Process(Protocol):
    """What both have: the ends of its pipes that aren't buffered, and what ends it."""

    @property
    def pid(self) -> int:
        """The process's number."""

    @property
    def orders(self) -> BinaryIO:
        """Where it reads from."""

    @property
    def answers(self) -> BinaryIO:
        """Where it writes to."""

    def kill(self) -> None:
        """End it, whatever it does."""

    def wait(self) -> int:
        """Its exit code once it has ended; less than zero, the signal that ended it."""


def may_fork() -> bool:
    """Whether this process has a single thread, which only Linux tells."""
    try:
        return len(list(_THREADS.iterdir())) == 1
    except OSError:
        return False


def started(descriptor: int, *, detailed: bool) -> Process:
    """A process that decodes blocks.

    Args:
        descriptor: of the file that it shares with this one.
        detailed: whether the details are read too.

    Raises:
        OSError, ValueError: it can't be started.
    """
    return (Forked if may_fork() else Program)(descriptor, detailed=detailed)


class Program:
    """A process that is started anew.

    Args:
        descriptor: of the shared file.
        detailed: whether the details are read too.
    """

    def __init__(self, descriptor: int, *, detailed: bool) -> None:
        import json

        self._process = subprocess.Popen(
            # -P: no module in the current folder, which may be anybody's, is taken for one of Python's
            [sys.executable, "-P", "-c", _START, json.dumps([*map(str, sys.path)]), str(descriptor), f"{detailed:d}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # what has been read is known to the system alone, which tells whether there is more
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C is for this process, which ends the other
        )
        self.pid = self._process.pid
        self.orders = cast(BinaryIO, self._process.stdin)
        self.answers = cast(BinaryIO, self._process.stdout)

    def kill(self) -> None:
        """End it, whatever it does."""
        self._process.kill()

    def wait(self) -> int:
        """Its exit code once it has ended; less than zero, the signal that ended it."""
        return self._process.wait()


class Forked:
    """A process that is a copy of this one.

    Args:
        descriptor: of the shared file.
        detailed: whether the details are read too.
    """

    def __init__(self, descriptor: int, *, detailed: bool) -> None:
        orders, self_orders = os.pipe()
        self_answers, answers = os.pipe()
        try:
            self.pid = os.fork()
        except (OSError, ValueError):
            for end in (orders, self_orders, self_answers, answers):
                os.close(end)
            raise
        if self.pid == 0:
            _decode(descriptor, orders, answers, detailed=detailed)
        os.close(orders)
        os.close(answers)
        self.orders: BinaryIO = os.fdopen(self_orders, "wb", buffering=0)
        self.answers: BinaryIO = os.fdopen(self_answers, "rb", buffering=0)
        self._code: int | None = None

    def kill(self) -> None:
        """End it, whatever it does."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Its exit code once it has ended; less than zero, the signal that ended it."""
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def _decode(
    descriptor: int, orders: int, answers: int, *, detailed: bool
) -> NoReturn:  # pragma: no cover - in the forked process
    """Be a process that decodes, to its end: nothing of what this one was is gone through on its way out."""
    code = 1
    try:
        os.setsid()  # Ctrl-C is for the process that this one is a copy of
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for standard, end in enumerate((orders, answers, os.open(os.devnull, os.O_WRONLY))):
            os.dup2(end, standard)
        for held in [int(each.name) for each in _DESCRIPTORS.iterdir()]:
            if held > 2 and held != descriptor:
                _close(held)
        answer_orders(descriptor, detailed=detailed)
        code = 0
    finally:
        os._exit(code)


def _close(descriptor: int) -> None:  # pragma: no cover - in the forked process
    try:
        os.close(descriptor)
    except OSError:  # the one with which the others were listed
        return
