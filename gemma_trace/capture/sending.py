"""One request after the other through a loaded model, from the messages in hand to the last token on the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.generation import TokenClock, guesses_heard
from gemma_trace.capture.images import load_image
from gemma_trace.capture.models import LoadedModel, image_device
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.request_memory import RequestShape, check_request
from gemma_trace.capture.workload import check_length, largest, lengthened, prompt_text, with_images, with_prompt
from gemma_trace.errors import ConfigError
from gemma_trace.requests_file import ChatRequest
from gemma_trace.stages import Stage


@dataclass(frozen=True)
class Sent:
    """How large a request was.

    Attributes:
        prompt_tokens: of one of its prompts, image tokens included.
        image_pixels: of each image of one of its prompts, as it was decoded.
        padding_tokens: how many of its tokens are padding.
        step_tokens: that each step of assisted decoding brought; empty without it.
        step_guesses: how many had been guessed before each of those steps.
    """

    prompt_tokens: int
    image_pixels: tuple[int, ...]
    padding_tokens: int = 0
    step_tokens: tuple[int, ...] = ()
    step_guesses: tuple[int, ...] = ()


class Sender:
    """Sends requests, which it first makes as long as they are to be, and refuses where they don't fit.

    Args:
        generation: transformers' settings for all requests.

    Raises:
        ConfigError: a request is longer than the model.
        DeviceError: it doesn't fit into the device's memory.
    """

    def __init__(
        self, config: CaptureConfig, loaded: LoadedModel, generation: Any, requests: Sequence[ChatRequest]
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._images_on = image_device(config, loaded.device)
        self._assisted = bool(config.assistant or config.prompt_lookup)
        self._generations = {config.new_tokens: generation}
        if not config.cold:
            shape = self._shape(largest(requests), max(map(self.new_tokens, requests)))
            check_length(loaded.model, shape.prompt_tokens, shape.new_tokens)
            check_request(loaded.model.config, shape, loaded.model.dtype, *loaded.devices)
        self.requests = list(requests)
        if config.prompt_tokens:
            prompt = self._lengthened_prompt(requests[0], config.prompt_tokens)
            self.requests = [with_prompt(request, prompt) for request in requests]

    def new_tokens(self, request: ChatRequest) -> int:
        """How many tokens it generates."""
        return request.max_new_tokens or self._config.new_tokens

    def send(self, request: ChatRequest, ranges: RangeStack, tokens_on_host: Callable[[int], None]) -> Sent:
        """One request, from the messages in hand to its last token on the host."""
        model = self._loaded.model
        with self._guesses() as guesses, ranges.stage(Stage.REQUEST):
            with ranges.stage(Stage.IMAGE_LOAD):
                images = _decoded(request)
            with ranges.stage(Stage.PREPROCESSING):
                inputs = self._inputs(request, images, self._config.batch)
            mask = inputs.get("attention_mask")
            with ranges.stage(Stage.TRANSFER):
                inputs = inputs.to(self._loaded.device, dtype=model.dtype)
            generation = self._generation(self.new_tokens(request))
            clock = TokenClock(ranges, tokens_on_host)
            with self._guesses_of_images_refused():
                model.generate(**inputs, generation_config=generation, streamer=clock, **self._loaded.assistance)
        pixels = tuple(image.width * image.height for image in images)
        steps = tuple(clock.step_tokens) if self._assisted else ()
        return Sent(int(inputs["input_ids"].shape[1]), pixels, _padding(mask), steps, tuple(guesses))

    def _guesses(self) -> AbstractContextManager[list[int]]:
        """How many tokens are guessed before each step, while the block runs."""
        return guesses_heard(self._loaded.model) if self._assisted else nullcontext([])

    @contextmanager
    def _guesses_of_images_refused(self) -> Iterator[None]:
        """Say what has happened where a look-up in the prompt guessed an image's tokens, which have no image then."""
        try:
            yield
        except ValueError as error:
            if self._config.prompt_lookup is None or "image tokens" not in str(error):
                raise
            raise ConfigError(
                "--prompt-lookup guessed the tokens of an image, which transformers can't check; lower it"
            ) from error

    def _generation(self, new_tokens: int) -> Any:
        """The settings for so many tokens."""
        if new_tokens not in self._generations:
            generation = copy.copy(self._generations[self._config.new_tokens])
            generation.max_new_tokens = new_tokens
            self._generations[new_tokens] = generation
        return self._generations[new_tokens]

    def _shape(self, request: ChatRequest, new_tokens: int) -> RequestShape:
        """How large a request is, told from a single prompt with its first image or two, whatever it will have."""
        config, count = self._config, len(request.media("image"))
        short = with_images(request, 1)
        images = _decoded(short)
        single = self._inputs(short, images, 1)
        tokens = int(single["input_ids"].shape[1])
        if count > 1:
            short = with_images(request, 2)
            two = int(self._inputs(short, images := _decoded(short), 1)["input_ids"].shape[1])
            tokens += (count - 1) * (two - tokens)
        return RequestShape(
            prompts=config.batch,
            images=count,
            image_pixels=max((image.width * image.height for image in images), default=0),
            prompt_tokens=config.prompt_tokens or tokens,
            new_tokens=new_tokens,
            chunk_tokens=config.prefill_chunk,
            typed="token_type_ids" in single,
        )

    def _inputs(self, request: ChatRequest, images: list[Image], batch: int) -> Any:
        """What the processor makes of a request's text and its images, `batch` times the same."""
        processor = self._loaded.processor
        text = prompt_text(processor, request, images)
        bos = getattr(processor.tokenizer, "bos_token", None)
        inputs = processor(
            text=[text] * batch,
            images=[images] * batch if images else None,
            return_tensors="pt",
            add_special_tokens=not (bos and text.startswith(bos)),
            **({"device": str(self._images_on)} if self._images_on else {}),
        )
        inputs.pop("labels", None)  # PaliGemma's; they are for training, and would add a loss to the prefill
        return inputs

    def _lengthened_prompt(self, request: ChatRequest, wanted: int) -> str:
        """The prompt that makes a request so many tokens long."""
        tokenizer = self._loaded.processor.tokenizer
        now = int(self._inputs(request, _decoded(request), 1)["input_ids"].shape[1])

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        return lengthened(self._config.prompt, wanted - now, count)


def _padding(mask: Any) -> int:
    """How many tokens of its prompts' mean are masked, rounded; counted by numpy, so that it is no op of torch's."""
    if mask is None or mask.ndim != 2 or mask.device.type != "cpu":
        return 0
    padded = int((mask.numpy() == 0).sum())
    return round(padded / int(mask.shape[0]))


def _decoded(request: ChatRequest) -> list[Image]:
    return [load_image(image, "the request") for image in request.media("image")]
