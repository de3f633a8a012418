"""Devices of every kind: waiting for them, timing them, and whether the profiler sees them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Protocol

import torch
from torch import nn
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


def devices_of(model: nn.Module) -> tuple[torch.device, ...]:
    """Every device that has weights or buffers of a model, that of its first weights first; `meta` is none."""
    held = chain(model.parameters(), model.buffers())
    return tuple(dict.fromkeys(each.device for each in held if each.device.type != "meta"))


def working_devices(devices: Sequence[torch.device]) -> tuple[torch.device, ...]:
    """Those of a model's devices whose clocks time its stages: the accelerators, or the CPU where there are none."""
    return tuple(device for device in devices if device.type != "cpu") or tuple(devices)


class DeviceClock:
    """Instants in the queues of devices. It has none on a CPU, of devices that aren't profiled, or of several kinds.

    On one device an instant is when that has done all that its current stream was asked for. On several it is when all
    have: a stream of the first device's own, on which nothing else runs, waits for the current stream of each, and
    keeps the time. So two instants are read off one device's clock, and no device waits for another because of them.
    Between two instants lies what was asked for in between, each moment once; what overlaps with earlier work counts
    for that.
    """

    def __init__(self, *devices: torch.device) -> None:
        self._all = devices
        timed = [device for device in devices if device.type != "cpu" and activity_of(device) is not None]
        self._timed = timed if len({device.type for device in timed}) == 1 else []
        self._meeting = _new_stream(self._timed[0]) if len(self._timed) > 1 else None
        self._passed = [_new_event(device) for device in self._timed] if self._meeting else []

    def now(self) -> TimedEvent | None:
        """The instant at which all that was asked for up to now is done."""
        if not self._timed:
            return None
        stream = self._meeting or _current_stream(self._timed[0])
        for device, passed in zip(self._timed, self._passed, strict=False):  # of a single device there are none
            passed.record(_current_stream(device))
            stream.wait_event(passed)  # as it is now: it can be recorded anew
        event = _new_event(self._timed[0], timed=True)
        event.record(stream)
        instant: TimedEvent = event
        return instant

    def wait(self) -> None:
        """Return once all devices have done all that they have been asked for."""
        for device in self._all:
            wait_for(device)


def _current_stream(device: torch.device) -> Any:
    module: Any = torch.cuda if device.type == "cuda" else torch.accelerator
    return module.current_stream(device)


def _new_stream(device: torch.device) -> Any:
    return torch.cuda.Stream(device) if device.type == "cuda" else torch.Stream(device)


def _new_event(device: torch.device, *, timed: bool = False) -> Any:
    if device.type == "cuda":
        return torch.cuda.Event(enable_timing=timed)
    return torch.Event(device, enable_timing=timed)


def name_of(device: torch.device) -> str | None:
    """The marketing name of an accelerator; its kind where torch doesn't tell one. None for a CPU."""
    if device.type == "cpu":
        return None
    module = torch.get_device_module(device)
    return str(module.get_device_name(device)) if hasattr(module, "get_device_name") else device.type
