"""Regular expressions that are compiled when they are first used, since compiling long ones takes its time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from typing import Final

_TOKEN: Final = re.compile(r"(?s)\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.")
_SPECIAL: Final = frozenset("^$.()")
_REPEATS: Final = ("?", "*", "+", "{")


class LazyPattern:
    """A regular expression of text.

    Attributes:
        pattern: as it is written.

    >>> LazyPattern("a+").sub("b", "caat")
    'cbt'
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The same, compiled."""
        return re.compile(self.pattern)

    def search(self, text: str) -> re.Match[str] | None:
        """As `re.Pattern.search`."""
        return self.compiled.search(text)

    def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
        """As `re.Pattern.sub`."""
        return self.compiled.sub(replacement, text)


class AnyOf(LazyPattern):
    """A regular expression of many alternatives, of which only those are compiled that a text could match.

    Most alternatives hold a word that is part of all that they match, and half are nothing else: looking for words is
    many times quicker than compiling. The expression has no flags, such as `(?i)`.

    >>> names = AnyOf(r"gemm|(?<![a-z])top_?k\\d")
    >>> [names.is_in(text) for text in ("xgemmx", "top_k1", "stopk1", "top_k")]
    [True, True, False, False]
    """

    def is_in(self, text: str) -> bool:
        """Whether any part of the text matches: as `search`, which says where."""
        return any(word in text and (rest is None or rest.search(text)) for word, rest in self._alternatives)

    @cached_property
    def _alternatives(self) -> list[tuple[str, LazyPattern | None]]:
        """Of each alternative its longest word, and itself; None where it is that word."""
        return [(word, None if word == part else LazyPattern(part)) for part, word in alternatives_of(self.pattern)]


def alternatives_of(pattern: str) -> list[tuple[str, str]]:
    """The alternatives of a regular expression, and of each the longest text that stands in all that it matches.

    Groups, classes and what may be absent are no part of that text, which may be empty.

    >>> alternatives_of(r"split_?k|a\\.b+(c|d)")
    [('split_?k', 'split'), ('a\\\\.b+(c|d)', 'a.b')]
    """
    found: list[tuple[str, str]] = []
    depth = begin = 0
    words = [""]
    for token in _TOKEN.finditer(f"{pattern}|"):
        text = token[0]
        if text == "|" and depth == 0:
            found.append((pattern[begin : token.start()], max(words, key=len)))
            begin, words = token.end(), [""]
        elif text in "()":
            depth += 1 if text == "(" else -1
            words.append("")
        elif depth:
            continue
        elif text.startswith(_REPEATS):
            if text[0] in "?*" or text.startswith(("{0", "{,")):
                words[-1] = words[-1][:-1]
            words.append("")
        elif text in _SPECIAL or text[0] == "[" or (text[0] == "\\" and text[1].isalnum()):
            words.append("")
        else:
            words[-1] += text[-1]
    return found
