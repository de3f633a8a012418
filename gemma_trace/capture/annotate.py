"""Hooks on a model and its processor that put a range around every stage, and the removal of each of them.

Nothing of transformers is edited: modules get forward hooks; callables of the objects in hand get a wrapper on
that one object. `annotate` removes all of them when its block ends, also by an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from gemma_trace.capture.discovery import StageModules, find_layers, find_stage_modules
from gemma_trace.capture.ranges import ProfilerRanges, RangeSink, RangeStack
from gemma_trace.errors import ConfigError
from gemma_trace.stages import LAYER_PREFIX, MODULE_PREFIX, Stage


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

    Args:
        model: a vision-language model of transformers; `generate` and a plain call both get their stages.
        processor: its processor; None leaves the preprocessing without ranges.
        detail: `stage`, `layer` (one more range a decoder or encoder layer) or `module` (one a submodule).
        stage_modules: paths of the modules that are `vision`, `projector` or `decoder`, where they aren't found.
        sink: who listens; by default the profiler that is running.

    Yields:
        The open ranges; its `stage(...)` puts a range around a block of the caller's own.

    Raises:
        ConfigError: no such detail, or no module at a path.
    """
    if detail not in ("stage", "layer", "module"):
        raise ConfigError(f"no detail {detail!r}; give stage, layer or module")
    ranges = RangeStack(sink or ProfilerRanges())
    with ExitStack() as undo:
        modules = find_stage_modules(model, stage_modules)
        _annotate_processor(processor, ranges, undo)
        _annotate_encoder(modules, ranges, undo)
        _annotate_text_model(model, modules, ranges, undo)
        if detail != "stage":
            _annotate_inside(model, modules, detail, ranges, undo)
        yield ranges


def _annotate_processor(processor: Any, ranges: RangeStack, undo: ExitStack) -> None:
    if processor is None:
        return
    _wrap_call(processor, Stage.PREPROCESSING, ranges, undo)
    for part, stage in (("image_processor", Stage.IMAGE_PROCESSING), ("tokenizer", Stage.TOKENIZATION)):
        if (owner := getattr(processor, part, None)) is not None:
            _wrap_call(owner, stage, ranges, undo)
    if not hasattr(processor, "apply_chat_template"):
        return
    apply = processor.apply_chat_template

    @functools.wraps(apply)
    def apply_chat_template(*args: Any, **kwargs: Any) -> Any:
        # With tokenize=True it is the whole processor call, in which only transformers could tell the template's share.
        stage = Stage.PREPROCESSING if kwargs.get("tokenize") else Stage.CHAT_TEMPLATE
        with ranges.stage(stage):
            return apply(*args, **kwargs)

    _set_attribute(processor, "apply_chat_template", apply_chat_template, undo)


def _annotate_encoder(modules: StageModules, ranges: RangeStack, undo: ExitStack) -> None:
    for module, stage in ((modules.vision_tower, Stage.VISION_TOWER), (modules.projector, Stage.PROJECTOR)):
        if module is not None:
            _hook(module, stage.range_name, ranges, undo)


def _annotate_text_model(model: nn.Module, modules: StageModules, ranges: RangeStack, undo: ExitStack) -> None:
    text = _TextModel(ranges)
    for module in (model, modules.decoder):
        if module is not None:
            before = module.register_forward_pre_hook(text.before_forward, with_kwargs=True)
            after = module.register_forward_hook(text.after_forward, with_kwargs=True, always_call=True)
            undo.callback(before.remove)
            undo.callback(after.remove)
    if hasattr(model, "generate") and hasattr(model, "prepare_inputs_for_generation"):
        _set_attribute(model, "generate", text.around_generate(model.generate), undo)
        if hasattr(model, "_prefill"):
            _set_attribute(model, "_prefill", text.around_prefill(model._prefill), undo)
        prepare = text.around_prepare_inputs(model.prepare_inputs_for_generation)
        _set_attribute(model, "prepare_inputs_for_generation", prepare, undo)


