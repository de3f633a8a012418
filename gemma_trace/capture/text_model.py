"""Tells prefill from decode, and sampling from both."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.interception import Call, called_between, listen_to_calls, listen_to_forward
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.wrappers import can_generate
from gemma_trace.stages import Stage


class TextModel:
    """The modules whose forwards are prefill and decode.

    The outermost forward counts, be it that of a wrapper (PEFT's, torch.compile's), of the whole model, of a language
    model within it, or of the bare decoder. Within `generate`, transformers says itself which forwards belong to the
    prefill (several where it is chunked), and what lies between a forward and the preparation of the next one is
    sampling. Where it says nothing, a forward of one token onto a filled cache is decode.

    Args:
        modules: all of those modules, in any order.
        encoders: those of them that read the prompt of an encoder-decoder: their forward is a part of the prefill.
    """

    def __init__(self, ranges: RangeStack, modules: Sequence[nn.Module], encoders: Sequence[nn.Module] = ()) -> None:
        self._ranges = ranges
        self._modules = [*modules, *encoders]
        self._encoders = {id(module) for module in encoders}
        ids = {id(module) for module in self._modules}
        self._within = {id(module): {id(each) for each in module.modules()} & ids for module in self._modules}
        self._state = _State()

    def listen(self, undo: ExitStack) -> None:
        """Hear of all forwards and of all `generate`, until `undo` ends."""
        for module in self._modules:
            listen_to_forward(module, self._before_forward, self._after_forward, undo)
            if not can_generate(module):
                continue
            listen_to_calls(module, "generate", self._around_generate, undo)
            listen_to_calls(module, "prepare_inputs_for_generation", self._around_prepare, undo)
            if hasattr(module, "_get_candidate_generator"):
                listen_to_calls(module, "_get_candidate_generator", self._around_candidates, undo)
            if hasattr(module, "_prefill"):
                listen_to_calls(module, "_prefill", self._around_prefill, undo)
            if hasattr(module, "get_compiled_call"):
                listen_to_calls(module, "get_compiled_call", functools.partial(self._around_compiled, module), undo)

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = self._state
        self._ranges.close_interrupted()
        if state.drafting or self._is_within_another(module):
            return
        self._ranges.close(Stage.SAMPLING.range_name)
        stage, state.said = state.said, None
        if stage is None:
            stage = Stage.DECODE if extends_cache_by_one(args, kwargs) else Stage.PREFILL
        state.outermost, state.stage = module, stage
        self._ranges.open(stage.range_name, module)

    def _is_within_another(self, module: nn.Module) -> bool:
        """Whether the forward of another module of the text model is going on, and this one is a part of it.

        An interrupted forward (KeyboardInterrupt) is never heard to end, but its range is gone.
        """
        outermost = self._state.outermost
        if outermost is None or not self._ranges.is_open(self._state.stage.range_name):
            return False
        return module is not outermost and id(module) in self._within[id(outermost)]

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        state = self._state
        if module is not state.outermost:
            return
        state.outermost = None
        self._ranges.close(state.stage.range_name)
        is_sampled = output is not None and id(module) not in self._encoders
        if state.generating and not state.prefilling and is_sampled:
            self._ranges.open(Stage.SAMPLING.range_name)

    def _around_generate(self, generate: Call) -> Call:
        @functools.wraps(generate)
        def annotated_generate(*args: Any, **kwargs: Any) -> Any:
            state, depth = self._state, self._ranges.depth
            if state.drafting:  # the model is its own assistant, with fewer layers
                return generate(*args, **kwargs)
            state.generating += 1
            state.outermost = state.said = None
            try:
                return generate(*args, **kwargs)
            finally:
                state.generating -= 1
                state.prefilling = False
                state.outermost = state.said = None
                self._ranges.close_to(depth)

        return annotated_generate

    def _around_prefill(self, prefill: Call) -> Call:
        """Transformers' own prefill, of one forward or of several chunks: sampling begins after the last of them."""

        @functools.wraps(prefill)
        def annotated_prefill(*args: Any, **kwargs: Any) -> Any:
            if self._state.drafting:
                return prefill(*args, **kwargs)
            self._state.prefilling = True
            try:
                output = prefill(*args, **kwargs)
            finally:
                self._state.prefilling = False
            self._ranges.open(Stage.SAMPLING.range_name)
            return output

        return annotated_prefill

    def _around_prepare(self, prepare: Call) -> Call:
        @functools.wraps(prepare)
        def annotated_prepare(*args: Any, **kwargs: Any) -> Any:
            if self._state.drafting:
                return prepare(*args, **kwargs)
            self._ranges.close(Stage.SAMPLING.range_name)
            first = self._state.prefilling or kwargs.get("is_first_iteration")
            self._state.said = Stage.PREFILL if first else Stage.DECODE
            return prepare(*args, **kwargs)

        return annotated_prepare

    def _around_candidates(self, get_generator: Call) -> Call:
        """What guesses tokens in assisted decoding, be it another model, fewer layers of this one or a look-up.

        Its forwards, and its own sampling, are the stage `draft`. The forward that checks the guesses is `prefill` the
        first time, and a step of `decode` later.
        """

        @functools.wraps(get_generator)
        def annotated_get_generator(*args: Any, **kwargs: Any) -> Any:
            generator = get_generator(*args, **kwargs)
            if hasattr(generator, "get_candidates"):
                generator.get_candidates = self._drafting(generator.get_candidates)
            return generator

        return annotated_get_generator

    def _drafting(self, get_candidates: Call) -> Call:
        @functools.wraps(get_candidates)
        def annotated_get_candidates(*args: Any, **kwargs: Any) -> Any:
            state = self._state
            self._ranges.close(Stage.SAMPLING.range_name)
            state.drafting += 1
            try:
                with self._ranges.stage(Stage.DRAFT):
                    return get_candidates(*args, **kwargs)
            finally:
                state.drafting -= 1

        return annotated_get_candidates

    def _around_compiled(self, module: nn.Module, get_compiled_call: Call) -> Call:
        """The forward that `generate` compiles for its decode steps: the range is around it, not in its graph."""

        @functools.wraps(get_compiled_call)
        def annotated(*args: Any, **kwargs: Any) -> Any:
            call = get_compiled_call(*args, **kwargs)
            return called_between(module, self._before_forward, self._after_forward, call)

        return annotated


