"""A plugin of SGLang, which calls `register` in each of its processes. It does nothing unless GEMMA_TRACE_SGLANG=1.

It was written after the source of SGLang (of versions that have `sglang.srt.plugins`) and has not run against it. The
scheduler's process gets ranges around tower, connector, forward and sampling, and writes which requests each step has.
The tokenizer's, which has no profiler, writes the times of its work on images. The detokenizer's isn't told when
anything is recorded, so nothing is of it. Under CUDA graphs, ranges inside of what is replayed don't show.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
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
)
from gemma_trace.stages import Stage

VARIABLE: Final = "GEMMA_TRACE_SGLANG"
"""The environment variable that turns the plugin on."""

_PROCESSORS: Final = "sglang.srt.multimodal.processors.base_processor"
_RUNNER: Final = "sglang.srt.model_executor.model_runner"

# In the tokenizer's process, where only times can be written.
_STAMPED: Final[tuple[Stamped, ...]] = (
    (_PROCESSORS, "BaseMultimodalProcessor", "_load_single_item", Stage.IMAGE_LOAD.value),
    (_PROCESSORS, "BaseMultimodalProcessor", "process_mm_data", Stage.PREPROCESSING.value),
    IMAGE_PROCESSOR,
)

_TOWERS: Final = ("vision_tower", "visual", "vision_model", "vision_encoder", "vision_embed_tokens", "vpm")
_CONNECTORS: Final = ("multi_modal_projector", "mm_projector", "vision_projector", "projector", "connector", "mlp1")
"""What SGLang's models call them."""

_GENERATING: Final = ("DECODE", "TARGET_VERIFY")
"""The modes of steps that read no prompts."""

_stamps = Stamps()


def register() -> None:
    """Hook in where `GEMMA_TRACE_SGLANG` is 1."""
    if not is_asked_for(VARIABLE):
        return
    _stamps.time_calls(_STAMPED)
    wrap("sglang.srt.managers.tokenizer_manager", "TokenizerManager", "start_profile", _asked_to_start)
    wrap("sglang.srt.managers.tokenizer_manager", "TokenizerManager", "stop_profile", _stamps.stops(_folder))
    wrap("sglang.srt.managers.scheduler", "Scheduler", "run_batch", _running)
    wrap(_RUNNER, "ModelRunner", "load_model", _loading)
    wrap(_RUNNER, "ModelRunner", "forward", _forwarding)
    wrap(_RUNNER, "ModelRunner", "sample", within(Stage.SAMPLING.range_name))
    # Which class of the scheduler has the profiler is different in each version; all of them call these.
    wrap("torch.profiler", "profile", "start", _recording)
    wrap("torch.profiler", "profile", "export_chrome_trace", _exporting)


def _asked_to_start(original: Method) -> Method:
    starts = _stamps.starts(original)

    async def start_profile(self: Any, *args: Any, **more: Any) -> Any:
        asked = [*args, *more.values()][:1]  # a request of its own, or in older versions the folder
        given = more.get("output_dir") or next((getattr(each, "output_dir", each) for each in asked), None)
        folder = given if isinstance(given, str | Path) else os.environ.get("SGLANG_TORCH_PROFILER_DIR", "/tmp")
        self.gemma_trace_folder = str(folder)
        return await starts(self, *args, **more)

    return start_profile


def _folder(manager: Any) -> str:
    return str(getattr(manager, "gemma_trace_folder", ""))


def _recording(original: Method) -> Method:
    def start(self: Any, *args: Any, **more: Any) -> Any:
        _stamps.is_on = True
        return original(self, *args, **more)

    return start


def _exporting(original: Method) -> Method:
    def export_chrome_trace(self: Any, path: Any, *args: Any, **more: Any) -> Any:
        _stamps.end(str(Path(path).parent))
        return original(self, path, *args, **more)

    return export_chrome_trace


def _running(original: Method) -> Method:
    def run_batch(self: Any, batch: Any, *args: Any, **more: Any) -> Any:
        if not _stamps.is_on:
            return original(self, batch, *args, **more)
        start_ns = time.time_ns()
        requests = _names(batch, "reqs")
        reading: tuple[str, ...] = ()
        if getattr(getattr(batch, "forward_mode", None), "name", "") not in _GENERATING:
            generating = _names(batch, "decoding_reqs")  # others, in a step that does both
            reading = tuple(name for name in requests if name not in generating)
        done = original(self, batch, *args, **more)
        _stamps.add(STEP, start_ns, request_ids=requests, reading_ids=reading)
        return done

    return run_batch


def _names(batch: Any, of: str) -> tuple[str, ...]:
    return tuple(str(request.rid) for request in getattr(batch, of, None) or ())


def _loading(original: Method) -> Method:
    def load_model(self: Any, *args: Any, **more: Any) -> Any:
        done = original(self, *args, **more)
        model = getattr(self, "model", None)
        for names, stage in ((_TOWERS, Stage.VISION_TOWER), (_CONNECTORS, Stage.PROJECTOR)):
            mark_modules(model, [name for name in names if hasattr(model, name)], stage.range_name)
        return done

    return load_model


def _forwarding(original: Method) -> Method:
    ranges = range_type()

    def forward(self: Any, forward_batch: Any, *args: Any, **more: Any) -> Any:
        mode = getattr(getattr(forward_batch, "forward_mode", None), "name", "")
        if mode in ("", "IDLE"):
            return original(self, forward_batch, *args, **more)
        with ranges((Stage.DECODE if mode in _GENERATING else Stage.PREFILL).range_name):
            return original(self, forward_batch, *args, **more)

    return forward
