"""Options whose text stands for more: sizes of images, and paths of modules. Free of torch."""

from __future__ import annotations

import re
from typing import Final

from gemma_trace.capture.natural_types import shown
from gemma_trace.errors import ConfigError

STAGE_MODULES: Final = ("vision", "projector", "decoder")
MAX_IMAGE_PIXELS: Final = 1 << 26
"""Images of more pixels are refused unread: decoded they would take over 200 MB, however small the file is."""
MAX_IMAGE_SIDE: Final = 65_500
"""No JPEG is longer."""
_SIZE: Final = re.compile(r"([0-9]{1,6})[xX×]([0-9]{1,6})")


def module_paths(texts: tuple[str, ...]) -> dict[str, str]:
    """The modules that stand over what is found, paths by name.

    Raises:
        ConfigError: there is no such name, no path, or a name twice.

    >>> module_paths(("vision=model.vit",))
    {'vision': 'model.vit'}
    """
    paths: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in STAGE_MODULES or not path:
            known = ", ".join(f"{each}=PATH" for each in STAGE_MODULES)
            raise ConfigError(f"--stage-module {shown(text)} is not one of {known}")
        if name in paths:
            raise ConfigError(f"--stage-module says twice what {name} is; give the module around both")
        paths[name] = path
    return paths


def size_of(text: str) -> tuple[int, int]:
    """Width and height in pixels.

    Raises:
        ConfigError: it is no size, or one that no image may have.

    >>> size_of("3500x2500")
    (3500, 2500)
    """
    match = _SIZE.fullmatch(text)
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < width * height <= MAX_IMAGE_PIXELS or max(width, height) > MAX_IMAGE_SIDE:
        raise ConfigError(
            f"no image size {shown(text)}; give WIDTHxHEIGHT in pixels, such as 3500x2500, up to {MAX_IMAGE_PIXELS:,} "
            f"in all and {MAX_IMAGE_SIDE:,} a side"
        )
    return width, height
