"""A capture's progress on a terminal, on stderr so that stdout stays pipeable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class CaptureProgress:
    """A line a phase; the phase before is done when the next begins."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def phase(self, name: str, steps: int) -> None:
        """A phase of so many steps begins."""
        self.finish()
        if steps:
            self._task = self._bars.add_task(name, total=steps)

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
