"""Refuses wrong arguments of public functions, which their annotations tell, with a ConfigError of one line."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from gemma_trace.errors import ConfigError

P = ParamSpec("P")
Result = TypeVar("Result")
Test = Callable[[object], bool]

_OR_NONE: Final = " | None"
_MOST_SHOWN: Final = 3
_LONGEST_SHOWN: Final = 60


def _a(*classes: type) -> Test:
    return lambda value: isinstance(value, classes)


def _named(name: str) -> Test:
    """Whether a value is of the class with this name, which is imported only where values of it are made."""
    return lambda value: any(base.__name__ == name for base in type(value).__mro__)


def _any_of(*tests: Test) -> Test:
    return lambda value: any(test(value) for test in tests)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(test, value))


def _dict_to(test: Test) -> Test:
    return lambda value: isinstance(value, Mapping) and all(map(is_text, value)) and all(map(test, value.values()))


def _any(_: object) -> bool:
    """What the function itself looks at, which knows what numbers it takes."""
    return True


def is_whole(value: object) -> bool:
    """Whether a value is a whole number that an int64 can hold; True and False are none."""
    return not isinstance(value, bool) and hasattr(value, "__index__") and -(2**63) <= value.__index__() < 2**63


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can hold: half of a surrogate pair is none."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_path(value: object) -> bool:
    """Whether a value can be the name of a file; whether there is one is another question."""
    if not isinstance(value, str | Path) or value == "" or "\0" in str(value):
        return False
    try:
        os.fsencode(str(value))
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class _Kind:
    """What an argument may be.

    Attributes:
        fits: whether a value is of this kind.
        refusal: what is said of others, after "source=7 is".
    """

    fits: Test
    refusal: str


_KINDS: Final = {
    "bool": _Kind(_a(bool), "neither True nor False"),
    "int": _Kind(is_whole, "not a whole number"),
    "float": _Kind(is_number, "not a number"),
    "str": _Kind(is_text, "not valid text; give a string"),
    "str | Path": _Kind(_is_path, "not a path; give a string or a pathlib.Path"),
    "str | Sequence[str]": _Kind(
        _any_of(is_text, _list_of(is_text)), "neither valid text nor a list of texts; give strings"
    ),
    "str | Path | Sequence[str | Path]": _Kind(
        _any_of(_is_path, _list_of(_is_path)), "neither a path nor a list of paths; give strings or pathlib.Paths"
    ),
    "Mapping[str, str]": _Kind(_dict_to(is_text), "not a dict from strings to strings"),
    "Mapping[str, float]": _Kind(_dict_to(_any), "not a dict from strings to numbers"),
    "Callable[[int], None]": _Kind(callable, "not a function"),
    "Callable[[Outcome], None]": _Kind(callable, "not a function"),
    "Trace": _Kind(_named("Trace"), "not a trace; gemma_trace.load reads one"),
    "Trace | Sequence[Trace]": _Kind(
        _any_of(_named("Trace"), _list_of(_named("Trace"))),
        "neither a trace nor a list of traces; gemma_trace.load reads one",
    ),
    "int | Request": _Kind(_any_of(is_whole, _named("Request")), "neither an index nor a request of the trace"),
    "Sequence[Request]": _Kind(_list_of(_named("Request")), "not a list of requests; a trace's `requests` has them"),
    "Sequence[StageRule]": _Kind(
        _list_of(_named("StageRule")), "not a list of stage rules; gemma_trace.stage_rule makes a rule"
    ),
    "StageBreakdown": _Kind(_named("StageBreakdown"), "not a breakdown; gemma_trace.breakdown makes one"),
    "Peaks": _Kind(_named("Peaks"), "not a gemma_trace.peaks.Peaks"),
    "Sequence[Peaks]": _Kind(_list_of(_named("Peaks")), "not a list of gemma_trace.peaks.Peaks"),
    "TraceCache": _Kind(_named("TraceCache"), "not a gemma_trace.trace.cache.TraceCache"),
}
"""What the annotations of public functions mean, without the None that some allow as well."""

_CHECKED_INSIDE: Final = frozenset({"By | str", "Sort | str"})
"""Annotations of arguments that are one of a few words, which the function itself lists where it refuses one."""


def checked(function: Callable[P, Result]) -> Callable[P, Result]:
    """A public function that refuses arguments which its annotations don't allow.

    What can be iterated over, but is no sequence (a generator, a set, an array), becomes a tuple where a list may be
    given, and another class's path becomes its text where a path may be. Arguments that are missing or unknown are
    Python's own TypeError.

    Raises:
        KeyError: an annotation is none that `_KINDS` has; it requires a row there.
    """
    parameters = inspect.signature(function).parameters
    allowed = {
        name: str(parameter.annotation)
        for name, parameter in parameters.items()
        if parameter.annotation is not parameter.empty and parameter.annotation not in _CHECKED_INSIDE
    }
    if unknown := [annotation for annotation in allowed.values() if annotation.removesuffix(_OR_NONE) not in _KINDS]:
        raise KeyError(*unknown)

    def argument(name: str, value: Any) -> Any:
        annotation = allowed.get(name)
        if annotation is None or (value is None and annotation.endswith(_OR_NONE)):
            return value
        if "Sequence" in annotation and _is_loose(value):
            value = tuple(value)
        if "Path" in annotation:
            value = _as_paths(value)
        check_argument(name, value, annotation.removesuffix(_OR_NONE))
        return value

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> Result:
        given = tuple(argument(name, value) for name, value in zip(parameters, args, strict=False))
        options.update({name: argument(name, value) for name, value in options.items()})
        return function(*given, *args[len(given) :], **options)  # type: ignore[arg-type]

    return call


def check_argument(name: str, value: object, annotation: str) -> None:
    """Refuse a value that this annotation, one of `_KINDS`, doesn't allow.

    Raises:
        ConfigError: it is none of those.
    """
    if not _KINDS[annotation].fits(value):
        raise ConfigError(f"{name}={shown(value)} is {_KINDS[annotation].refusal}")


def _as_paths(value: Any) -> Any:
    """The text of another class's path, by itself or in a list; all else as it is."""
    if isinstance(value, list):
        return [*map(_as_paths, value)]
    if isinstance(value, tuple):
        return tuple(map(_as_paths, value))
    return os.fspath(value) if isinstance(value, os.PathLike) and not isinstance(value, Path) else value


def _is_loose(value: object) -> bool:
    """Whether a value has elements in some order, and is neither a sequence nor a dict."""
    return isinstance(value, Iterable) and not isinstance(value, Sequence | Mapping)


def shown(value: object) -> str:
    """A wrong value in a message: short, in one line, and without asking a large object for its own text."""
    if isinstance(value, list | tuple):
        parts = [*map(shown, value[:_MOST_SHOWN]), *(["…"] if len(value) > _MOST_SHOWN else [])]
        text = ", ".join(parts)
        return f"[{text}]" if isinstance(value, list) else f"({text}{',' if len(parts) == 1 else ''})"
    is_plain = value is None or isinstance(value, bool | float | str | bytes)
    if not is_plain and not (isinstance(value, int) and is_whole(value)):
        return f"<{type(value).__name__}>"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"
