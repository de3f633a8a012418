"""Values that others wrote → values of ours, or nothing. Whatever is no trace's events goes through here.

A header, an event's arguments, our own metadata after a mishap, a user's TOML file: each may hold any bytes, numbers of
any length, and nest as deep as it likes. Python and the parsers answer with half a dozen exceptions; here there is one,
`UnreadableValueError`, or None where the reader has a use for what is left.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from gemma_trace.errors import GemmaTraceError, UnreadableError
from gemma_trace.opening import opened

NONE: Final = -1
"""What stands in a column of integers where there is no value."""

UNDECODABLE: Final = (ValueError, RecursionError, OverflowError)
"""All that parsers raise on what they can't read: no JSON, no TOML, no UTF-8, other types, values that nest too deep,
numbers that are too long or too large. msgspec's and tomllib's errors are ValueErrors."""

UNREADABLE_VALUES: Final = "unreadable_values"
"""What values are counted as that couldn't be read where everything around them could."""

NUMBERS_TOO_LARGE: Final = "numbers_too_large"
"""What integers are counted as that 64 bits don't hold, and that count as not there."""

MAX_TOML_BYTES: Final = 1 << 20
"""No file of rules or peak rates is larger."""

MOST_NUMBERS: Final = 1 << 20
"""A list of numbers is read no further: none that matters, of ranks or of sizes, is longer."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")
_LONG_INTEGER: Final = re.compile(r"-?[0-9]{19,}")
MOST_DIGITS: Final = 18
"""A number of a list that has more is none that 64 bits surely hold, and the list is not read."""

_INTEGERS: Final = re.compile(r"-?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,4})?")


class UnreadableValueError(ValueError):
    """A value that can't be read as what it should be; the message is one line that says why."""


@cache
def _decoder(kind: Any, exact: bool) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, float_hook=(lambda text: msgspec.Raw(text.encode())) if exact else None)


def decoded(data: bytes | str | msgspec.Raw, kind: Any = Any, *, exact: bool = False) -> Any:
    """The value that JSON spells.

    Args:
        kind: the type that it has to have.
        exact: keep numbers with a fraction or an exponent as they are written, as `msgspec.Raw`.

    Raises:
        UnreadableValueError: it is no JSON, of another type, nests too deep, or a number in it is too large.
    """
    try:
        return _decoder(kind, exact).decode(data)
    except RecursionError:
        raise UnreadableValueError("its values nest too deep") from None
    except UNDECODABLE as error:
        raise UnreadableValueError(" ".join(str(error).split())[:300]) from None


def converted(value: Any, kind: Any, otherwise: GemmaTraceError) -> Any:
    """A value of a user's file or option as the type that it has to have.

    Args:
        kind: what `msgspec.convert` knows, or a class that takes a text, such as `Path`.
        otherwise: what is raised where the value is of another type.

    >>> from gemma_trace.errors import ConfigError
    >>> converted(["a", "b"], tuple[Path, ...], ConfigError("no list"))
    (PosixPath('a'), PosixPath('b'))
    >>> converted(True, int, ConfigError("runs is True; it requires a whole number"))
    Traceback (most recent call last):
    gemma_trace.errors.ConfigError: runs is True; it requires a whole number
    """
    try:
        return msgspec.convert(value, kind, dec_hook=lambda other, text: other(text))
    except (*UNDECODABLE, SystemError):  # which msgspec 0.21 raises for an integer that is too large for a float
        raise otherwise from None


def value_of(data: bytes | str | msgspec.Raw, unread: Counter[str] | None = None) -> Any:
    """The value that JSON spells; None where it is null or can't be read.

    Args:
        unread: counts what couldn't be read, as `UNREADABLE_VALUES`.
    """
    try:
        return decoded(data)
    except UnreadableValueError:
        if unread is not None:
            unread[UNREADABLE_VALUES] += 1
        return None


