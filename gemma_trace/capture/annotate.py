"""Hooks on a model and its processor that put a range around every stage, and the removal of each of them.

Nothing of transformers is edited: modules get forward hooks; calls of the objects in hand are listened to on those
objects alone (`interception.py`). `annotate` removes all of it when its block ends, also by an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.discovery import StageModules, find_stage_modules
from gemma_trace.capture.graph_labels import labels_nodes
from gemma_trace.capture.interception import Call, listen_to_calls, listen_to_forward, outside_graph
from gemma_trace.capture.natural_types import checked, shown
from gemma_trace.capture.option_texts import module_paths
from gemma_trace.capture.ranges import Deaf, ProfilerRanges, RangeSink, RangeStack
from gemma_trace.capture.text_model import TextModel
from gemma_trace.capture.wrappers import can_generate, unwrapped
from gemma_trace.errors import ConfigError
from gemma_trace.stages import LAYER_PREFIX, MODULE_PREFIX, Stage

_PARTS: Final = {
    "image_processor": Stage.IMAGE_PROCESSING,
    "video_processor": Stage.VIDEO_PROCESSING,
    "feature_extractor": Stage.AUDIO_PROCESSING,
    "audio_processor": Stage.AUDIO_PROCESSING,
    "tokenizer": Stage.TOKENIZATION,
    "qformer_tokenizer": Stage.TOKENIZATION,
    "protein_tokenizer": Stage.TOKENIZATION,
}
"""What a processor's parts are called, and whose work they do. Of one object under two names the first counts."""


@contextmanager
def annotate(
    model: nn.Module,
    processor: Any = None,
    *,
    detail: str = "layer",
    stage_modules: Mapping[str, str] | None = None,
    sink: RangeSink | None = None,
) -> Iterator[RangeStack]:
    """Put the stage ranges around a model of transformers for as long as the block runs.

    For a program with a profiler session of its own:

        with torch.profiler.profile() as profiler, gemma_trace.annotate(model, processor) as ranges:
            with ranges.stage(Stage.REQUEST):
                inputs = processor(text=prompt, images=image, return_tensors="pt")
                model.generate(**inputs, max_new_tokens=8)
        profiler.export_chrome_trace("request.pt.trace.json")

    It never raises into the program; what goes wrong in a hook is logged. Several threads may use the model at once:
    each has its own ranges. Requests that overlap on one thread, as those of asyncio's tasks do, are one range, and the
    trace says so. While no profiler runs nothing is recorded, so it can stay on. Inside of what torch.compile compiled
    or a CUDA graph captured there are no ranges; there is one around it, or none where the program replays graphs by
    itself: put `ranges.stage(...)` around that. The encoders in a graph that is captured in this block by
    `torch.cuda.graph(..., enable_annotations=True)` are told apart by the labels of its nodes, and so are blocks of
    `ranges.stage(...)` in there.

    Args:
        model: a vision-language model of transformers; `generate` and a plain call both get their stages. It may be
            wrapped by PEFT, `torch.compile` or a data-parallel class.
        processor: its processor; None leaves the preprocessing without ranges.
        detail: `stage`, `layer` (one more range a decoder or encoder layer) or `module` (one a submodule).
        stage_modules: paths of the modules that are `vision`, `projector` or `decoder`, where they aren't found.
        sink: who listens; by default the profiler that is running.

    Yields:
        The open ranges; its `stage(...)` puts a range around a block of the caller's own.

    Raises:
        ConfigError: no such detail, no module at a path, or what is given is no model, processor or sink.
    """
    if detail not in ("stage", "layer", "module"):
        raise ConfigError(f"no detail {shown(detail)}; give stage, layer or module")
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise ConfigError(f"annotate requires a model of transformers, and this is a {type(model).__name__}")
    if processor is not None and (not callable(processor) or isinstance(processor, type | nn.Module)):
        raise ConfigError(f"the processor is {shown(processor)}; give the model's own, or none")
    if sink is not None and not (callable(getattr(sink, "begin", None)) and callable(getattr(sink, "end", None))):
        raise ConfigError(f"the sink is {shown(sink)}; give an object with begin(name) and end(), or none")
    given = module_paths(checked(CaptureConfig, "stage_modules", stage_modules or ()))
    ranges = RangeStack(sink or ProfilerRanges())
    with ExitStack() as undo:
        undo.callback(ranges.close_to, 0)
        modules = find_stage_modules(model, given)
        _annotate_processor(processor, ranges, undo)
        _annotate_encoders(modules, ranges, undo)
        text_model(model, modules, ranges).listen(undo)
        if detail != "stage":
            _annotate_inside(model, modules, detail, ranges, undo)
        yield ranges


