"""JSON in which no path says where on somebody's machine a file is: each is cut to its last component."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from gemma_trace.stages import FOREIGN_RULES, stage_named_by
from gemma_trace.trace.files import home_scrubber
from gemma_trace.trace.paths import shortened
from gemma_trace.trace.requests import is_step_name
from gemma_trace.trace.waiting import is_waiting

MOST_FOLDERS: Final = 6
"""How many folders of a path stay at most, where a stage or a wait is known by them."""

_WITH_SLASH: Final = re.compile(rb'"[^"/\\]*+(?:/|\\.)(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""A JSON text that may hold a path. Where JSON has a slash at all, it is in a text."""
_REMEMBERED: Final = 100_000
_LONGEST_REMEMBERED: Final = 2048


def meaning_of(name: str) -> object:
    """What figures rest on in a span's name: the stage it is a range of, a step, a wait."""
    rule = next((place for place, rule in enumerate(FOREIGN_RULES) if rule.matches(name)), None)
    return rule, stage_named_by(name), is_step_name(name), is_waiting(name)


def without_folders(text: str) -> str:
    """A text with its absolute paths cut to their last components; what tells a stage stays, folders if need be.

    >>> without_folders("/data/clients/acme/model.py(3): forward")
    'model.py(3): forward'
    """
    changed = _cut(text, 0)
    if changed == text or meaning_of(changed) == (meant := meaning_of(text)):
        return changed
    candidates = (_cut(text, keep) for keep in range(1, MOST_FOLDERS + 1))
    return next((candidate for candidate in candidates if meaning_of(candidate) == meant), changed)


def _cut(text: str, keep: int) -> str:
    return shortened(text, lambda: None, keep, absolute_only=True)


class PathScrubber:
    """Takes the folders of absolute paths out of whole JSON texts, and the user's home folder in any case.

    Args:
        keep_paths: leave all paths but the home folder, which becomes `~`.
    """

    def __init__(self, *, keep_paths: bool) -> None:
        self._keep_paths, self._without_home = keep_paths, home_scrubber()
        self._known: dict[bytes, bytes] = {}
        self._original: dict[str, str] = {}

    def __call__(self, data: bytes) -> bytes:
        """The same JSON; keys that differ before differ after."""
        data = self._without_home(data)
        if self._keep_paths or (b"/" not in data and b"\\" not in data):
            return data
        return _WITH_SLASH.sub(self._changed, data)

    def distinct(self, text: str) -> str:
        """A text without folders that tells things apart: one that differs from another before does so after."""
        short = text if self._keep_paths else without_folders(text)
        name, count = short, 1
        while self._original.setdefault(name, text) != text:
            count += 1
            name = f"{short} ~{count}"
        return name

    def _changed(self, match: re.Match[bytes]) -> bytes:
        text = match[0]
        if match.string[match.end() : match.end() + 1] == b":":
            return _changed_json(text, self.distinct)
        made = self._known.get(text)
        if made is None:
            made = _changed_json(text, without_folders)
            if len(text) <= _LONGEST_REMEMBERED:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[text] = made
        return made


def _changed_json(text: bytes, change: Callable[[str], str]) -> bytes:
    try:
        value = msgspec.json.decode(text, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return text
    changed = change(value)
    return text if changed == value else msgspec.json.encode(changed)
