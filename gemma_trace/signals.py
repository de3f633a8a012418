"""What asks a process to end lets it clear up first, as Ctrl-C does."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

_ENDING: Final = ("SIGTERM", "SIGHUP")


class Ended(SystemExit):
    """The process was asked to end. Its exit code is the shell's: 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def cleared_up_on_signals() -> Iterator[None]:
    """While the block runs SIGTERM and SIGHUP raise `Ended` in it, once; a second one ends the process at once.

    A signal that is ignored (nohup) stays so. In another thread than the main one nothing changes.
    """
    owner = os.getpid()
    before: dict[int, Any] = {}

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        if os.getpid() != owner:  # a child that was forked has nothing to clear up, and a pool's would go on
            os.kill(os.getpid(), number)
        raise Ended(number)

    for name in _ENDING:
        number = getattr(signal, name, None)
        with contextlib.suppress(ValueError):  # another thread
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