def members_of(data: bytes | msgspec.Raw, unread: Counter[str] | None = None) -> dict[str, msgspec.Raw]:
    """The members of a JSON object, each as its text; none where it is no object.

    Args:
        unread: counts what is no object, as `UNREADABLE_VALUES`.
    """
    try:
        members: dict[str, msgspec.Raw] = decoded(data, dict[str, msgspec.Raw])
    except UnreadableValueError:
        if unread is not None:
            unread[UNREADABLE_VALUES] += 1
        return {}
    return members


def list_of(data: bytes | str | msgspec.Raw) -> list[Any]:
    """The entries of a JSON list; none where it is no list or one of them can't be read."""
    value = value_of(data)
    return value if isinstance(value, list) else []


def integer(value: Any) -> int:
    """The integer that a number or a text is; `NONE` for all else, and for what 64 bits don't hold."""
    if isinstance(value, str):
        value = int(value) if _INTEGER.fullmatch(value) else NONE
    if isinstance(value, float):
        value = int(value) if value.is_integer() else NONE
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else NONE


def numbers_of(value: Any) -> tuple[int, ...]:
    """The integers of a list, or of its text, as torch writes "[0, 1]"; none where it is cut ("...") or is no list."""
    if isinstance(value, list):
        numbers = [integer(entry) for entry in value[:MOST_NUMBERS]]
        return () if NONE in numbers else tuple(numbers)
    if not isinstance(value, str) or "..." in value:
        return ()
    digits = _INTEGERS.findall(value)[:MOST_NUMBERS]
    return tuple(map(int, digits)) if all(len(number) <= MOST_DIGITS for number in digits) else ()


def is_too_large(value: Any) -> bool:
    """Whether a value is an integer that 64 bits don't hold, so that `integer` gives `NONE` for it."""
    is_long = isinstance(value, str) and _LONG_INTEGER.fullmatch(value) is not None
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return (is_long or is_whole) and value != NONE and integer(value) == NONE


def number(value: Any) -> int | float | None:
    """The finite number that a JSON value is, or that its text spells; None for all else, truth values too."""
    if isinstance(value, str):
        stripped = value.strip()
        value = float(stripped) if _DECIMAL.fullmatch(stripped) else None
    if type(value) is float:
        return value if math.isfinite(value) else None
    return value if type(value) is int and -(2**1023) < value < 2**1023 else None


def id_of(value: Any) -> int | str:
    """A process's, thread's or arrow's id; a number if it is one, however it is written."""
    if type(value) is int:
        return value
    if value == "":
        return ""
    number = integer(value)
    return number if number != NONE else text(value)


def text(value: Any) -> str:
    """A value as text; nothing is the empty text, and so is a number that is too long to be written out."""
    if isinstance(value, str):
        return value
    try:
        return "" if value is None else str(value)
    except UNDECODABLE:
        return ""


def read_toml(path: Path, option: str) -> dict[str, Any]:
    """What a user's TOML file holds.

    Args:
        option: what it was given with, for the message.

    Raises:
        UnreadableError: it isn't there, can't be read, is too large, or is no TOML; the message is one line.
    """
    import tomllib

    try:
        with opened(path) as file:
            data = file.read(MAX_TOML_BYTES + 1)
        if len(data) > MAX_TOML_BYTES:
            raise UnreadableError(
                f"{path} is over {MAX_TOML_BYTES >> 20} MiB, which is too large for such a file; check {option}"
            )
        return tomllib.loads(data.decode())
    except FileNotFoundError:
        raise UnreadableError(f"no file at {path}; check {option}") from None
    except OSError as error:
        raise UnreadableError(f"can't read {path}: {error.strerror}; check {option}") from None
    except RecursionError:
        raise UnreadableError(f"can't read {path} as TOML: its values nest too deep; write it flatter") from None
    except UNDECODABLE as error:
        raise UnreadableError(f"can't read {path} as TOML: {' '.join(str(error).split())[:300]}") from None
