"""The names of runs, which are their folders': of bounded length, without the user's paths, and one name per cell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import count
from typing import Any, Final

import msgspec

from gemma_trace.capture.config import CaptureConfig, bounded_name

_READABLE: Final = 60
"""Characters of a cell's name that say what varies; the hash behind them tells it from others."""

_PATH: Final = re.compile(r"[^\s,=()'\"]*[/\\]")
_ASIDE: Final = frozenset({"output", "force", "name"})
"""Options that say where a run goes, not what it is."""


def fingerprint(config: CaptureConfig) -> str:
    """Ten hexadecimal digits of what a run is: of those of its options that aren't the defaults."""
    defaults = CaptureConfig()
    chosen = {
        option.name: getattr(config, option.name)
        for option in fields(config)
        if option.name not in _ASIDE and getattr(config, option.name) != getattr(defaults, option.name)
    }
    text = msgspec.json.encode(chosen, enc_hook=str, order="sorted")
    return hashlib.blake2b(text, digest_size=5).hexdigest()


def hashed_name(readable: str, config: CaptureConfig) -> str:
    """A name that no run of other options has."""
    return bounded_name(f"{bounded_name(readable)[:_READABLE].rstrip('._-')}-{fingerprint(config)}")


def named_apart(configs: Sequence[CaptureConfig], axes: Mapping[str, Sequence[Any]]) -> list[CaptureConfig]:
    """The same, each with a name; where the usual ones don't tell them apart, by what varies and a hash of the options.

    Args:
        axes: the values of each option that may vary.
    """
    usual = [config.run_name(_device(config)) for config in configs]
    folded = [name.casefold() for name in usual]  # some file systems take both for one
    varying = [axis for axis in axes if len(axes[axis]) > 1]
    return [
        replace(config, name=hashed_name(_varying(config, varying), config) if folded.count(key) > 1 else name)
        for config, name, key in zip(configs, usual, folded, strict=True)
    ]


def former_names(config: CaptureConfig, axes: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """What earlier versions called this cell, whose folders may hold its trace."""
    varying = "-".join(f"{axis}-{getattr(config, axis)}" for axis in axes if len(axes[axis]) > 1)
    slugged = "".join(each if each.isalnum() or each in "._-" else "-" for each in varying)
    unnamed = replace(config, name=None)
    kinds = ("cpu", "cuda") if config.device == "auto" else ()
    return tuple(name for name in (slugged, *(unnamed.run_name(kind) for kind in kinds)) if 0 < len(name) < 256)


def free_names(config: CaptureConfig, name: str) -> Iterator[str]:
    """The names that a cell may take, the best first: the next is for where one is another cell's already."""
    yield name
    hashed = name if name.endswith(fingerprint(config)) else hashed_name(name, config)
    if hashed != name:
        yield hashed
    for number in count(2):
        yield f"{hashed}-{number}"


def _device(config: CaptureConfig) -> str:
    return config.device.split(":")[0]


def _varying(config: CaptureConfig, axes: Sequence[str]) -> str:
    """What tells a cell from the others, of paths their last part alone."""
    shown = {axis: getattr(config, axis) for axis in axes}
    if "model" in shown:
        shown["model"] = config.model_label
    if "images" in shown:
        shown["images"] = "-".join(image.name for image in config.images)
    if "stage_modules" in shown:
        shown["stage_modules"] = "-".join(config.stage_modules)
    return "-".join(f"{axis}-{_PATH.sub('', str(value))}" for axis, value in shown.items())
