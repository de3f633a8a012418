"""Images and prompts → requests."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from gemma_trace.capture.one_line_errors import error_text
from gemma_trace.errors import ConfigError, ImageError

SAMPLE_SIZES: Final = ((1024, 768), (768, 1024), (896, 896), (1280, 720))
"""Width and height in pixels of the images made here: of differing shape, alike in area."""


MAX_IMAGE_PIXELS: Final = 1 << 26
"""Images of more pixels are refused unread: decoded they would take over 200 MB, however small the file is."""


logging.getLogger("PIL").addHandler(logging.NullHandler())  # what its decoders log would be a second line


@dataclass(frozen=True)
class ImagePrompt:
    """What a client has in hand before the clock starts: a prompt and an image file, not yet read.

    Attributes:
        label: names the image in tables and metadata, without its folder.
    """

    prompt: str
    image: Path
    label: str


def build_requests(prompt: str, images: Sequence[Path], folder: Path) -> list[ImagePrompt]:
    """The requests that a capture sends in turn.

    Args:
        images: the user's files; empty to have sample images written.
        folder: where sample images go.

    Raises:
        ImageError: a file doesn't exist or is no image that Pillow reads.
    """
    if images:
        for path in images:
            if path.exists() and not path.is_file():
                raise ImageError(f"{path} is a folder or a device, not an image; give --image a JPEG or PNG file")
            load_image(path)
        return [ImagePrompt(prompt, path, path.name) for path in images]
    return [
        ImagePrompt(prompt, write_sample_image(folder, width, height), f"{width}x{height}")
        for width, height in SAMPLE_SIZES
    ]


def load_image(path: Path) -> Image.Image:
    """Read and decode an image file whole: the work of the stage `image_load`.

    Raises:
        ImageError: the file doesn't exist, is no image that Pillow reads, or has over `MAX_IMAGE_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder thinks of a file that it reads; our bound is below
            with Image.open(path) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError
                return image.convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"no image at {path}; check --image") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{path} has over {MAX_IMAGE_PIXELS:,} pixels, which is the limit; give --image a smaller one"
        ) from None
    except MemoryError:
        raise ImageError(f"{path} does not fit into memory when it is decoded; give --image a smaller one") from None
    except Exception as error:  # each decoder has its own: OSError, ValueError, NotImplementedError, struct.error, …
        raise ImageError(
            f"{path} is not an image that Pillow can read ({error_text(error)}); give --image a JPEG or PNG file"
        ) from None


def messages_for(prompt: str, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """The chat messages of a request, in transformers' form."""
    content: list[dict[str, Any]] = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}]


def prompt_text(processor: Any, prompt: str, images: Sequence[Image.Image]) -> str:
    """A request's text by the chat template of the processor.

    One that has none, as PaliGemma's, takes the images' tokens and the prompt as they are.
    """
    if getattr(processor, "chat_template", None):
        messages = messages_for(prompt, images)
        return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    return str(getattr(processor, "image_token", "")) * len(images) + prompt


def check_length(model: Any, prompt_tokens: int, new_tokens: int) -> None:
    """Refuse requests that are longer than the model.

    Raises:
        ConfigError: there are more tokens than its configuration has positions for.
    """
    positions: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and prompt_tokens + new_tokens > positions:
        raise ConfigError(
            f"the model has positions for {positions:,} tokens; lower --prompt-tokens or --new-tokens, or shorten the "
            f"prompt: they ask for {prompt_tokens + new_tokens:,}"
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


def write_sample_image(folder: Path, width: int, height: int) -> Path:
    """Write a JPEG of width × height pixels whose content is the same every time.

    Smooth gradients under noise of a fixed seed: decoding costs about what a photograph of the size costs.
    """
    rows = np.linspace(0, 255, height, dtype=np.float32)[:, None, None]
    columns = np.linspace(255, 0, width, dtype=np.float32)[None, :, None]
    channels = np.array([1.0, 0.6, 0.3], dtype=np.float32)
    noise = np.random.default_rng(width * 100_003 + height).normal(0, 12, (height, width, 3))
    pixels = np.clip((rows + columns) / 2 * channels + noise, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="JPEG", quality=90)
    path = folder / f"sample-{width}x{height}.jpg"
    path.write_bytes(encoded.getvalue())
    return path
