"""What captures in processes of their own have in common: what they say, how they end, and that none is left behind."""

from __future__ import annotations

import ctypes
import json
import signal
from typing import Final, Literal

ProcessState = Literal["waiting", "running", "done", "failed"]
"""How far the process of a capture is."""

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def said_in(line: bytes) -> dict[str, str]:
    """What a line of a capture's process says; what isn't ours (a library that prints) is nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, dict) else {}


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
