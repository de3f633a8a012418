"""A file for viewers while it is written: its members, its events, and behind them the arrows, which are spooled."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from gemma_trace.trace.files import output_file
from gemma_trace.trace.header import EXPORT_KEY
from gemma_trace.trace.short_paths import PathScrubber

SUFFIX: Final = ".perfetto.json.gz"

_SPOOLED_BYTES: Final = 64 << 20


class ScrubbedFile:
    """A file that folders of the user's machine don't get into; whole texts are written at a time."""

    def __init__(self, file: IO[bytes], scrub: Callable[[bytes], bytes]) -> None:
        self._file, self._scrub = file, scrub

    def write(self, data: bytes, /) -> None:
        """Append bytes."""
        self._file.write(self._scrub(data))


class ViewerFile:
    """Where events and arrows go, each with a comma and a line break before it.

    Attributes:
        events: all events but arrows.
        arrows: they end up behind all of `events` so far once `add_arrows` is called.
        scrub: takes the folders out of names.
    """

    def __init__(self, file: IO[bytes], spool: IO[bytes], scrub: PathScrubber) -> None:
        self._file, self._spool, self._begun = file, spool, False
        self.events, self.arrows, self.scrub = ScrubbedFile(file, scrub), ScrubbedFile(spool, scrub), scrub

    def begin(self, record: object, members: Iterable[tuple[str, bytes]]) -> None:
        """Write all that stands before the events.

        Args:
            record: says what was done; it tells an export from a trace.
            members: further top-level members, each with its JSON text.
        """
        self.events.write(b'{\n"displayTimeUnit": "ms"')
        for key, value in ((EXPORT_KEY, msgspec.json.encode(record)), *members):
            self.events.write(b",\n%b: %b" % (msgspec.json.encode(key), value))
        self.events.write(b',\n"traceEvents": [')

    def add_first_of(self, event: dict[str, Any]) -> None:
        """Write the event that a trace's part begins with: no comma stands before the first of all."""
        self.events.write((b",\n" if self._begun else b"\n") + msgspec.json.encode(event))
        self._begun = True

    def add_arrows(self) -> None:
        """Put the arrows behind the events."""
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._file)

    def end(self) -> None:
        """Write what stands behind the events."""
        self.events.write(b"\n]\n}\n")


@contextmanager
def viewer_file(path: Path, *, keep_paths: bool) -> Iterator[ViewerFile]:
    """A new file for viewers, which appears under its name when it is whole.

    Args:
        path: gzip if it ends in .gz.
        keep_paths: leave the folders of files in names, but for the home folder.

    Raises:
        OutputError: it can't be written.
    """
    with output_file(path) as file, tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
        yield ViewerFile(file, spool, PathScrubber(keep_paths=keep_paths))
