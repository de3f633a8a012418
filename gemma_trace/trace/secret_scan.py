"""A file's text → what in it looks like a secret. The text is gone through once, in bounded memory, however it is cut.

RE2's automaton, which Arrow brings, finds where a secret may begin, in time linear in the text; only there is looked
closer. Python's `re` would take ten times as long for the same expression.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from gemma_trace.trace.secrets import STARTS, readable, secrets_within
from gemma_trace.trace.source import SourceState, read_chunks

OVERLAP: Final = 24 * 1024
"""What begins in the last characters of a chunk is looked at once the next one is there."""

MOST_PLACES: Final = 50_000
BYTES_PER_PLACE: Final = 400
"""A text may have so many places to look at, and one more for so many bytes: the time stays in proportion to them."""

_BEFORE: Final = 128
"""How much of the text before is kept for what is around a secret."""
_REACH: Final = 512
"""How far into a match of `STARTS` a secret may begin."""

_PATTERN: Final = re.sub(r"\{1,\d+\}", "+", re.sub(r"\{0,\d+\}", "*", STARTS))
"""`STARTS` without the bounds of what repeats: an automaton needs none, and counting makes it large."""

_LONGEST_ESCAPE: Final = 64 * 1024
_BEGIN, _END = b"\0", b"\1"
_NO_MARKS: Final = bytes.maketrans(_BEGIN + _END, b"  ")


class SecretScanner:
    """Takes text chunk by chunk.

    Attributes:
        counts: how many secrets there seem to be, by kind.
        values: what they are, so that nothing of them is shown elsewhere; not more than `keep` of them.
        looked_at: at how many places that may begin one was looked.
        passed_over: how many more there are at which it was not, since the text has more than it should take time for.
    """

    def __init__(self, keep: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self.values: set[str] = set()
        self.looked_at = self.passed_over = 0
        self._keep = keep
        self._taken = 0
        self._raw = b""
        self._text, self._from = b"", 0

    def feed(self, chunk: bytes) -> None:
        """Take more text."""
        data = self._raw + chunk if self._raw else chunk
        cut = _before_an_escape(data)
        self._raw = data[cut:]
        self._take(data[:cut])

    def finish(self) -> None:
        """There is no more text."""
        self._take(self._raw)
        self._raw = b""
        self._look(len(self._text))

    def _take(self, data: bytes) -> None:
        if b"\\" in data:
            data = readable(data.decode("latin-1")).encode("latin-1")
        if _BEGIN in data or _END in data:
            data = data.translate(_NO_MARKS)
        self._taken += len(data)
        self._text += data
        until = len(self._text) - OVERLAP
        if until > self._from:
            self._look(until)

    def _look(self, until: int) -> None:
        """Find what begins before this place, and keep of the text what the rest needs."""
        done = self._from
        for start, end in _candidates(self._text[done:], self._from):
            first, last = max(start, done), min(until, end, start + _REACH)
            if first >= last:
                continue
            if self.looked_at >= MOST_PLACES + self._taken // BYTES_PER_PLACE:
                self.passed_over += 1
                continue
            self.looked_at += 1
            window = max(0, first - _BEFORE)
            text = self._text[window : last + OVERLAP].decode("latin-1")
            for secret in secrets_within(text, first - window, last - window):
                if secret.start + window >= done:
                    self._note(text[secret.start : secret.end], secret.kind)
                    done = secret.end + window
        kept = max(0, until - _BEFORE)
        self._from = max(until, done) - kept
        self._text = self._text[kept:]

    def _note(self, value: str, kind: str) -> None:
        self.counts[kind] += 1
        if len(self.values) < self._keep:
            self.values.add(value.encode("latin-1").decode("utf-8", "replace"))


def scan_secrets(path: Path, on_bytes: Callable[[int], None] | None = None, keep: int = 0) -> SecretScanner:
    """What in a file's text looks like a secret; of a damaged or truncated file, in what can be inflated.

    Args:
        on_bytes: hears how many bytes of the file were read, each time some are.
        keep: how many of them to remember.

    Raises:
        InputError: the file can't be read.
    """
    scanner = SecretScanner(keep)
    for chunk in read_chunks(path, SourceState(on_bytes)):
        scanner.feed(chunk)
    scanner.finish()
    return scanner


def _candidates(text: bytes, place: int) -> Iterator[tuple[int, int]]:
    """(start, end) of every place of a text that starts at `place` where a secret may begin."""
    import pyarrow as pa
    import pyarrow.compute as pc

    compute: Any = pc
    ends = np.array([0, len(text)], dtype=np.int64)  # pa.array would import pandas to see whether it is given any of it
    texts = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(ends), pa.py_buffer(text)])
    marked = compute.replace_substring_regex(texts, pattern=_PATTERN, replacement="\0\\0\1")[0].as_py()
    for number, part in enumerate(marked.split(_BEGIN)):
        if number:
            yield place, place + part.index(_END)
            place -= 1  # the mark behind it
        place += len(part)


def _before_an_escape(data: bytes) -> int:
    """Where to cut text so that no escape is cut in two: its end, or where the escape begins that it ends in."""
    slash = data.rfind(b"\\", max(0, len(data) - 5))
    if slash < 0:
        return len(data)
    rest = data[slash + 1 :]
    if rest and not (rest[:1] == b"u" and len(rest) < 5):
        return len(data)
    start = len(data[: slash + 1].rstrip(b"\\"))
    return start if len(data) - start < _LONGEST_ESCAPE else len(data)