class _TextModel:
    """Tells prefill from decode, and sampling from both.

    The outermost forward counts, be it the whole model's or the bare decoder's. Within `generate`, transformers
    says itself which forwards belong to the prefill (several where it is chunked), and what lies between a forward
    and the preparation of the next one is sampling. Outside it, a forward of one token onto a filled cache is decode.
    """

    def __init__(self, ranges: RangeStack) -> None:
        self._ranges = ranges
        self._outermost: nn.Module | None = None
        self._stage = Stage.PREFILL
        self._generating = False
        self._prefilling = False

    def before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._outermost is not None:
            return
        self._outermost = module
        self._ranges.close(Stage.SAMPLING.range_name)
        if not self._generating:
            self._stage = Stage.DECODE if _extends_cache_by_one(args, kwargs) else Stage.PREFILL
        self._ranges.open(self._stage.range_name)

    def after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if module is not self._outermost:
            return
        self._outermost = None
        self._ranges.close(self._stage.range_name)
        if self._generating and not self._prefilling and output is not None:
            self._ranges.open(Stage.SAMPLING.range_name)

    def around_generate(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(generate)
        def annotated_generate(*args: Any, **kwargs: Any) -> Any:
            self._generating, self._stage = True, Stage.PREFILL
            try:
                return generate(*args, **kwargs)
            finally:
                self._generating, self._prefilling, self._outermost = False, False, None
                self._ranges.close(Stage.SAMPLING.range_name)

        return annotated_generate

    def around_prefill(self, prefill: Callable[..., Any]) -> Callable[..., Any]:
        """Transformers' own prefill, of one forward or of several chunks: sampling begins after the last of them."""

        @functools.wraps(prefill)
        def annotated_prefill(*args: Any, **kwargs: Any) -> Any:
            self._prefilling = True
            output = prefill(*args, **kwargs)
            self._prefilling = False
            self._ranges.open(Stage.SAMPLING.range_name)
            return output

        return annotated_prefill

    def around_prepare_inputs(self, prepare: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(prepare)
        def annotated_prepare(*args: Any, **kwargs: Any) -> Any:
            self._ranges.close(Stage.SAMPLING.range_name)
            first = self._prefilling or kwargs.get("is_first_iteration")
            self._stage = Stage.PREFILL if first else Stage.DECODE
            return prepare(*args, **kwargs)

        return annotated_prepare


def _extends_cache_by_one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    cache = kwargs.get("cache", kwargs.get("past_key_values"))  # transformers 5.24 renamed it
    tokens = kwargs.get("input_ids", kwargs.get("inputs_embeds"))
    if tokens is None and args:
        tokens = args[0]
    if cache is None or tokens is None:
        return False
    return bool(tokens.shape[1] == 1 and cache.get_seq_length() > 0)


def _annotate_inside(model: nn.Module, modules: StageModules, detail: str, ranges: RangeStack, undo: ExitStack) -> None:
    stages = {id(module) for module in (model, modules.vision_tower, modules.projector) if module is not None}
    layers = {
        id(layer)
        for module in (modules.vision_tower, modules.decoder)
        if module is not None
        for layer in find_layers(module)
    }
    for path, module in model.named_modules():
        if id(module) in layers:
            _hook(module, LAYER_PREFIX + path, ranges, undo)
        elif detail == "module" and id(module) not in stages and not isinstance(module, nn.ModuleList):
            _hook(module, MODULE_PREFIX + path, ranges, undo)


def _hook(module: nn.Module, name: str, ranges: RangeStack, undo: ExitStack) -> None:
    """A range of this name around every forward of the module."""
    before = module.register_forward_pre_hook(lambda *_: ranges.open(name))
    after = module.register_forward_hook(lambda *_: ranges.close(name), always_call=True)
    undo.callback(before.remove)
    undo.callback(after.remove)


def _wrap_call(owner: Any, stage: Stage, ranges: RangeStack, undo: ExitStack) -> None:
    """A range around every call of one object.

    Python looks `__call__` up on the class, so the object gets a subclass of its own for the time being.
    """
    original = type(owner)

    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        with ranges.stage(stage):
            return original.__call__(self, *args, **kwargs)

    owner.__class__ = type(
        original.__name__,
        (original,),
        {
            "__call__": functools.wraps(original.__call__)(__call__),
            "__module__": original.__module__,
            "__doc__": original.__doc__,
        },
    )

    def restore() -> None:
        owner.__class__ = original

    undo.callback(restore)


def _set_attribute(owner: Any, name: str, value: Any, undo: ExitStack) -> None:
    """Shadow a method of one object; the shadow's removal brings the method back."""
    vars(owner)[name] = value
    undo.callback(vars(owner).pop, name, None)
