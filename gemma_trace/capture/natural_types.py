"""Options as programs have them, as what `CaptureConfig` holds: paths as text, one file for a list of one, torch's own
devices and dtypes. What can't be meant is one line. Free of torch.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from gemma_trace.errors import ConfigError
from gemma_trace.foreign import converted
from gemma_trace.wording import option_of

_TAKES: Final = {int: "a whole number", bool: "true or false", str: "text", tuple: "a list of texts", Path: "a path"}
_MOST_SHOWN: Final = 100
"""Characters of a value that a message shows."""


def checked(owner: type, name: str, value: Any, shown_name: str | None = None) -> Any:
    """A value as the field of a dataclass takes it.

    Args:
        owner: the dataclass.
        shown_name: what the message calls the field; by default as its option on the command line.

    Raises:
        ConfigError: it is of another type than the field.
    """
    kind = kinds(owner)[name]
    base = base_of(kind)
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}…"
    wrong = ConfigError(f"{shown_name or option_of(name)} is {shown}; it requires {_TAKES[base]}")
    return converted(_natural(value, base), kind, wrong)


def base_of(kind: Any) -> type:
    """int, bool, str, tuple or Path, whether an option may be None or not.

    >>> base_of(int | None), base_of(tuple[str, ...])
    (<class 'int'>, <class 'tuple'>)
    """
    if get_origin(kind) is UnionType:
        kind = get_args(kind)[0]
    base: type = get_origin(kind) or kind
    return base


@cache
def kinds(owner: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(owner)


def _natural(value: Any, base: type) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if base is str and _is_torchs(value):
        return str(value).removeprefix("torch.")
    if base is int and not isinstance(value, bool | str) and hasattr(value, "__index__"):  # numpy's
        return operator.index(value)
    if base is tuple and isinstance(value, Mapping):
        return tuple(f"{key}={path}" for key, path in value.items())
    if base is tuple and isinstance(value, str | os.PathLike):
        return (_as_text(value),)
    if base is tuple and isinstance(value, list | tuple):
        return tuple(map(_as_text, value))
    return _as_text(value) if base in (Path, str) else value


def _as_text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_torchs(value: Any) -> bool:
    """Whether it is a device or a dtype of torch."""
    kind = type(value)
    return kind.__module__ == "torch" and kind.__name__ in ("device", "dtype")
