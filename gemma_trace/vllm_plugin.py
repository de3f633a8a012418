"""A plugin of vLLM, which calls `register` in each of its processes. It does nothing unless GEMMA_TRACE_VLLM=1.

In the worker it puts our ranges around tower, connector, forward and sampling, so that a trace needs no Python stacks
to tell them. In the front end the profiler runs on another thread and records no range, so times are written beside the
trace: see `served/stamps.py`. What another version of vLLM doesn't have is left out, with one line in its log. Under
CUDA graphs and torch.compile, ranges inside of what is replayed don't show.

The module imports neither torch nor vLLM by itself.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from gemma_trace.stages import DETOKENIZATION, PREFIX, Stage

VARIABLE: Final = "GEMMA_TRACE_VLLM"
"""The environment variable that turns the plugin on."""

STEP: Final = "step"
"""What the stamp of an engine's step is called."""

_WRAPPED: Final = "__gemma_trace__"
_log = logging.getLogger("vllm.gemma_trace")

# (module, class, method, the stage that a call of it is): in the front end, where only times can be written.
_STAMPED: Final = (
    ("vllm.multimodal.media.image", "ImageMediaIO", "load_bytes", Stage.IMAGE_LOAD.value),
    ("vllm.renderers.base", "BaseRenderer", "_process_multimodal", Stage.PREPROCESSING.value),
    (
        "transformers.image_processing_utils",
        "BaseImageProcessor",
        "__call__",
        Stage.IMAGE_PROCESSING.value,
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor", "process_outputs", DETOKENIZATION),
)


class _Stamps:
    """The times of calls while the profiler is on, and the file that they go to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self.is_on = False

    def add(self, stage: str, start_ns: int, request_ids: tuple[str, ...] = ()) -> None:
        """A call that began then ends now."""
        stamp = {"stage": stage, "start_ns": start_ns, "end_ns": time.time_ns(), "request_ids": request_ids}
        with self._lock:
            self._lines.append(json.dumps(stamp))

    def write(self, folder: str) -> None:
        """Write them beside the traces, and forget them."""
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


_stamps = _Stamps()


def register() -> None:
    """Hook in where `GEMMA_TRACE_VLLM` is 1. vLLM may call it several times in a process."""
    if os.environ.get(VARIABLE) != "1":
        return
    for module, name, method, stage in _STAMPED:
        _wrap(module, name, method, functools.partial(_stamped, stage))
    _wrap("vllm.v1.engine.async_llm", "AsyncLLM", "start_profile", _starting)
    _wrap("vllm.v1.engine.async_llm", "AsyncLLM", "stop_profile", _stopping)
    _wrap("vllm.model_executor.model_loader.base_loader", "BaseModelLoader", "load_model", _loading)


Method = Callable[..., Any]


def _wrap(module: str, name: str, method: str, wrapper: Callable[[Method], Method]) -> None:
    """Put a method of a class in a wrapper, once; where there is none, say so."""
    try:
        owner = getattr(importlib.import_module(module), name)
        original = getattr(owner, method)
    except (ImportError, AttributeError):
        _log.warning(
            "gemma-trace finds no %s.%s.%s in this version of vLLM; its time is not told", module, name, method
        )
        return
    if not hasattr(original, _WRAPPED):
        wrapped = functools.wraps(original)(wrapper(original))
        setattr(wrapped, _WRAPPED, True)
        setattr(owner, method, wrapped)


def _stamped(stage: str, original: Method) -> Method:
    def timed(*args: Any, **more: Any) -> Any:
        if not _stamps.is_on:
            return original(*args, **more)
        start_ns = time.time_ns()
        try:
            return original(*args, **more)
        finally:
            _stamps.add(stage, start_ns)

    return timed


def _starting(original: Method) -> Method:
    async def start_profile(self: Any, *args: Any, **more: Any) -> Any:
        _stamps.is_on = True
        return await original(self, *args, **more)

    return start_profile


def _stopping(original: Method) -> Method:
    async def stop_profile(self: Any, *args: Any, **more: Any) -> Any:
        _stamps.is_on = False
        _stamps.write(_folder(self))
        return await original(self, *args, **more)

    return stop_profile


def _folder(owner: Any) -> str:
    """Where the profiler's traces go."""
    config = getattr(getattr(owner, "vllm_config", None), "profiler_config", None)
    folder = getattr(config, "torch_profiler_dir", "") or os.environ.get("VLLM_TORCH_PROFILER_DIR", "")
    return str(folder)


def _loading(original: Method) -> Method:
    def load_model(*args: Any, **more: Any) -> Any:
        model = original(*args, **more)
        _mark_modules(model)
        _wrap("vllm.v1.worker.gpu_worker", "Worker", "execute_model", _executing)
        _wrap("vllm.v1.worker.gpu_worker", "Worker", "sample_tokens", _sampling)
        _wrap("vllm.v1.worker.gpu_worker", "Worker", "profile", _profiling)
        return model

    return load_model


def _mark_modules(model: Any) -> None:
    """Put ranges around a multimodal model's tower and connector."""
    mapping = model.get_mm_mapping() if hasattr(model, "get_mm_mapping") else None
    for names, stage in (("tower_model", Stage.VISION_TOWER), ("connector", Stage.PROJECTOR)):
        for prefix in getattr(mapping, names, None) or ():
            try:
                module = model.get_submodule(prefix.rstrip("."))
            except AttributeError:
                _log.warning("gemma-trace finds no module %s in the model; its time is not told", prefix)
                continue
            if not hasattr(module.forward, _WRAPPED):
                marked = functools.wraps(module.forward)(_within(stage.range_name, module.forward))
                setattr(marked, _WRAPPED, True)
                module.forward = marked


def _within(name: str, original: Method) -> Method:
    def ranged(*args: Any, **more: Any) -> Any:
        with _range(name):
            return original(*args, **more)

    return ranged


def _range(name: str) -> AbstractContextManager[Any]:
    from torch.profiler import record_function

    opened: AbstractContextManager[Any] = record_function(name)
    return opened


def _executing(original: Method) -> Method:
    def execute_model(self: Any, scheduler_output: Any, *args: Any, **more: Any) -> Any:
        requests = getattr(scheduler_output, "num_scheduled_tokens", None) or {}
        if not requests:
            return original(self, scheduler_output, *args, **more)
        start_ns = time.time_ns()
        with _range(PREFIX + (Stage.PREFILL if _reads(scheduler_output, requests) else Stage.DECODE).value):
            output = original(self, scheduler_output, *args, **more)
        if _stamps.is_on:
            _stamps.add(STEP, start_ns, tuple(requests))
        return output

    return execute_model


def _reads(scheduler_output: Any, requests: dict[str, int]) -> bool:
    """Whether a step reads tokens of a prompt, be it a later part of it."""
    if getattr(scheduler_output, "scheduled_new_reqs", None):
        return True
    is_context = getattr(getattr(scheduler_output, "scheduled_cached_reqs", None), "is_context_phase", None)
    return is_context is not None and any(is_context(request) for request in requests)


def _sampling(original: Method) -> Method:
    return _within(Stage.SAMPLING.range_name, original)


def _profiling(original: Method) -> Method:
    def profile(self: Any, is_start: bool = True, *args: Any, **more: Any) -> Any:
        _stamps.is_on = is_start
        if not is_start:
            _stamps.write(_folder(self))
        return original(self, is_start, *args, **more)

    return profile
