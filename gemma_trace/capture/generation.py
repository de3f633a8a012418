"""How a request generates: greedily unless asked, exactly as long as asked for, its tokens heard of as they come."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.wrappers import unwrapped
from gemma_trace.stages import Stage


class TokenClock:
    """A streamer of transformers': `generate` hands it the prompt, then each token as soon as the host has it."""

    def __init__(self, ranges: RangeStack, token_on_host: Callable[[], None]) -> None:
        self._ranges = ranges
        self._token_on_host = token_on_host
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Token ids on the host."""
        if self._prompt_seen:
            self._ranges.close(Stage.SAMPLING.range_name)
            self._token_on_host()
        self._prompt_seen = True

    def end(self) -> None:
        """The last token has come."""


@contextmanager
def greedy_generation(model: nn.Module, config: CaptureConfig) -> Iterator[Any]:
    """The model's own generation settings, made exactly as long as asked for, and greedy unless `sample` is set.

    Its own come back afterwards.

    `generate` fills what a config leaves empty from the model's, so the model's has to change for the time being, and
    that of the language model that it may hand over to.

    Yields:
        The settings of the model itself.
    """
    core = unwrapped(model)[-1]
    generating = [each for each in core.modules() if getattr(each, "generation_config", None) is not None]
    with ExitStack() as undo:
        for each in generating:
            original = each.generation_config
            vars(each)["generation_config"] = _greedy(original, config)
            undo.callback(vars(each).__setitem__, "generation_config", original)
        yield core.generation_config


def _greedy(original: Any, config: CaptureConfig) -> Any:
    greedy = copy.deepcopy(original)
    greedy.do_sample, greedy.num_beams, greedy.max_new_tokens = config.sample, 1, config.new_tokens
    greedy.max_length = None
    if not config.sample:
        greedy.temperature = greedy.top_k = greedy.top_p = None
    if config.cache is not None:
        greedy.cache_implementation = config.cache
    greedy.prefill_chunk_size = config.prefill_chunk
    greedy.eos_token_id = None  # random weights and a fixed length: no token ends the request early
    greedy.pad_token_id = original.pad_token_id or 0
    return greedy
