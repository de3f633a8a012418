"""What captures in processes of their own have in common: what they say, how they end, and that none is left behind."""

from __future__ import annotations

import ctypes
import signal
from typing import Final, Literal

import msgspec

from gemma_trace.foreign import UnreadableValueError, decoded

ProcessState = Literal["waiting", "running", "done", "failed"]
"""How far the process of a capture is."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line that a capture's process prints: what it is doing, why it failed, or the trace that it wrote."""

    phase: str = ""
    error: str = ""
    trace: str = ""


def said_in(line: bytes) -> Message:
    """What a line of a capture's process says; what isn't ours (a library that prints) is an empty message."""
    try:
        message: Message = decoded(line, Message)
    except UnreadableValueError:
        return Message()
    return message


def how_it_ended(code: int) -> str:
    """How a process ended that said nothing."""
    if code == -signal.SIGKILL:
        return "killed, most likely because memory ran out"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"


def die_with_parent() -> None:
    """In the new process: let the kernel end it when its parent is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
