"""Options of a capture that come as text or out of a TOML file, as what `CaptureConfig` takes."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.errors import ConfigError
from gemma_trace.foreign import converted

_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FIXED: Final = frozenset({"output", "force", "name"})
_OPTIONS: Final = {"images": "image", "stage_modules": "stage_module"}
"""Fields of `CaptureConfig` whose options on the command line have another name."""

_TAKES: Final = {int: "a whole number", bool: "true or false", str: "text", tuple: "a list of texts"}


def option_names() -> dict[str, str]:
    """The options that a matrix or `--set` can vary, as on the command line, and the fields that they set."""
    return {_OPTIONS.get(each.name, each.name): each.name for each in fields(CaptureConfig) if each.name not in _FIXED}


def field_of(option: str) -> str:
    """The field of `CaptureConfig` that an option sets; dashes and underscores are alike.

    Raises:
        ConfigError: a capture has no such option.
    """
    known = option_names()
    name = option.strip().removeprefix("--").replace("-", "_")
    if name in known:
        return known[name]
    if name == "images":
        meant = "image for the files to send, or images_per_request for how many each request has"
    else:
        near = get_close_matches(name, known, 1)
        meant = near[0] if near else f"one of {', '.join(sorted(known))}"
    raise ConfigError(f"a capture has no option {option!r}; give {meant}")


def parsed_option(name: str, text: str) -> Any:
    """A value of the command line as the option's type; one text is a list of one.

    Raises:
        ConfigError: it can't be.
    """
    kind = _base(_kinds().get(name, str))
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


def as_option(name: str, value: Any) -> Any:
    """A value as `CaptureConfig` takes it.

    Raises:
        ConfigError: it is of another type than the option.
    """
    kind = _kinds()[name]
    wrong = f"{_OPTIONS.get(name, name)} is {value!r}; it requires {_TAKES[_base(kind)]}"
    return converted(value, kind, ConfigError(wrong))


@cache
def _kinds() -> dict[str, Any]:
    """The types of the options by field."""
    return get_type_hints(CaptureConfig)


def _base(kind: Any) -> type:
    """int, bool, str or tuple, whether an option may be None or not.

    >>> _base(int | None), _base(tuple[str, ...])
    (<class 'int'>, <class 'tuple'>)
    """
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]
    base: type = get_origin(kind) or kind
    return base
