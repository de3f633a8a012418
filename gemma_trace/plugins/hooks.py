"""Hooks into the classes of a server: ranges around what its profiler records, and times of what it doesn't.

What another version of a server doesn't have is left out, with one line in its log.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from gemma_trace.stages import Stage

STEP: Final = "step"
"""What the stamp of an engine's step is called."""

Method = Callable[..., Any]
Wrapper = Callable[[Method], Method]
Stamped = tuple[str, str, str, str]
"""A module, a class of it, a method of that, and the stage that a call of the method is."""

IMAGE_PROCESSOR: Final[Stamped] = (
    *("transformers.image_processing_utils", "BaseImageProcessor", "__call__"),
    Stage.IMAGE_PROCESSING.value,
)
"""The image processors of transformers, which every server calls."""

_WRAPPED: Final = "__gemma_trace__"
_log = logging.getLogger("gemma_trace.plugins")


class Stamps:
    """The times of calls while the profiler is on, and the file that they go to: see `served/stamps.py`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self.is_on = False

    def add(self, stage: str, start_ns: int, **more: tuple[str, ...]) -> None:
        """A call that began then (ns since 1970) ends now.

        Args:
            more: other members of `served/stamps.py::Stamp`.
        """
        stamp = {"stage": stage, "start_ns": start_ns, "end_ns": time.time_ns(), **more}
        with self._lock:
            self._lines.append(json.dumps(stamp))

    def end(self, folder: str) -> None:
        """The profiler has stopped: write the times beside its traces, and forget them."""
        self.is_on = False
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines or not folder or "://" in folder:
            return
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"gemma_trace_stamps.{os.getpid()}-{time.time_ns()}.jsonl"
            path.write_text("".join(f"{line}\n" for line in lines))
        except OSError as error:
            _log.warning("gemma-trace can't write its times into the profiler's folder: %s", error.strerror)

    def timed(self, stage: str) -> Wrapper:
        """Makes calls leave a stamp."""

        def wrapper(original: Method) -> Method:
            def timed(*args: Any, **more: Any) -> Any:
                if not self.is_on:
                    return original(*args, **more)
                start_ns = time.time_ns()
                try:
                    return original(*args, **more)
                finally:
                    self.add(stage, start_ns)

            return timed

        return wrapper

    def time_calls(self, methods: Iterable[Stamped]) -> None:
        """Make calls of these methods leave a stamp."""
        for module, name, method, stage in methods:
            wrap(module, name, method, self.timed(stage))

    def starts(self, original: Method) -> Method:
        """Wraps the coroutine that starts a server's profiler."""

        async def start_profile(owner: Any, /, *args: Any, **more: Any) -> Any:
            self.is_on = True
            return await original(owner, *args, **more)

        return start_profile

    def stops(self, folder_of: Callable[[Any], str]) -> Wrapper:
        """Wraps the coroutine that stops a server's profiler.

        Args:
            folder_of: where the profiler's traces go, of the object whose method it is.
        """

        def wrapper(original: Method) -> Method:
            async def stop_profile(owner: Any, /, *args: Any, **more: Any) -> Any:
                self.end(folder_of(owner))
                return await original(owner, *args, **more)

            return stop_profile

        return wrapper


def is_asked_for(variable: str) -> bool:
    """Whether an environment variable turns a plugin on."""
    return os.environ.get(variable) == "1"


def wrap(module: str, name: str, method: str, wrapper: Wrapper) -> None:
    """Put a method of a class in a wrapper, once; where there is none, say so."""
    try:
        owner = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        _say_absent(f"{module}.{name}")
        return
    wrap_method(owner, method, wrapper)


def wrap_method(owner: type, method: str, wrapper: Wrapper) -> None:
    """The same, of a class in hand. A static method stays one, and so does one of the class."""
    try:
        kind = inspect.getattr_static(owner, method)
    except AttributeError:
        _say_absent(f"{owner.__module__}.{owner.__qualname__}.{method}")
        return
    original = kind.__func__ if isinstance(kind, staticmethod | classmethod) else kind
    if not hasattr(original, _WRAPPED):
        wrapped = _as(original, wrapper(original))
        setattr(owner, method, type(kind)(wrapped) if original is not kind else wrapped)


def _say_absent(what: str) -> None:
    _log.warning("gemma-trace does not find %s in this version of the server: the trace will not show its time", what)


def _as(original: Method, wrapped: Method) -> Method:
    wrapped = functools.wraps(original)(wrapped)
    setattr(wrapped, _WRAPPED, True)
    return wrapped


def mark_modules(model: Any, prefixes: Iterable[str], range_name: str) -> None:
    """Put a range around the forward of modules of a model."""
    for prefix in prefixes:
        try:
            module = model.get_submodule(prefix.rstrip("."))
        except AttributeError:
            _say_absent(f"module {prefix}")
            continue
        if not hasattr(module.forward, _WRAPPED):
            module.forward = _as(module.forward, within(range_name)(module.forward))


def within(range_name: str) -> Wrapper:
    """Puts calls in a range."""

    def wrapper(original: Method) -> Method:
        ranges = range_type()

        def ranged(*args: Any, **more: Any) -> Any:
            with ranges(range_name):
                return original(*args, **more)

        return ranged

    return wrapper


def range_type() -> Callable[[str], AbstractContextManager[Any]]:
    """What opens a range of the profiler's by its name. It imports torch.

    torch's own for generated code, if there is one: it costs some 5 µs where Python's frames are recorded, and
    `record_function`, which has frames of its own, 50 to 200. It is recorded as an op; the reader goes by the name.
    """
    import torch

    opens: Callable[[str], AbstractContextManager[Any]] = getattr(
        torch._C._profiler, "_RecordFunctionFast", torch.profiler.record_function
    )
    return opens
