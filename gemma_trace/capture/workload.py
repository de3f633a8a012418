"""What a capture sends: the user's requests, or ones that are made of its images and its prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from PIL import Image

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.early import check_image
from gemma_trace.capture.images import load_image, write_sample_image
from gemma_trace.capture.option_texts import size_of
from gemma_trace.errors import ConfigError
from gemma_trace.request_media import Media
from gemma_trace.requests_file import ChatRequest, Text, Turn, read_requests, shuffled

SAMPLE_SIZES: Final = ((1024, 768), (768, 1024), (896, 896), (1280, 720))
"""Width and height in pixels of the images made here: of differing shape, alike in area."""

_MOST_NAMED: Final = 8


def build_requests(config: CaptureConfig, folder: Path) -> list[ChatRequest]:
    """The requests that a capture sends in turn, all that they need at hand.

    Args:
        folder: where sample images go.

    Raises:
        ConfigError: a file of requests has something that captures don't send.
        UnreadableError: it can't be read, or one of its addresses can't be fetched.
        ImageError: a file doesn't exist or is no image that Pillow reads.
    """
    if config.requests is not None:
        requests = shuffled(read_requests(config.requests, config.online), config.shuffle)
        return _at_hand(requests, config.requests)
    if config.images:
        for path in config.images:
            check_image(path)
            load_image(Media("image", path))
        named = [(path.name, path) for path in config.images]
    else:
        sizes = [size_of(text) for text in config.image_sizes] or SAMPLE_SIZES
        named = [(f"{width}x{height}", write_sample_image(folder, width, height)) for width, height in sizes]
    return [_about(config, label, path) for label, path in named]


def _about(config: CaptureConfig, label: str, path: Path) -> ChatRequest:
    """The prompt about an image, which is there as often as the request has images."""
    images = [Media("image", path)] * config.images_per_request
    return ChatRequest(label, (Turn("user", (*images, Text(config.prompt))),), config.system)


def _at_hand(requests: Sequence[ChatRequest], file: Path) -> list[ChatRequest]:
    """The requests with what is behind URLs fetched, and all of their images tried."""
    fetched: dict[Media, Media] = {}
    for request in requests:
        if strange := [*request.media("video"), *request.media("audio")]:
            raise ConfigError(
                f"the request {request.id!r} of {file} has a part of type {strange[0].kind}; captures send only "
                f"text and images, so remove it"
            )
        for image in request.media("image"):
            if image not in fetched:
                fetched[image] = Media("image", image.read()) if isinstance(image.source, str) else image
                load_image(fetched[image], f"the request {request.id!r}")

    def held(turn: Turn) -> Turn:
        return replace(turn, parts=tuple(fetched[part] if isinstance(part, Media) else part for part in turn.parts))

    return [replace(request, turns=tuple(map(held, request.turns))) for request in requests]


def image_numbers(requests: Sequence[ChatRequest]) -> tuple[tuple[int, ...], ...]:
    """Of each request which images it has, numbered by their bytes: the same image has the same number."""
    of_media: dict[Media, int] = {}
    of_content: dict[bytes, int] = {}

    def number(image: Media) -> int:
        if image not in of_media:
            content = blake2b(image.read()).digest()
            of_media[image] = of_content.setdefault(content, len(of_content))
        return of_media[image]

    return tuple(tuple(map(number, request.media("image"))) for request in requests)


def request_warnings(config: CaptureConfig, requests: Sequence[ChatRequest]) -> tuple[str, ...]:
    """What is to be said of a file of requests, a line each."""
    warnings = []
    measured = max(config.runs, config.profile_runs)
    if config.requests is not None and config.shuffle is None and measured < len(requests):
        warnings.append(f"{measured:,} of the {len(requests):,} requests were run; give --runs {len(requests)} for all")
    if passed_over := sorted({name for request in requests for name in request.not_read}):
        named = ", ".join(passed_over[:_MOST_NAMED]) + (", …" if len(passed_over) > _MOST_NAMED else "")
        warnings.append(f"these parts of the requests have no effect on a capture and were ignored: {named}")
    return tuple(warnings)


def largest(requests: Sequence[ChatRequest]) -> ChatRequest:
    """The request that takes the most memory, as far as can be told unread: by its images, then by its text."""
    return max(requests, key=lambda request: (len(request.media("image")), len(text_of(request))))


def text_of(request: ChatRequest) -> str:
    """All texts of a request, a line each."""
    parts = [part.text for part in request.parts if isinstance(part, Text)]
    return "\n".join([*filter(None, [request.system]), *parts])


def with_prompt(request: ChatRequest, prompt: str) -> ChatRequest:
    """The request with another text in the place of its last one."""
    *turns, last = request.turns
    texts = [place for place, part in enumerate(last.parts) if isinstance(part, Text)]
    parts = [Text(prompt) if place == texts[-1] else part for place, part in enumerate(last.parts)]
    return replace(request, turns=(*turns, replace(last, parts=tuple(parts))))


def with_images(request: ChatRequest, count: int) -> ChatRequest:
    """The request with no more than its first images, so many of them."""
    kept = 0

    def keep(part: Text | Media) -> bool:
        nonlocal kept
        kept += isinstance(part, Media)
        return isinstance(part, Text) or kept <= count

    turns = tuple(replace(turn, parts=tuple(filter(keep, turn.parts))) for turn in request.turns)
    return replace(request, turns=turns)


def messages_for(request: ChatRequest, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """The chat messages of a request, in transformers' form.

    Args:
        images: those of its parts, in order.
    """
    left = iter(images)

    def content(part: Text | Media) -> dict[str, Any]:
        return {"type": "text", "text": part.text} if isinstance(part, Text) else {"type": "image", "image": next(left)}

    system = [{"role": "system", "content": [{"type": "text", "text": request.system}]}] if request.system else []
    return [
        *system,
        *({"role": turn.role, "content": [content(part) for part in turn.parts]} for turn in request.turns),
    ]


PUT_IMAGE_TOKENS: Final = frozenset(
    {"Blip2Processor", "InstructBlipProcessor", "InstructBlipVideoProcessor", "Florence2Processor", "FuyuProcessor"}
)
"""Processors that put the images' tokens before the text themselves."""


