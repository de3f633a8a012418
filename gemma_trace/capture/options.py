"""Options of a capture that come as text or out of a TOML file, as what `CaptureConfig` takes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.errors import ConfigError

_BOOLS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_TAKES: Final = {int: "a whole number", bool: "true or false", str: "text", tuple: "a list of texts"}


def parsed_option(name: str, text: str) -> Any:
    """A value of the command line as the option's type; one text is a list of one.

    Raises:
        ConfigError: it can't be.
    """
    kind = _kinds().get(name, str)
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"--set {name}={text}: {text!r} is no whole number") from None
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
    if kind is tuple and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(Path(each) for each in value) if name == "images" else tuple(value)
    if kind is tuple or type(value) is not kind:
        raise ConfigError(f"{name} is {value!r}; it takes {_TAKES[kind]}")
    return value


@cache
def _kinds() -> dict[str, type]:
    """int, bool, str or tuple by option, whether it may be None or not."""
    hints = get_type_hints(CaptureConfig)
    kinds: dict[str, type] = {}
    for name, hint in hints.items():
        choices = [*get_args(hint), hint]
        kinds[name] = next((kind for kind in (int, bool, str) if kind in choices and "tuple" not in str(hint)), tuple)
    return kinds
