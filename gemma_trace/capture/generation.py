"""How a request generates: greedily unless asked, exactly as long as asked for, its tokens heard of as they come."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.interception import Call, listen_to_calls
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.wrappers import can_generate, unwrapped
from gemma_trace.metadata import RequestSample
from gemma_trace.stages import Stage

_FREE: Final = {
    **dict.fromkeys(("max_time", "stop_strings", "penalty_alpha", "force_words_ids", "constraints", "dola_layers")),
    "num_return_sequences": 1,
}
"""What of a model's own settings would end a request early, or make others of it, and its value that doesn't."""


class TokenClock:
    """A streamer of transformers': `generate` hands it the prompt, then each token as soon as the host has it."""

    def __init__(self, ranges: RangeStack, tokens_on_host: Callable[[int], None]) -> None:
        self._ranges = ranges
        self._tokens_on_host = tokens_on_host
        self._prompt_seen = False
        self.step_tokens: list[int] = []
        """How many tokens each step brought, that of the prefill first."""

    def put(self, value: torch.Tensor) -> None:
        """Token ids on the host; of assisted decoding all that a step has brought, [1, tokens]."""
        if self._prompt_seen:
            self._ranges.close(Stage.SAMPLING.range_name)
            self.step_tokens.append(value.shape[-1] if value.dim() > 1 else 1)
            self._tokens_on_host(self.step_tokens[-1])
        self._prompt_seen = True

    def end(self) -> None:
        """The last token has come."""


@contextmanager
def guesses_heard(model: nn.Module) -> Iterator[list[int]]:
    """While the block runs, how many tokens were guessed before each step of assisted decoding.

    Yields:
        A number a step, as they come.
    """
    heard: list[int] = []
    with ExitStack() as undo:
        for module in unwrapped(model)[-1].modules():
            if can_generate(module) and hasattr(module, "_get_candidate_generator"):
                listen_to_calls(module, "_get_candidate_generator", functools.partial(_hear_guesses, heard), undo)
        yield heard


def _hear_guesses(heard: list[int], get_generator: Call) -> Call:
    @functools.wraps(get_generator)
    def heard_generator(*args: Any, **kwargs: Any) -> Any:
        generator = get_generator(*args, **kwargs)
        guess = generator.get_candidates

        @functools.wraps(guess)
        def get_candidates(input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            candidates = guess(input_ids, *args, **kwargs)
            heard.append(candidates[0].shape[1] - input_ids.shape[1])
            return candidates

        generator.get_candidates = get_candidates
        return generator

    return heard_generator


def assistance_warnings(config: CaptureConfig, samples: Iterable[RequestSample]) -> tuple[str, ...]:
    """What is to be said of guesses that were all in vain, a line."""
    steps = [pair for sample in samples for pair in zip(sample.step_tokens, sample.step_guesses, strict=True)]
    guessed, accepted = sum(guesses for _, guesses in steps), sum(tokens - 1 for tokens, _ in steps)
    if not guessed or accepted:
        return ()
    option = "--prompt-lookup" if config.assistant is None else "--assistant"
    return (
        f"none of the {guessed:,} tokens that {option} guessed was right, so that each step was longer for nothing",
    )


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


def _compiled_anywhere() -> Any:
    """Transformers' own way to compile decode steps, which it otherwise takes on accelerators alone."""
    from transformers import CompileConfig

    # CUDA graphs are for CUDA; the fixed lengths of a static cache are for all.
    how = CompileConfig(mode="reduce-overhead" if torch.cuda.is_available() else None, fullgraph=False, dynamic=False)
    how._compile_all_devices = True
    return how


def _greedy(original: Any, config: CaptureConfig) -> Any:
    greedy = copy.deepcopy(original)
    greedy.do_sample, greedy.num_beams, greedy.max_new_tokens = config.sample, 1, config.new_tokens
    greedy.max_length = None
    for name, value in _FREE.items():
        if hasattr(greedy, name):
            setattr(greedy, name, value)
    if not config.sample:
        greedy.temperature = greedy.top_k = greedy.top_p = None
    if config.cache is not None:
        greedy.cache_implementation = config.cache
    if config.compile == "decode":
        greedy.cache_implementation, greedy.compile_config = "static", _compiled_anywhere()
    greedy.prompt_lookup_num_tokens = config.prompt_lookup
    greedy.prefill_chunk_size = config.prefill_chunk
    greedy.eos_token_id = None  # random weights and a fixed length: no token ends the request early
    greedy.pad_token_id = original.pad_token_id or 0
    return greedy
