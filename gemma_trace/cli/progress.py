"""Progress on a terminal, on stderr so that stdout stays pipeable: a capture's, and that of reading a file.

Rich is imported when there is something to show: it takes longer to start than a small trace to read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import say
from gemma_trace.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

WORTHWHILE_BYTES: Final = 8 * 1024 * 1024
"""A smaller file is read in a moment."""


@contextmanager
def reading(what: str, path: Path) -> Iterator[Callable[[int], None] | None]:
    """Show how far a file has been read while the block runs; gives what hears of the bytes, None for a small file."""
    try:
        size = path.stat().st_size
    except OSError:  # whoever reads the file says why it can't be
        size = 0
    if size < WORTHWHILE_BYTES or not sys.stderr.isatty() or asked().quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(_label(what), total=size)
        yield lambda count: bars.advance(task, count)


def _label(what: str) -> str:
    """What stands before a bar: rich takes it for markup, which a file's name isn't."""
    from rich.markup import escape

    return escape(printable(what))


class CaptureProgress:
    """One line per phase; a phase is done when the next one begins."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def phase(self, name: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self.finish()
        if steps:
            self._task = self._bars.add_task(_label(name), total=steps)

    def step(self) -> None:
        """One step of the phase is done."""
        if self._task is not None:
            self._bars.advance(self._task)

    def finish(self) -> None:
        """The last phase is done."""
        if self._task is not None:
            self._bars.update(self._task, completed=self._bars.tasks[self._task].total)


@contextmanager
def capture_progress(*, quiet: bool) -> Iterator[CaptureProgress]:
    """Show progress while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
        progress = CaptureProgress(bars)
        yield progress
        progress.finish()


@contextmanager
def phases(*, quiet: bool) -> Iterator[CaptureProgress | PhaseLines]:
    """Bars on a terminal; elsewhere one line as each phase begins, since bars would all come at the end."""
    if quiet or sys.stderr.isatty():
        with capture_progress(quiet=quiet) as bars:
            yield bars
    else:
        yield PhaseLines()


class PhaseLines:
    """Progress in a file or a pipe."""

    def phase(self, name: str, steps: int) -> None:
        """A phase of so many steps begins."""
        if steps:
            say(f"{name} ({steps})" if steps > 1 else name)

    def step(self) -> None:
        """Does nothing: one line per phase is enough."""
