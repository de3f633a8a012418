"""Image files → decoded images, as transformers decodes them; and images of any size, made for the purpose."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from gemma_trace.capture.natural_types import as_list
from gemma_trace.capture.one_line_errors import error_text
from gemma_trace.capture.option_texts import MAX_IMAGE_PIXELS
from gemma_trace.errors import ImageError
from gemma_trace.request_media import Media
from gemma_trace.trace.scratch import scratch_folder

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what its decoders log would be a second line


def load_image(media: Media, taker: str = "--image") -> Image.Image:
    """Read and decode an image whole: the work of the stage `image_load`.

    It is turned as its EXIF orientation says, and becomes RGB as Pillow converts it, of a palette or 16 bits too: all
    as `transformers.image_utils.load_image` does it.

    Args:
        media: a file or bytes; what is behind a URL has been fetched before.
        taker: what the image was given to, for the message.

    Raises:
        ImageError: the file doesn't exist, is no image that Pillow reads, or has over `MAX_IMAGE_PIXELS`.
    """
    source = media.source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder thinks of a file that it reads; our bound is below
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise Image.DecompressionBombError
                return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"no image at {media.shown}; check {taker}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{media.shown} has over {MAX_IMAGE_PIXELS:,} pixels, which is the limit; give {taker} a smaller one"
        ) from None
    except MemoryError:
        raise ImageError(
            f"{media.shown} does not fit into memory when it is decoded; give {taker} a smaller one"
        ) from None
    except Exception as error:  # each decoder has its own: OSError, ValueError, NotImplementedError, struct.error, …
        raise ImageError(
            f"{media.shown} is not an image that Pillow can read ({error_text(error)}); give {taker} a JPEG or PNG file"
        ) from None


@contextmanager
def images_as_files(images: Any) -> Iterator[Any]:
    """While the block runs, Pillow's images among these are files; all else is as it was given."""
    given = as_list(images) if not isinstance(images, Image.Image) else [images]
    if not isinstance(given, list) or not any(isinstance(image, Image.Image) for image in given):
        yield given
        return
    with scratch_folder() as folder:
        yield [
            _saved(image, folder, place) if isinstance(image, Image.Image) else image
            for place, image in enumerate(given, 1)
        ]


def _saved(image: Image.Image, folder: Path, place: int) -> Path:
    """The image as a PNG, without loss, as `load_image` would have decoded its own file."""
    try:
        turned = ImageOps.exif_transpose(image).convert("RGB")
        path = folder / f"image-{place}-{turned.width}x{turned.height}.png"
        turned.save(path)
    except Exception as error:  # of a file that is cut off or closed, of no pixels, of a mode without a way to RGB
        raise ImageError(
            f"image {place}, of the mode {image.mode}, can't be sent ({error_text(error)}); give another one"
        ) from None
    return path


def write_sample_image(folder: Path, width: int, height: int) -> Path:
    """Write a JPEG of width × height pixels whose content is the same every time."""
    path = folder / f"sample-{width}x{height}.jpg"
    path.write_bytes(_sample_image(width, height))
    return path


@lru_cache(maxsize=8)
def _sample_image(width: int, height: int) -> bytes:
    """The content of a JPEG of width × height pixels, kept for the next capture of the process.

    Smooth gradients under noise of a fixed seed: decoding costs about what a photograph of the size costs.
    """
    rows = np.linspace(0, 255, height, dtype=np.float32)[:, None, None]
    columns = np.linspace(255, 0, width, dtype=np.float32)[None, :, None]
    channels = np.array([1.0, 0.6, 0.3], dtype=np.float32)
    noise = np.random.default_rng(width * 100_003 + height).normal(0, 12, (height, width, 3))
    pixels = np.clip((rows + columns) / 2 * channels + noise, 0, 255).astype(np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="JPEG", quality=90)
    return encoded.getvalue()
