"""What has to hold around a capture in the process that it runs in: no other one, no profiler, no autocast unsaid."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn
from torch.autograd import profiler as autograd_profiler

from gemma_trace.errors import CaptureError

_RUNNING: Final = threading.Lock()


@contextmanager
def alone_in_process() -> Iterator[None]:
    """While the block runs no other capture begins in this process, whose profiler has a single session.

    Raises:
        CaptureError: another capture runs, or a profiler does, whose session would be lost.
    """
    if not _RUNNING.acquire(blocking=False):
        raise CaptureError(
            "another capture runs in this process; wait until it has ended, or give each a process of its own"
        )
    try:
        if autograd_profiler._is_profiler_enabled or torch._C._autograd._profiler_enabled():
            raise CaptureError(
                "a profiler is running in this process; stop it first, or put gemma_trace.annotate into its session"
            )
        yield
    finally:
        _RUNNING.release()


def settings_warnings(model: nn.Module, devices: Iterable[torch.device]) -> tuple[str, ...]:
    """What the program around a capture has set that changes what its model does on these devices, a line each."""
    said = []
    if model.training:
        said.append("the model is in training mode, so that dropout ran; call model.eval() before the capture")
    for kind in sorted({device.type for device in devices if torch.is_autocast_enabled(device.type)}):
        dtype = str(torch.get_autocast_dtype(kind)).removeprefix("torch.")
        said.append(f"torch.autocast was on, so that ops ran in {dtype}, whatever the weights' dtype is")
    return tuple(said)
