"""Errors of others' code in one line, without the way to this machine's files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gemma_trace.errors import CaptureError

_MOST: Final = 200
"""Characters of an error's own text that are repeated."""


def as_capture_error(error: Exception) -> CaptureError:
    """What torch, transformers or a model's own code raised, as an error of ours."""
    if isinstance(error, CaptureError):
        return error
    if type(error).__name__ == "OutOfMemoryError":
        return CaptureError("out of memory on the device; try a smaller model, --batch or --prompt-tokens")
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return CaptureError("out of memory; try a smaller model, --batch or --prompt-tokens")
    return CaptureError(f"the capture failed: {type(error).__name__}: {error_text(error)}")


def error_text(error: BaseException) -> str:
    """The first line of an error's text that says anything, its home folder as `~`."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no more is known"]
    text = lines[0].replace(str(Path("~").expanduser()), "~")
    return text if len(text) <= _MOST else text[: _MOST - 1] + "…"
