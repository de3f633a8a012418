"""`gemma-trace sweep`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import (
    ForceOption,
    FormatOption,
    OutDirOption,
    OutputOption,
    RawOption,
    format_for,
    refuse_binary,
    refuse_existing,
    say,
)
from gemma_trace.errors import CaptureError
from gemma_trace.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

    from gemma_trace.capture.sweep import Cell
    from gemma_trace.report.formats import Format


def sweep(
    matrix: Annotated[
        str,
        typer.Argument(
            metavar="[MATRIX]",
            help='A TOML file with the tables "matrix" and "options", or the reference study: study or study-fast.',
        ),
    ] = "study-fast",
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=VALUE[,VALUE]",
            help="Use these values of an option instead of those in the matrix. Repeatable.",
        ),
    ] = None,
    out_dir: OutDirOption = Path("traces"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and the memory that each cell needs, and run nothing.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run the cells that failed before again.")] = False,
    redo: Annotated[
        bool,
        typer.Option("--redo", help="Run all cells again. A trace is replaced as soon as the new one is complete."),
    ] = False,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Capture a matrix of configurations, one process per cell.

    The table of all runs is printed at the end. A cell that fails is recorded and does not stop the others. Run the
    same command again to continue a sweep that stopped: cells that are done are not run again.

    The matrix "study-fast" has the configurations of the reference study: 3 model sizes, 2 dtypes, 2 devices and 2
    image processors. "study" also loads each model ten times and sends requests like the study's own, with images of
    3500x2500 pixels.

    Example: gemma-trace sweep --set model=tiny --set device=cpu --out-dir traces/tiny -o summary.md
    """
    from gemma_trace.capture import require_capture_extra
    from gemma_trace.capture.study import STUDY_FAST, study_matrix, write_study_requests
    from gemma_trace.capture.sweep import plan, read_matrix, run_sweep

    known = {"study": study_matrix(out_dir), "study-fast": STUDY_FAST}
    cells = plan(known[matrix] if matrix in known else read_matrix(Path(matrix)), out_dir, change or ())
    require_capture_extra()
    _check_output(form, output, force=force)
    if dry_run:
        _print_plan(cells, out_dir, form, output, force=force, raw=raw)
        return
    if matrix == "study":
        write_study_requests(out_dir)
    with _watching(quiet=asked().quiet) as watch:
        ended = run_sweep(cells, retry=retry, redo=redo, on_change=watch)
    done = [cell for cell in ended if cell.state == "done"]
    failed = [cell for cell in ended if cell.state == "failed"]
    if done:
        _summarize(done, form, output, force=force, raw=raw)
    for cell in failed:
        say(f"gemma-trace: {cell.name}: {cell.error}")
    if failed:
        raise CaptureError(
            f"{len(failed)} of {len(ended)} cells failed; run the same command with --retry to run them again"
        )


def _check_output(form: Format | None, output: Path | None, *, force: bool) -> None:
    """Refuse at once what would be refused after hours."""
    if output is not None:
        refuse_existing(output, force=force)
    format_for(form, output)
    refuse_binary(form, output)


def _summarize(done: Sequence[Cell], form: Format | None, output: Path | None, *, force: bool, raw: bool) -> None:
    from gemma_trace.analysis.size_curve import SizedRun, size_curve
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.output import emit
    from gemma_trace.report.tables.requests import size_table
    from gemma_trace.report.tables.summary import summary_report
    from gemma_trace.trace.folders import find_traces
    from gemma_trace.trace.trace import load

    runs = [summarize(load(path)) for path in find_traces([cell.folder for cell in done])]
    report = summary_report(runs, [str(done[0].config.output)])
    if points := size_curve([SizedRun(run.settings, run.requests) for run in runs]):
        report = report.extended([size_table(points)], {})
    emit(report, form, output, force=force, raw=raw)


def _print_plan(
    cells: Sequence[Cell], out_dir: Path, form: Format | None, output: Path | None, *, force: bool, raw: bool
) -> None:
    from gemma_trace.capture.plan import describe
    from gemma_trace.cli.output import emit
    from gemma_trace.report.tables.plan import plan_report

    emit(plan_report(describe(cells), str(out_dir)), form, output, force=force, raw=raw)


@contextmanager
def _watching(*, quiet: bool) -> Iterator[Callable[[list[Cell]], None]]:
    """A live table on a terminal; elsewhere one line per cell, on stderr."""
    from rich.console import Console
    from rich.live import Live

    from gemma_trace.capture.sweep import REFUSED

    console = Console(stderr=True)
    said: set[str] = set()

    def print_lines(cells: list[Cell]) -> None:
        for cell in cells:
            if cell.state in ("done", "failed") and cell.name not in said:
                said.add(cell.name)
                earlier = "" if cell.phase == REFUSED else " before"
                say(f"{cell.name}: {cell.state}{f' in {cell.seconds:.0f} s' if cell.seconds else earlier}")

    if quiet:
        yield lambda cells: None
    elif not console.is_terminal:
        yield print_lines
    else:
        with Live(console=console, refresh_per_second=4) as live:
            yield lambda cells: live.update(_table(cells))


def _table(cells: Sequence[Cell]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("run", "state", "", "s"):
        table.add_column(header, justify="right" if header == "s" else "left", overflow="fold")
    styles = {"done": "green", "failed": "bold red", "running": "cyan", "waiting": "dim"}
    for cell in cells:
        state = Text(cell.state, style=styles[cell.state])
        seconds = f"{cell.seconds:.0f}" if cell.seconds else ""
        table.add_row(Text(printable(cell.name)), state, Text(printable(cell.error or cell.phase)), seconds)
    return table
