"""Names that a regular expression may choke on, made of its own pieces; and how long it takes over them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from re import _constants, _parser  # type: ignore[attr-defined]
from types import FrameType, ModuleType
from typing import Any, Final

import gemma_trace
from gemma_trace.lazy_patterns import LazyPattern
from gemma_trace.stages import StageRule

MANY: Final = 100
"""A repeat that may go on longer than this can't be told from one without an end."""

NAMES: Final = 60
"""How many names each pattern is held against."""

LEAST_TOTAL_S: Final = 0.1
"""Processor time that is told from none even where it is counted in ticks of 10 ms."""

_REPEATS: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)
_FILLERS: Final = ("", "a", "0", "_", " ", "/", ".", "<", "A", "-", ":", ",", "a.", "a/", "_a", "1,")

Find = Callable[[Any], Any]


@dataclass(frozen=True)
class Pattern:
    """A pattern of ours.

    Attributes:
        where: the module's and the variable's name.
        find: how it is used: `fullmatch` or `match`, and `search` for all else.
    """

    where: str
    compiled: re.Pattern[Any]
    find: Find


def patterns() -> Iterator[Pattern]:
    """All that modules keep which need no torch, each once."""
    seen: set[tuple[Any, int]] = set()
    for found in pkgutil.walk_packages(gemma_trace.__path__, "gemma_trace."):
        if found.name.endswith(("__main__", "shims", ".measure")) or ".capture" in found.name:
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            for compiled, whole in _patterns_in(value):
                key = (compiled.pattern, compiled.flags)
                if key not in seen:
                    seen.add(key)
                    use = "fullmatch" if whole else _use(module, name)
                    yield Pattern(f"{found.name}.{name}", compiled, getattr(compiled, use))


def _patterns_in(value: Any, depth: int = 0) -> Iterator[tuple[re.Pattern[Any], bool]]:
    if isinstance(value, LazyPattern):
        yield value.compiled, False
    elif isinstance(value, re.Pattern):
        yield value, False
    elif isinstance(value, StageRule):
        yield re.compile(value.pattern, re.DOTALL), not value.anywhere
    elif isinstance(value, tuple | list) and depth < 4:
        for each in value:
            yield from _patterns_in(each, depth + 1)


def _use(module: ModuleType, name: str) -> str:
    """How the module uses its pattern; one that is handed on is held against whole names there."""
    source = inspect.getsource(module)
    used = set(re.findall(rf"\b{name}\.(fullmatch|match|search|sub|subn|findall|finditer|split)\b", source))
    if not used:  # a table of patterns, or one that is handed on
        handed_on = re.search(rf"named\([^()]*\b{name}\)", source)
        return "fullmatch" if handed_on or not re.search(r"\.(?:search|match|finditer|sub)\(", source) else "search"
    return "fullmatch" if used == {"fullmatch"} else "match" if used <= {"fullmatch", "match"} else "search"


def has_no_end(tree: Any) -> bool:
    """Whether anything in a parsed pattern may repeat for ever."""
    return any(
        (op in _REPEATS[:2] and value[1] > MANY) or any(map(has_no_end, _inner(op, value))) for op, value in tree
    )


def _inner(op: Any, value: Any) -> list[Any]:
    if op is _constants.SUBPATTERN:
        return [value[3]]
    if op is _constants.BRANCH:
        return list(value[1])
    if op in _REPEATS:
        return [value[2]]
    if op in (_constants.ASSERT, _constants.ASSERT_NOT):
        return [value[1]]
    return [value] if op is _constants.ATOMIC_GROUP else []


def hostile_names(compiled: re.Pattern[Any]) -> list[tuple[str, str]]:
    """Beginnings and what repeats after them: the pattern's literals, and the beginnings of what it matches."""
    tree = _parser.parse(compiled.pattern, compiled.flags & ~re.DEBUG)
    if not has_no_end(tree):
        return []
    pieces: set[str] = set()
    for part in _alternatives(tree):
        if has_no_end(part):
            pieces |= {sample[:end] for sample in (_sample(part),) for end in range(1, len(sample) + 1)}
            pieces |= set(_literals(part))
    found = {("", piece + filler) for piece in pieces for filler in _FILLERS}
    found |= {(piece, filler) for piece in pieces for filler in _FILLERS if filler}
    return Random(1).sample(sorted(found), min(len(found), NAMES))


