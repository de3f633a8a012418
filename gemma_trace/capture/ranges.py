"""What the hooks tell, and who listens: the profiler, or the timers.

A `RangeSink` hears `begin(name)` and `end()` in strict last-in, first-out order on each thread. `RangeStack` sees
to that order: it closes what an exception or an early return left open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch.profiler import record_function

from gemma_trace.stages import Stage


class RangeSink(Protocol):
    """Listens to ranges."""

    def begin(self, name: str) -> None:
        """A range of this name starts on the calling thread."""

    def end(self) -> None:
        """The range that started last on the calling thread ends."""


class ProfilerRanges(threading.local):
    """Ranges as `record_function` ranges of the profiler that is running."""

    def __init__(self) -> None:
        self._open: list[record_function] = []

    def begin(self, name: str) -> None:
        """Enter a `record_function` range."""
        entered = record_function(name)
        entered.__enter__()
        self._open.append(entered)

    def end(self) -> None:
        """Leave the innermost range."""
        self._open.pop().__exit__(None, None, None)


class SynchronizedRanges:
    """Waits for the device before a range begins and before it ends, as the reference study does."""

    def __init__(self, sink: RangeSink, device: torch.device) -> None:
        self._sink = sink
        self._device = device

    def begin(self, name: str) -> None:
        """Wait, then begin."""
        self._wait()
        self._sink.begin(name)

    def end(self) -> None:
        """Wait, then end."""
        self._wait()
        self._sink.end()

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class RangeStack(threading.local):
    """The ranges open on the calling thread. Keeps the sink's ranges nested, whatever the hooks see."""

    def __init__(self, sink: RangeSink) -> None:
        self._sink = sink
        self._names: list[str] = []

    def open(self, name: str) -> None:
        """Begin a range."""
        self._sink.begin(name)
        self._names.append(name)

    def close(self, name: str) -> None:
        """End the innermost range of this name and all that is still open inside it; none open: do nothing."""
        if name not in self._names:
            return
        while True:
            ended = self._names.pop()
            self._sink.end()
            if ended == name:
                return

    def is_open(self, name: str) -> bool:
        """Whether a range of this name is open on the calling thread."""
        return name in self._names

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """A range around a block; a stage inside itself is one range.

        >>> with annotation.stage(Stage.TRANSFER):      # doctest: +SKIP
        ...     inputs = inputs.to("cuda")
        """
        if self.is_open(stage.range_name):
            yield
            return
        self.open(stage.range_name)
        try:
            yield
        finally:
            self.close(stage.range_name)
