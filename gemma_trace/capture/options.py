"""Options of a capture that come as text or out of a TOML file, as what `CaptureConfig` takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Final

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.natural_types import base_of, checked, kinds
from gemma_trace.errors import ConfigError

_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FIXED: Final = frozenset({"output", "force", "name"})
_OPTIONS: Final = {"images": "image", "image_sizes": "image_size", "stage_modules": "stage_module"}
"""Fields of `CaptureConfig` whose options on the command line have another name."""

_ALSO: Final = {"image_count": "images_per_request"}
"""Second names of options, as on the command line."""


def option_names() -> dict[str, str]:
    """The options that a matrix or `--set` can vary, as on the command line, and the fields that they set."""
    return {_OPTIONS.get(each.name, each.name): each.name for each in fields(CaptureConfig) if each.name not in _FIXED}


def check_field(name: str) -> None:
    """Refuse what is no field of `CaptureConfig`.

    Raises:
        ConfigError: naming the one that may have been meant.
    """
    known = [each.name for each in fields(CaptureConfig)]
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise ConfigError(f"a capture has no option {name!r}; give {near[0] if near else f'one of {_list(known)}'}")


def field_of(option: str) -> str:
    """The field of `CaptureConfig` that an option sets; dashes and underscores are alike.

    Raises:
        ConfigError: a capture has no such option.
    """
    known = option_names()
    name = option.strip().removeprefix("--").replace("-", "_")
    name = _ALSO.get(name, name)
    if name in known:
        return known[name]
    if name == "images":
        meant = "image for the files to send, or images_per_request for how many each request has"
    else:
        near = get_close_matches(name, known, 1)
        meant = near[0] if near else f"one of {_list(known)}"
    raise ConfigError(f"a capture has no option {option!r}; give {meant}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def parsed_option(name: str, text: str) -> Any:
    """A value of the command line as the option's type; one text is a list of one.

    Raises:
        ConfigError: it can't be.
    """
    kind = base_of(kinds(CaptureConfig).get(name, str))
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"--set {name}={text}: {text!r} is not a whole number") from None
    if kind is bool:
        if text.lower() not in _BOOLS:
            raise ConfigError(f"--set {name}={text}: {text!r} is neither true nor false")
        return _BOOLS[text.lower()]
    return [text] if kind is tuple else text


def values_of(name: str, text: str) -> list[Any]:
    """The values of `--set OPTION=A,B`; or of a list in JSON, where one of them has a comma or is itself a list.

    >>> values_of("cpu_affinity", "0,1"), values_of("cpu_affinity", '["0-3,8"]')
    (['0', '1'], ['0-3,8'])

    Raises:
        ConfigError: one can't be such an option's value.
    """
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):  # text that begins with a bracket
            listed = None
        if isinstance(listed, list) and listed:
            return [as_option(name, value) for value in listed]
    return [as_option(name, parsed_option(name, value)) for value in text.split(",")]


def as_option(name: str, value: Any) -> Any:
    """A value as `CaptureConfig` takes it.

    Raises:
        ConfigError: it is of another type than the option.
    """
    return checked(CaptureConfig, name, value, _OPTIONS.get(name, name))