class _State(threading.local):
    """What goes on on the calling thread: others may generate with the same model."""

    generating = 0
    """How many `generate` are open: that of the whole model, and of the language model that it hands over to."""
    prefilling = False
    drafting = 0
    """Whether an assistant guesses tokens, whose forwards are no steps of this model."""
    said: Stage | None = None
    """What transformers said of the next forward."""
    outermost: nn.Module | None = None
    stage = Stage.PREFILL


def extends_cache_by_one(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a forward is one of decode, told by what it is called with: one token a sequence, onto a filled cache.

    In continuous batching a forward has tokens of several requests in one row; it is decode if no request has more than
    one.
    """
    tokens = next((kwargs[name] for name in _TOKENS if kwargs.get(name) is not None), args[0] if args else None)
    cache = next((kwargs[name] for name in _CACHES if kwargs.get(name) is not None), None)
    if cache is None or not isinstance(tokens, torch.Tensor) or tokens.dim() < 2:
        return False
    if isinstance(longest := kwargs.get("max_length_q"), int) and hasattr(cache, "cache_allocators"):
        return longest == 1 and tokens.shape[1] <= _requests(kwargs)
    return tokens.shape[1] == 1 and _is_filled(cache)


_TOKENS = ("decoder_input_ids", "decoder_inputs_embeds", "input_ids", "inputs_embeds")
_CACHES = ("cache", "past_key_values", "cache_params")  # transformers 5.24 renamed it


def _requests(kwargs: dict[str, Any]) -> int:
    """How many requests a forward of continuous batching has tokens of."""
    bounds = kwargs.get("cu_seq_lens_q")
    return len(bounds) - 1 if isinstance(bounds, torch.Tensor) else 0


def _is_filled(cache: Any) -> bool:
    """Whether a cache of whatever kind holds tokens. A length on a device isn't read, which would wait for it."""
    if isinstance(cache, (tuple, list)):  # of old: a pair of tensors a layer
        return bool(cache) and cache[0] is not None
    length = getattr(cache, "get_seq_length", None)
    if length is None:
        return bool(getattr(cache, "is_initialized", True))
    tokens = length()
    if isinstance(tokens, torch.Tensor) and tokens.device.type != "cpu":
        return bool(getattr(cache, "is_initialized", True))
    return bool(tokens > 0)
