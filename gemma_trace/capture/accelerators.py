"""Devices of every kind: waiting for them, timing them, and whether the profiler sees them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.profiler import ProfilerActivity, supported_activities


class TimedEvent(Protocol):
    """An instant in a device's queue of work."""

    def elapsed_time(self, end: TimedEvent) -> float:
        """Milliseconds up to another one; both have to be over."""


def activity_of(device: torch.device) -> ProfilerActivity | None:
    """What the profiler calls a device's activities; None where this torch records none of them."""
    activity: ProfilerActivity | None = getattr(ProfilerActivity, device.type.upper(), None)
    if device.type in ("cpu", "cuda"):  # on CUDA a profiler that sees nothing is warned of
        return activity
    return activity if activity in supported_activities() else None


def can_wait_for(device: torch.device) -> bool:
    """Whether torch has a way to wait for the device's work."""
    if device.type in ("cpu", "cuda"):
        return True
    accelerator = torch.accelerator.current_accelerator()
    return accelerator is not None and accelerator.type == device.type


def wait_for(device: torch.device) -> None:
    """Return once all that the device has been asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.accelerator.synchronize(device)


def event_now(device: torch.device) -> TimedEvent | None:
    """An event at the end of the device's current stream; a CPU has none, nor has a device that isn't profiled."""
    if device.type == "cpu" or activity_of(device) is None:
        return None
    recorded: TimedEvent
    if device.type == "cuda":
        recorded = event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
    else:
        recorded = other = torch.Event(device, enable_timing=True)
        other.record(torch.accelerator.current_stream(device))
    return recorded


def name_of(device: torch.device) -> str | None:
    """The marketing name of an accelerator; its kind where torch doesn't tell one. None for a CPU."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else device.type
