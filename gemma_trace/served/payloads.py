"""What is asked of a server: the bodies of chat requests, made here or out of a file of requests."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from gemma_trace.errors import ConfigError, MissingExtraError
from gemma_trace.request_media import Media, mime_type
from gemma_trace.requests_file import ChatRequest, Text, read_requests

PROMPT: Final = "Describe the image in detail."

_PART: Final = {"image": "image_url", "video": "video_url", "audio": "audio_url"}


@dataclass(frozen=True)
class Payload:
    """One request before it is sent.

    Attributes:
        id: what it is called, in its header too: letters, digits and dashes.
        label: which images it has, or what a file of requests calls it.
        messages: in OpenAI's form.
        max_tokens: how many tokens are asked for; None leaves it to the command.
    """

    id: str
    label: str
    messages: list[dict[str, Any]] = field(repr=False)
    max_tokens: int | None = None


def made_payloads(
    count: int, images: int, size: tuple[int, int], prompt: str, seed: int, *, repeated: bool
) -> list[Payload]:
    """Requests with images that are made here.

    Args:
        images: how many each has.
        size: their width and height in pixels.
        seed: of another seed all images are others.
        repeated: whether all have the same images, which a server's cache then keeps.

    Raises:
        MissingExtraError: Pillow isn't installed.
    """
    label = f"{images} × {size[0]}x{size[1]}" if images != 1 else f"{size[0]}x{size[1]}"
    if not images:
        label = "text"
    payloads = []
    for number in range(count):
        seeds = [(seed, 0 if repeated else number, image) for image in range(images)]
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(_jpeg(size, each), "image/jpeg")}} for each in seeds
        ]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]
        payloads.append(Payload(_id(number), label, messages))
    return payloads


def payloads_of(path: Path, *, online: bool) -> list[Payload]:
    """The requests of a file; their images travel inside of them.

    Raises:
        UnreadableError, ConfigError: as `read_requests` does.
    """
    return [_payload(number, request) for number, request in enumerate(read_requests(path, online))]


def _id(number: int) -> str:
    """No request's id is a part of another's."""
    return f"request-{number:07d}"


def _payload(number: int, request: ChatRequest) -> Payload:
    messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
    for turn in request.turns:
        messages.append({"role": turn.role, "content": [_part(part) for part in turn.parts]})
    return Payload(_id(number), request.id, messages, request.max_new_tokens)


def _part(part: Text | Media) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.kind not in _PART:
        raise ConfigError(f"{part.shown} can't be sent to a server; leave it out")
    data = part.read()
    return {"type": _PART[part.kind], _PART[part.kind]: {"url": _data_url(data, mime_type(part, data))}}


def _data_url(data: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _jpeg(size: tuple[int, int], seed: Sequence[int]) -> bytes:
    """Smooth shapes under noise: decoding it costs about what a photograph of the size costs."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "serve") from None
    random = np.random.default_rng(list(seed))
    width, height = size
    coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
    noise = random.integers(-16, 17, (height, width, 3), dtype=np.int16)
    encoded = io.BytesIO()
    Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(encoded, format="JPEG", quality=90)
    return encoded.getvalue()