def labelled_graphs(model: nn.Module, config: CaptureConfig) -> AbstractContextManager[Any]:
    """Have the stages in CUDA graphs that a model captures by itself labelled, as a rule when it is first called.

    Nothing is recorded meanwhile. What torch.compile is asked for is left alone: its graphs have no labels.
    """
    if config.compile != "off" or not torch.cuda.is_available():
        return nullcontext()
    return annotate(model, detail="stage", stage_modules=config.stage_module_paths, sink=Deaf())


def text_model(model: nn.Module, modules: StageModules, ranges: RangeStack) -> TextModel:
    """All modules whose forward is prefill or decode: the wrappers, the model, and what generates within it."""
    wrappers = unwrapped(model)
    decoder = modules.decoder
    known = [*wrappers, *([] if decoder is None else [decoder])]
    for module in wrappers[-1].modules():
        if can_generate(module) and (decoder is None or any(each is decoder for each in module.modules())):
            known.append(module)
    encoders = [module for module in modules.text_encoder if not any(module is each for each in known)]
    return TextModel(ranges, list({id(module): module for module in known}.values()), encoders)


def _annotate_processor(processor: Any, ranges: RangeStack, undo: ExitStack) -> None:
    if processor is None:
        return
    listen_to_calls(processor, "__call__", functools.partial(_in_stage, Stage.PREPROCESSING, ranges), undo)
    parts = {id(part): (part, stage) for name, stage in reversed(_PARTS.items()) if (part := _part(processor, name))}
    for part, stage in parts.values():
        listen_to_calls(part, "__call__", functools.partial(_in_stage, stage, ranges), undo)
    if hasattr(processor, "apply_chat_template"):
        listen_to_calls(processor, "apply_chat_template", functools.partial(_in_template, ranges), undo)


def _part(processor: Any, name: str) -> Any:
    """A part of a processor; None where it has none of this name."""
    part = getattr(processor, name, None)
    return part if callable(part) else None


def _in_stage(stage: Stage, ranges: RangeStack, call: Call) -> Call:
    @functools.wraps(call)
    def annotated(*args: Any, **kwargs: Any) -> Any:
        with ranges.stage(stage):
            return call(*args, **kwargs)

    return annotated


def _in_template(ranges: RangeStack, apply: Call) -> Call:
    @functools.wraps(apply)
    def apply_chat_template(*args: Any, **kwargs: Any) -> Any:
        # With tokenize=True it is the whole processor call, in which only transformers could tell the template's share.
        stage = Stage.PREPROCESSING if kwargs.get("tokenize") else Stage.CHAT_TEMPLATE
        with ranges.stage(stage):
            return apply(*args, **kwargs)

    return apply_chat_template


def _annotate_encoders(modules: StageModules, ranges: RangeStack, undo: ExitStack) -> None:
    for module in modules.vision_tower:
        _listen(module, Stage.VISION_TOWER.range_name, ranges, undo)
    for module in modules.audio_tower:
        _listen(module, Stage.AUDIO_TOWER.range_name, ranges, undo)
    for module in modules.projector:
        _listen(module, Stage.PROJECTOR.range_name, ranges, undo)


def _annotate_inside(model: nn.Module, modules: StageModules, detail: str, ranges: RangeStack, undo: ExitStack) -> None:
    inner = unwrapped(model)[-1]
    stages = {id(inner)} | {id(module) for module in modules.encoders}
    layers = {id(layer) for layer in modules.layers(inner)} - stages
    for path, module in inner.named_modules():
        if id(module) in layers:
            _listen(module, LAYER_PREFIX + path, ranges, undo)
        elif detail == "module" and id(module) not in stages and not isinstance(module, nn.ModuleList):
            _listen(module, MODULE_PREFIX + path, ranges, undo)


def _listen(module: nn.Module, name: str, ranges: RangeStack, undo: ExitStack) -> None:
    """A range of this name around every forward of the module; a label in a CUDA graph whose nodes have labels."""
    listen_to_forward(
        module, lambda *_: ranges.open(name, module), lambda *_: ranges.close(name), undo, is_heard=_is_heard
    )


def _is_heard() -> bool:
    return outside_graph() or labels_nodes()
