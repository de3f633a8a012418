"""What the hooks tell, and who listens: the profiler, or the timers.

A `RangeSink` hears `begin(name)` and `end()` in strict last-in, first-out order on each thread. `RangeStack` sees
to that order: it closes what an exception or an early return left open.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch.autograd import profiler as autograd_profiler
from torch.profiler import record_function

from gemma_trace.capture.accelerators import wait_for
from gemma_trace.capture.interception import is_running
from gemma_trace.capture.natural_types import shown
from gemma_trace.errors import ConfigError
from gemma_trace.stages import Stage, stage_of_range

_LOG: Final = logging.getLogger(__name__)


class RangeSink(Protocol):
    """Listens to ranges."""

    def begin(self, name: str) -> None:
        """A range of this name starts on the calling thread."""

    def end(self) -> None:
        """The range that started last on the calling thread ends."""


class ProfilerRanges(threading.local):
    """Ranges as `record_function` ranges of the profiler that is running.

    Where none is running nothing is entered, which would cost some 20 µs a range. A range inside one of the same name
    is the same range: an annotation inside another adds nothing that is there.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, record_function | None]] = []

    def begin(self, name: str) -> None:
        """Enter a `record_function` range."""
        entered = None
        if profiler_is_running() and name not in _ENTERED.names:
            entered = record_function(name)
            entered.__enter__()
            _ENTERED.names.add(name)
        self._open.append((name, entered))

    def end(self) -> None:
        """Leave the innermost range."""
        name, entered = self._open.pop()
        if entered is not None:
            _ENTERED.names.discard(name)
            entered.__exit__(None, None, None)


class _Entered(threading.local):
    """The names of all ranges that are open on the calling thread, whichever annotation opened them."""

    def __init__(self) -> None:
        self.names: set[str] = set()


_ENTERED: Final = _Entered()
_ON_DEMAND: Final = "KINETO_USE_DAEMON" in os.environ
"""Whether a daemon may start a profiler of which Python hears nothing."""


def profiler_is_running() -> bool:
    """Whether a profiler hears ranges: one that Python started on any thread, one of this thread's, or a daemon's."""
    return autograd_profiler._is_profiler_enabled or torch._C._autograd._profiler_enabled() or _ON_DEMAND


class SynchronizedRanges(threading.local):
    """Waits for the devices before a stage begins and before it ends, as the reference study does.

    Ranges that are no stage's (layers, modules) are passed on without a wait, or they would be measured one by one.

    Args:
        only: the stage that waits; None is every one.
    """

    def __init__(self, sink: RangeSink, *devices: torch.device, only: Stage | None = None) -> None:
        self._sink = sink
        self._only = only
        self._devices = [device for device in devices if device.type != "cpu"]
        self._waits: list[bool] = []

    def begin(self, name: str) -> None:
        """Wait if it is a stage, then begin."""
        stage = stage_of_range(name)
        self._waits.append(stage is not None and self._only in (None, stage))
        self._wait()
        self._sink.begin(name)

    def end(self) -> None:
        """Wait if it was a stage, then end."""
        self._wait()
        self._waits.pop()
        self._sink.end()

    def _wait(self) -> None:
        for device in self._devices if self._waits[-1] else ():
            wait_for(device)


class RangeStack(threading.local):
    """The ranges open on the calling thread. Keeps the sink's ranges nested, whatever the hooks see.

    What a sink raises is logged, since it would end the program that is annotated.
    """

    def __init__(self, sink: RangeSink) -> None:
        self._sink = sink
        self._names: list[str] = []
        self._owners: list[nn.Module | None] = []

    def open(self, name: str, owner: nn.Module | None = None) -> None:
        """Begin a range; what an interrupt left open ends first, such as one of the same name.

        Args:
            owner: the module whose call the range is around, where it is hooks that end it.
        """
        self.close_interrupted()
        if owner is not None and any(owner is known for known in self._owners):
            self._close_abandoned()  # an earlier call of it may have been interrupted, and so what was around that
        if name in self._names:
            self.close(name)
        if _heard(self._sink.begin, name):
            self._names.append(name)
            self._owners.append(owner)

    def close_interrupted(self) -> None:
        """End the ranges of calls that are over: a KeyboardInterrupt, or a SystemExit, tells no hook of a module."""
        for place in reversed(range(len(self._owners))):
            owner = self._owners[place]
            if owner is None:
                continue
            if is_running(owner):
                return  # and so are those around it
            self.close_to(place)

    def _close_abandoned(self) -> None:
        """End the ranges of calls that are over from the outermost on, since that of a module called anew goes on."""
        for place, owner in enumerate(self._owners):
            if owner is not None and not is_running(owner):
                self.close_to(place)
                return

    def close(self, name: str) -> None:
        """End the innermost range of this name and all that is still open inside it; none open: do nothing."""
        if name in self._names:
            self.close_to(len(self._names) - 1 - self._names[::-1].index(name))

    def close_to(self, depth: int) -> None:
        """End ranges until so many are open."""
        while len(self._names) > depth:
            self._names.pop()
            self._owners.pop()
            _heard(self._sink.end)

    @property
    def depth(self) -> int:
        """How many ranges are open on the calling thread."""
        return len(self._names)

    def is_open(self, name: str, depth: int | None = None) -> bool:
        """Whether a range of this name is open on the calling thread.

        Args:
            depth: how many were open when it began, if it has to be that one.
        """
        return name in self._names if depth is None else self._names[depth : depth + 1] == [name]

    @contextmanager
    def stage(self, stage: Stage | str) -> Iterator[None]:
        """A range around a block; a stage inside itself is one range, and a request is inside of nothing.

        Raises:
            ConfigError: there is no such stage.

        >>> with annotation.stage(Stage.TRANSFER):      # doctest: +SKIP
        ...     inputs = inputs.to("cuda")
        """
        stage = _known(stage)
        self.close_interrupted()
        if self.is_open(stage.range_name):
            yield
            return
        if stage is Stage.REQUEST:
            self.close_to(0)  # what an interrupt left
        self.open(stage.range_name)
        try:
            yield
        finally:
            self.close(stage.range_name)


def _known(stage: Stage | str) -> Stage:
    if stage in _RANGES:
        return Stage(stage)
    raise ConfigError(f"no stage {shown(stage)}; give one of {', '.join(_RANGES)}")


_RANGES: Final = [each.value for each in Stage if each is not Stage.UNATTRIBUTED]


def _heard(tell: Callable[..., None], *told: Any) -> bool:
    """Whether a sink could be told."""
    try:
        tell(*told)
    except Exception as error:
        _LOG.warning("gemma-trace could not record a range: %s: %s", type(error).__name__, error)
        return False
    return True
