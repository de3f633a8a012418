"""How every command that prints a table prints it."""

from __future__ import annotations

import io
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.everywhere import asked
from gemma_trace.errors import ConfigError, OutputError
from gemma_trace.printable import printable

if TYPE_CHECKING:
    from gemma_trace.report.model import Report

WIDE = 400
_LONGEST_STEM = 160


class Format(StrEnum):
    """What a table is printed as."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


FormatOption = Annotated[Format, typer.Option("--format", "-f", help="The format of the output. parquet requires -o.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of the terminal.")
]
OutDirOption = Annotated[Path, typer.Option("--out-dir", metavar="FOLDER", help="Write the runs into this folder.")]
NoCacheOption = Annotated[
    bool, typer.Option("--no-cache", help="Read the trace itself, and keep no cache of it for the next command.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing output file.")]
RawOption = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="In CSV, leave text that a spreadsheet takes for a formula as it is, without an apostrophe before it.",
    ),
]


def say(text: str) -> None:
    """Say one thing, on stderr, so that stdout has the result alone. Nothing in it acts on a terminal."""
    print(printable(text), file=sys.stderr, flush=True)


def remark(text: str) -> None:
    """Say what isn't needed to understand the result; nothing with --quiet."""
    if not asked().quiet:
        say(text)


def answer(text: str | Path) -> None:
    """Print a result of one line, such as a file's name, to stdout. Nothing in it acts on a terminal."""
    print(printable(str(text)), flush=True)


def file_stem(label: str) -> str:
    """A run's name as the beginning of a file's: no folder, nothing that isn't printable, not too long.

    >>> file_stem("../runs/a\\x1b[2J")
    'a_x1b[2J'
    """
    shown = printable(Path(label).name).replace("\\", "_")
    return shown.encode("utf-8", "replace")[:_LONGEST_STEM].decode("utf-8", "ignore") or "trace"


def refuse_existing(output: Path, *, force: bool) -> None:
    """Nothing is overwritten unasked.

    Raises:
        OutputError: the file exists and `force` isn't set, or there can be no such file.
    """
    try:
        exists = output.exists()
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror}; check --output") from error
    if exists and not force:
        raise OutputError(f"{output} exists already; give --force to overwrite it")


def emit(report: Report, form: Format, output: Path | None, *, force: bool, raw: bool = False) -> None:
    """Print or write a report; a file whose name ends in .gz is compressed.

    Args:
        raw: CSV keeps texts as they are that a spreadsheet would take for formulas.

    Raises:
        OutputError: the file exists and `force` isn't set, or it can't be written.
        ConfigError: Parquet to a terminal.
    """
    if output is not None:
        refuse_existing(output, force=force)
    if form is Format.PARQUET and output is None:
        raise ConfigError("parquet is a binary format; give -o FILE")
    content = render(report, form, to_terminal=output is None, raw=raw)
    if content is None:
        return
    if output is None:
        sys.stdout.write(content.decode())
        sys.stdout.flush()
        return
    from gemma_trace.trace.files import atomic_file

    try:
        with atomic_file(output) as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror}; check --output") from error


def render(report: Report, form: Format, *, to_terminal: bool, raw: bool = False) -> bytes | None:
    """The report as bytes; None where it went to the terminal already."""
    if form is Format.TABLE:
        from rich.console import Console

        from gemma_trace.report.tables import print_report

        if to_terminal:
            # A pipe has no width: then nothing is dropped, unless COLUMNS says how wide it is.
            piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
            print_report(report, Console(width=WIDE if piped else None))
            return None
        text = io.StringIO()
        print_report(report, Console(file=text, width=WIDE))
        return text.getvalue().encode()
    if form is Format.MARKDOWN:
        from gemma_trace.report.markdown import to_markdown

        return to_markdown(report).encode()
    from gemma_trace.report.files import to_csv, to_json, to_parquet

    if form is Format.PARQUET:
        return to_parquet(report)
    return (to_csv(report, raw=raw) if form is Format.CSV else to_json(report)).encode()