def prompt_text(processor: Any, request: ChatRequest, images: Sequence[Image.Image]) -> str:
    """A request's text by the chat template of the processor.

    One that has none, as PaliGemma's, takes the images' tokens and the texts as they are; some put the tokens there
    themselves.
    """
    if getattr(processor, "chat_template", None):
        messages = messages_for(request, images)
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    token = "" if type(processor).__name__ in PUT_IMAGE_TOKENS else str(getattr(processor, "image_token", ""))
    return token * len(images) + text_of(request)


def check_length(model: Any, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse requests that are longer than the model.

    Raises:
        ConfigError: there are more tokens than its configuration has positions for.
    """
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and prompt_tokens + new_tokens > positions:
        raise ConfigError(
            f"the model has positions for {positions:,} tokens; lower --prompt-tokens or --new-tokens, or shorten "
            f"the prompt: the request has {prompt_tokens + new_tokens:,}"
        )


def lengthened(prompt: str, more: int, count: Callable[[str], int]) -> str:
    """A prompt with so many more tokens, by words of one letter; as near as the tokenizer allows.

    Args:
        count: how many tokens a text is.

    Raises:
        ConfigError: it would have to be shorter.
    """
    if more < 0:
        raise ConfigError(f"the prompt is {-more} tokens longer than --prompt-tokens allows; shorten --prompt")
    wanted = count(prompt) + more
    words = 0
    while words < more and count(prompt + " a" * (words + 1)) <= wanted:
        # In strides as long as what is missing, since a word is a token or two.
        words += max(1, (wanted - count(prompt + " a" * (words + 1))) // 2)
    text = prompt + " a" * words
    return text + "." if count(text) < wanted else text
