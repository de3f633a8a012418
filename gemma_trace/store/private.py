"""What of a trace's texts goes into a store: without `keep_names` nothing that says who recorded it, and where."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path

from gemma_trace.export.private_names import PrivateNames, host_of_file
from gemma_trace.export.redacted_text import TextRedactor
from gemma_trace.printable import path_text
from gemma_trace.trace.reader import TraceFile


class Texts:
    """The texts of a trace as a store has them.

    Args:
        path: the trace's file.
        file: its content; None where it can't be read.
        keep_names: leave names and paths as they are.
    """

    def __init__(self, path: Path, file: TraceFile | None, *, keep_names: bool) -> None:
        self._path, self._file, self.keep_names = path, file, keep_names
        self._symbols: dict[str, str] = {}

    @property
    def path(self) -> str | None:
        """The file's path, if it may be told."""
        return path_text(self._path) if self.keep_names else None

    def symbol(self, name: str) -> str:
        """The name of a kernel, an op or a stage."""
        if name not in self._symbols:
            self._symbols[name] = path_text(name if self.keep_names else self._redactor.symbol(name))
        return self._symbols[name]

    def message(self, text: str) -> str:
        """A sentence about the trace."""
        if not self.keep_names:
            text = text.replace(str(self._path), "the trace").replace(self._path.name, "the trace")
            text = self._redactor.text(text)
        return path_text(text)

    def told(self, text: str | None) -> str | None:
        """A text that may be missing or empty, such as a version."""
        return self.symbol(text) if text else None

    @cached_property
    def _redactor(self) -> TextRedactor:
        names = PrivateNames()
        if self._file is not None:
            names.of_header(self._file.header)
        host = host_of_file(self._path.name)
        return TextRedactor(names.users, names.hosts | ({host} if host else set()), Counter())
