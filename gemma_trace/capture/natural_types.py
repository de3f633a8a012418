"""Options as programs have them, as what `CaptureConfig` holds: paths as text or bytes, one file for a list of one,
numpy's numbers, torch's own devices and dtypes. What can't be meant is one line. Free of torch.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Set
from enum import Enum
from functools import cache
from io import IOBase
from itertools import islice
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from gemma_trace.errors import ConfigError
from gemma_trace.foreign import converted
from gemma_trace.wording import option_of

_TAKES: Final[Mapping[Any, str]] = {
    int: "a whole number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    tuple[str, ...]: "a list of texts",
    tuple[Path, ...]: "a list of paths",
}
_MOST_SHOWN: Final = 100
"""Characters of a value that a message shows."""
_MOST_ENTRIES: Final = 100_000
"""No list of an option is longer; an iterator may never end."""
_MOST_NAME_BYTES: Final = 255
"""No file's name is longer on any common file system, nor is a part of a Hub id."""


def checked(owner: type, name: str, value: Any, shown_name: str | None = None) -> Any:
    """A value as the field of a dataclass takes it.

    Args:
        owner: the dataclass.
        shown_name: what the message calls the field; by default as its option on the command line.

    Raises:
        ConfigError: it is of another type than the field.
    """
    kind = kinds(owner)[name]
    inner = _without_none(kind)
    wrong = ConfigError(f"{shown_name or option_of(name)} is {shown(value)}; it requires {_TAKES[inner]}")
    try:
        natural = _natural(value, inner)
    except Exception:  # whatever an object of a program raises that is asked what it is
        raise wrong from None
    return converted(natural, kind, wrong)


def check_path(option: str, path: str | Path) -> None:
    """Refuse what is no path of a file and no Hub id, and what no system can be asked about.

    Raises:
        ConfigError: it has a zero byte in it, or a name that is too long.
    """
    text = str(path)
    if "\0" in text:
        raise ConfigError(f"{option} is {shown(text)}, with a zero byte in it; it requires a path")
    if any(len(os.fsencode(part)) > _MOST_NAME_BYTES for part in Path(text).parts):
        raise ConfigError(f"{option} is {shown(text)}, in which a name has over {_MOST_NAME_BYTES} bytes; shorten it")


def check_text(option: str, text: str) -> None:
    """Refuse text that can't be written down as UTF-8.

    Raises:
        ConfigError: half of a pair of surrogates is in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{option} is {shown(text)}, which is no Unicode text; it requires text") from None


def as_list(value: Any) -> Any:
    """The entries of what a program has for a list: one alone, a list, an iterator; a set's in the order of their text.

    What is no list is returned as it is: a mapping, a file, an array of more dimensions than one.
    """
    if isinstance(value, str | bytes | os.PathLike):
        return [value]
    if isinstance(value, Mapping | IOBase) or not isinstance(value, Iterable) or len(getattr(value, "shape", "1")) != 1:
        return value
    entries = list(islice(value, _MOST_ENTRIES + 1))
    if len(entries) > _MOST_ENTRIES:
        return value
    return sorted(entries, key=str) if isinstance(value, Set) else entries


def shown(value: Any) -> str:
    """A value as a message shows it, in one line of bounded length.

    >>> shown("x" * 300)[-3:], shown(10**9999)
    ('xx…', 'an int')
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a program's own object; a number of too many digits
        kind = type(value).__name__
        text = f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def base_of(kind: Any) -> type:
    """int, bool, str, tuple or Path, whether an option may be None or not.

    >>> base_of(int | None), base_of(tuple[str, ...])
    (<class 'int'>, <class 'tuple'>)
    """
    inner = _without_none(kind)
    base: type = get_origin(inner) or inner
    return base


@cache
def kinds(owner: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return get_type_hints(owner)


def _without_none(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is UnionType else kind


def _natural(value: Any, kind: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if kind is bool:
        return bool(value) if _is_truth(value) else value
    if kind is int:
        is_whole = hasattr(type(value), "__index__") and not isinstance(value, bool) and not _is_truth(value)
        return int(operator.index(value)) if is_whole else value
    if kind is str and _is_torchs(value):
        return str(value).removeprefix("torch.")
    if kind in (str, Path):
        return _as_text(value, of_path=kind is Path)
    if isinstance(value, Mapping) and kind == tuple[str, ...]:
        paths = {key: _as_text(path) for key, path in value.items()}
        return tuple("=".join(each) for each in paths.items())  # of what isn't text, a TypeError
    entries = as_list(value)
    if _is_size(entries):
        entries = [entries]
    if not isinstance(entries, list):
        return value
    of_path = kind == tuple[Path, ...]
    return tuple(_size_text(entry) if _is_size(entry) else _as_text(entry, of_path=of_path) for entry in entries)


def _as_text(value: Any, *, of_path: bool = False) -> Any:
    """A text or a path as text; all else as it is.

    Raises:
        ValueError: it is to be a path and is empty, which a `Path` would take for the current folder.
    """
    if isinstance(value, os.PathLike) or (of_path and isinstance(value, bytes)):
        value = os.fsdecode(value)
    if of_path and isinstance(value, str) and not value:
        raise ValueError
    return str.__str__(value) if isinstance(value, str) else value  # of a subclass, such as numpy's, the text alone


def _is_size(value: Any) -> bool:
    """Whether it is a pair of whole numbers."""
    is_pair = isinstance(value, list | tuple) and len(value) == 2
    return is_pair and all(hasattr(type(side), "__index__") and not isinstance(side, bool) for side in value)


def _size_text(sides: Any) -> str:
    return "x".join(str(operator.index(side)) for side in sides)


def _is_truth(value: Any) -> bool:
    """Whether it is a single truth value of numpy's or torch's."""
    return str(getattr(value, "dtype", "")) in ("bool", "torch.bool") and not getattr(value, "shape", "1")


def _is_torchs(value: Any) -> bool:
    """Whether it is a device or a dtype of torch."""
    kind = type(value)
    return kind.__module__ == "torch" and kind.__name__ in ("device", "dtype")
