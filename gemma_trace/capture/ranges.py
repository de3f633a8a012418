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
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch.autograd import profiler as autograd_profiler
from torch.profiler import record_function

from gemma_trace.capture.accelerators import wait_for
from gemma_trace.capture.graph_labels import GraphLabels, labels_nodes
from gemma_trace.capture.interception import is_running
from gemma_trace.capture.natural_types import shown
from gemma_trace.errors import ConfigError
from gemma_trace.stages import INTERLEAVED, Stage, stage_of_range

_LOG: Final = logging.getLogger(__name__)
_GRAPH_LABELS: Final = GraphLabels()


class RangeSink(Protocol):
    """Listens to ranges."""

    def begin(self, name: str) -> None:
        """A range of this name starts on the calling thread."""

    def end(self) -> None:
        """The range that started last on the calling thread ends."""


class Deaf:
    """A sink that hears nothing."""

    def begin(self, name: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


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


@dataclass(eq=False)
class _Block:
    """A block of `RangeStack.stage` that is entered.

    Attributes:
        is_left: whether it ended on another thread than that on which it began.
        is_told: whether it was said that it isn't nested with others.
    """

    is_left: bool = False
    is_told: bool = False


@dataclass(eq=False)
class _Range:
    """A range that is open.

    Attributes:
        owner: the module whose call the range is around, where it is hooks that end it.
        blocks: those that it is of, in the order in which they were entered; none where hooks began it.
        sink: who was told of it.
    """

    name: str
    owner: nn.Module | None = None
    blocks: list[_Block] = field(default_factory=list)
    sink: RangeSink | None = None

    @property
    def is_left(self) -> bool:
        """Whether other threads have left all of its blocks, of which it has one at least."""
        return all(block.is_left for block in self.blocks)


_AROUND: Final[ContextVar[tuple[_Block, ...]]] = ContextVar("gemma_trace_blocks", default=())
"""The blocks around the caller. A task of asyncio's or trio's has those of the one that started it, and its own."""


class RangeStack(threading.local):
    """The ranges open on the calling thread. Keeps the sink's ranges nested, whatever the hooks see.

    What a sink raises is logged, since it would end the program that is annotated. While a CUDA graph is captured whose
    nodes torch labels, stages are those labels, and the sink hears nothing.

    Ranges of one thread can't overlap without one being inside of the other. Where a program's blocks do, as those of
    asyncio's tasks that wait for something inside of their request, requests that overlap have one range together,
    from the beginning of the first to the end of the last. That is logged, and a range `INTERLEAVED` marks it.
    """

    def __init__(self, sink: RangeSink) -> None:
        self._sink = sink
        self._ranges: list[_Range] = []
        self._is_logged = False

    def open(self, name: str, owner: nn.Module | None = None) -> None:
        """Begin a range; what an interrupt left open ends first, such as one of the same name.

        Args:
            owner: the module whose call the range is around, where it is hooks that end it.
        """
        self.close_interrupted()
        if owner is not None and any(owner is known.owner for known in self._ranges):
            self._close_abandoned()  # an earlier call of it may have been interrupted, and so what was around that
        self.close(name)
        self._begin(_Range(name, owner))

    def _begin(self, opened: _Range) -> None:
        opened.sink = _GRAPH_LABELS if labels_nodes() else self._sink
        if _heard(opened.sink.begin, opened.name):
            self._ranges.append(opened)

    def close_interrupted(self) -> None:
        """End the ranges of calls that are over: a KeyboardInterrupt, or a SystemExit, tells no hook of a module.

        And those of blocks that another thread has left.
        """
        for opened in [each for each in self._ranges if each.blocks and each.is_left]:
            self._tell(opened.blocks[0], _LEFT_ELSEWHERE)
            self._take_out(opened)
        for place in reversed(range(len(self._ranges))):
            owner = self._ranges[place].owner
            if owner is None:
                continue
            if is_running(owner):
                return  # and so are those around it
            self.close_to(place)

    def _close_abandoned(self) -> None:
        """End the ranges of calls that are over from the outermost on, since that of a module called anew goes on."""
        for place, opened in enumerate(self._ranges):
            if opened.owner is not None and not is_running(opened.owner):
                self.close_to(place)
                return

    def close(self, name: str) -> None:
        """End the innermost range of this name and all that is still open inside it; none open: do nothing."""
        place = self._place(name)
        if place is not None:
            self.close_to(place)

    def close_to(self, depth: int) -> None:
        """End ranges until so many are open."""
        while len(self._ranges) > depth:
            if (sink := self._ranges.pop().sink) is not None:
                _heard(sink.end)

    @property
    def depth(self) -> int:
        """How many ranges are open on the calling thread."""
        return len(self._ranges)

    def is_open(self, name: str) -> bool:
        """Whether a range of this name is open on the calling thread."""
        return self._place(name) is not None

    def _place(self, name: str) -> int | None:
        """Where the innermost range of this name is."""
        for place in range(len(self._ranges) - 1, -1, -1):
            if self._ranges[place].name == name:
                return place
        return None

    @contextmanager
    def stage(self, stage: Stage | str) -> Iterator[None]:
        """A range around a block; a stage inside itself is one range, and a request is inside of nothing.

        Raises:
            ConfigError: there is no such stage.

        >>> with annotation.stage(Stage.TRANSFER):      # doctest: +SKIP
        ...     inputs = inputs.to("cuda")
        """
        block = _Block()
        self._enter(block, _known(stage))
        _AROUND.set((*_AROUND.get(), block))
        try:
            yield
        finally:
            _AROUND.set(tuple(each for each in _AROUND.get() if each is not block))
            self._leave(block)

    def _enter(self, block: _Block, stage: Stage) -> None:
        self.close_interrupted()
        place = self._place(stage.range_name)
        shared = None if place is None else self._ranges[place]
        beside = self._ranges if stage is Stage.REQUEST else [shared] if shared else []
        around = _AROUND.get()
        if any(other not in around for each in beside for other in each.blocks):
            self._tell(block, _OVERLAPS)
        if shared is not None:
            shared.blocks += [block] if shared.blocks else []  # or else hooks end it
            return
        if stage is Stage.REQUEST:
            self.close_to(0)  # what an interrupt left
        self._begin(_Range(stage.range_name, blocks=[block]))

    def _leave(self, block: _Block) -> None:
        block.is_left = True
        place = next((place for place, each in enumerate(self._ranges) if block in each.blocks), None)
        if place is None:
            return  # it has ended, or it is another thread's, which looks for it
        opened = self._ranges[place]
        if opened.blocks[-1] is not block or any(above.blocks for above in self._ranges[place + 1 :]):
            self._tell(block, _OVERLAPS)
        opened.blocks.remove(block)
        if not opened.blocks:
            self._take_out(opened)

    def _take_out(self, opened: _Range) -> None:
        """End a range and all inside of it; what is inside and belongs to blocks that go on begins anew."""
        place = self._ranges.index(opened)
        inside = self._ranges[place + 1 :]
        self.close_to(place)
        for each in inside:
            if each.blocks:
                self._begin(each)

    def _tell(self, block: _Block, what: str) -> None:
        """Say once of a block, and in the log once in all, that it isn't nested with others."""
        if block.is_told:
            return
        block.is_told = True
        if _heard(self._sink.begin, INTERLEAVED):
            _heard(self._sink.end)
        if not self._is_logged:
            self._is_logged = True
            _LOG.warning("%s; the trace has a range %s at each such place", what, INTERLEAVED)


_OVERLAPS: Final = (
    "stages of several tasks or generators overlap on one thread, which a trace can't tell apart, so requests that "
    "overlap have one range together: run one at a time, or each on a thread of its own"
)
_LEFT_ELSEWHERE: Final = "a range that began on one thread was left on another, so where it ends is not known"


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
