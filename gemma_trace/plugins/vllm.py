"""A plugin of vLLM, which calls `register` in each of its processes. It does nothing unless GEMMA_TRACE_VLLM=1.

In the worker it puts our ranges around tower, connector, forward and sampling, so that a trace needs no Python stacks
to tell them. In the front end the profiler runs on another thread and records no range, so times are written beside the
trace. Under CUDA graphs and torch.compile, ranges inside of what is replayed don't show.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from gemma_trace.plugins.hooks import (
    IMAGE_PROCESSOR,
    STEP,
    Method,
    Stamped,
    Stamps,
    is_asked_for,
    mark_modules,
    range_type,
    within,
    wrap,
    wrap_method,
)
from gemma_trace.stages import DETOKENIZATION, Stage

VARIABLE: Final = "GEMMA_TRACE_VLLM"
"""The environment variable that turns the plugin on."""

# In the front end, where only times can be written.
_STAMPED: Final[tuple[Stamped, ...]] = (
    ("vllm.multimodal.media.image", "ImageMediaIO", "load_bytes", Stage.IMAGE_LOAD.value),
    ("vllm.renderers.base", "BaseRenderer", "_process_multimodal", Stage.PREPROCESSING.value),
    IMAGE_PROCESSOR,
    ("vllm.v1.engine.output_processor", "OutputProcessor", "process_outputs", DETOKENIZATION),
)

_stamps = Stamps()


def register() -> None:
    """Hook in where `GEMMA_TRACE_VLLM` is 1. vLLM may call it several times in a process."""
    if not is_asked_for(VARIABLE):
        return
    _stamps.time_calls(_STAMPED)
    wrap("vllm.v1.engine.async_llm", "AsyncLLM", "start_profile", _stamps.starts)
    wrap("vllm.v1.engine.async_llm", "AsyncLLM", "stop_profile", _stamps.stops(_folder))
    wrap("vllm.model_executor.model_loader.base_loader", "BaseModelLoader", "load_model", _loading)


def _folder(owner: Any) -> str:
    """Where the profiler's traces go."""
    config = getattr(getattr(owner, "vllm_config", None), "profiler_config", None)
    folder = getattr(config, "torch_profiler_dir", "") or os.environ.get("VLLM_TORCH_PROFILER_DIR", "")
    return str(folder)


def _loading(original: Method) -> Method:
    def load_model(*args: Any, **more: Any) -> Any:
        model = original(*args, **more)
        mapping = model.get_mm_mapping() if hasattr(model, "get_mm_mapping") else None
        for names, stage in (("tower_model", Stage.VISION_TOWER), ("connector", Stage.PROJECTOR)):
            mark_modules(model, getattr(mapping, names, None) or (), stage.range_name)
        wrap("vllm.v1.worker.gpu_worker", "Worker", "execute_model", _executing)
        wrap("vllm.v1.worker.gpu_worker", "Worker", "profile", _profiling)
        return model

    return load_model


def _executing(original: Method) -> Method:
    ranges = range_type()

    def execute_model(self: Any, scheduler_output: Any, *args: Any, **more: Any) -> Any:
        requests = getattr(scheduler_output, "num_scheduled_tokens", None) or {}
        if not requests:
            return original(self, scheduler_output, *args, **more)
        start_ns = time.time_ns()
        reading = _reading(scheduler_output, requests)
        with ranges((Stage.PREFILL if reading else Stage.DECODE).range_name):
            output = original(self, scheduler_output, *args, **more)
        if _stamps.is_on:
            _stamps.add(STEP, start_ns, request_ids=tuple(requests), reading_ids=reading)
        return output

    return execute_model


def _reading(scheduler_output: Any, requests: dict[str, int]) -> tuple[str, ...]:
    """The requests of a step whose prompt it reads, be it a later part of it."""
    new = {each.req_id for each in getattr(scheduler_output, "scheduled_new_reqs", None) or ()}
    cached = getattr(scheduler_output, "scheduled_cached_reqs", None)
    is_context = getattr(cached, "is_context_phase", lambda request: False)
    return tuple(request for request in requests if request in new or is_context(request))


def _profiling(original: Method) -> Method:
    def profile(self: Any, is_start: bool = True, *args: Any, **more: Any) -> Any:
        if is_start:
            _stamps.is_on = True
            # In the worker's method of the name, by whose frame sampling is told where stacks are recorded.
            wrap_method(type(self.model_runner), "sample_tokens", within(Stage.SAMPLING.range_name))
        else:
            _stamps.end(_folder(self))
        return original(self, is_start, *args, **more)

    return profile