def _alternatives(tree: Any) -> Iterator[Any]:
    """The branches at a pattern's top, or all of it."""
    items = list(tree)
    if len(items) == 1 and (inner := _inner(*items[0])) and items[0][0] in (_constants.BRANCH, _constants.SUBPATTERN):
        for branch in inner:
            yield from _alternatives(branch)
    else:
        yield items


def _literals(tree: Any) -> Iterator[str]:
    run = ""
    for op, value in tree:
        if op is _constants.LITERAL:
            run += chr(value)
            continue
        yield from filter(None, [run])
        run = ""
        for inner in _inner(op, value):
            yield from _literals(inner)
    yield from filter(None, [run])


def _sample(tree: Any) -> str:
    """A text that a pattern matches, or nearly."""
    return "".join(_one(op, value) for op, value in tree)


def _one(op: Any, value: Any) -> str:
    if op is _constants.LITERAL:
        return chr(value)
    if op in _REPEATS:
        return _sample(value[2]) * max(int(value[0]), 1)
    if op is _constants.BRANCH:
        return _sample(value[1][0])
    if op is _constants.SUBPATTERN:
        return _sample(value[3])
    if op is _constants.ATOMIC_GROUP:
        return _sample(value)
    if op is _constants.IN:
        kind, first = value[0]
        if kind is _constants.LITERAL:
            return chr(first)
        if kind is _constants.RANGE:
            return chr(first[0])
        return "0" if first is _constants.CATEGORY_DIGIT else " " if first is _constants.CATEGORY_SPACE else "a"
    return "x" if op in (_constants.ANY, _constants.NOT_LITERAL) else ""


def cost_s(find: Find, text: str | bytes, limit_s: float) -> float:
    """How much processor time a text takes; infinite where that is more than the limit."""

    class TooLongError(Exception):
        pass

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    begun = time.process_time()
    try:
        find(text)
    except TooLongError:
        return float("inf")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return time.process_time() - begun


def too_slow(pattern: Pattern, short: int, least_s: float, limit_s: float) -> Iterator[tuple[str, str]]:
    """The names over which a pattern takes more than in proportion to their length.

    Args:
        short: a length; the other is 16 times as long, which takes a linear pattern 16 times as long, and one that
            takes the square of the length 256 times.
        least_s: what takes less than this isn't looked at.
    """
    for begin, again in hostile_names(pattern.compiled):

        def name(length: int, begin: str = begin, again: str = again) -> str | bytes:
            text = begin + again * (length // len(again)) + "!\n"
            return text.encode("latin-1", "replace") if isinstance(pattern.compiled.pattern, bytes) else text

        def grows(length: int, name: Callable[[int], str | bytes] = name) -> bool:
            less, more = (mean_cost_s(pattern.find, name(n), limit_s) for n in (length, 16 * length))
            return more > 5 * 16 * less

        if (
            cost_s(pattern.find, name(16 * short), limit_s) > least_s
            and grows(short)
            and grows(3 * short)
            and grows(2 * short)
        ):
            yield begin, again


def mean_cost_s(find: Find, text: str | bytes, limit_s: float) -> float:
    """How much processor time a text takes, the mean of as many times as take `LEAST_TOTAL_S` together.

    Where processor time is counted in ticks of 10 ms, a single short text seems to take none at all.
    """
    times = 1
    while (cost := cost_s(partial(_repeated, find, times), text, limit_s)) < LEAST_TOTAL_S:
        times *= 4
    return cost / times


def _repeated(find: Find, times: int, text: str | bytes) -> None:
    for _ in range(times):
        find(text)
