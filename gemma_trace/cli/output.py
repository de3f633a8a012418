"""How every command that prints a table prints it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.everywhere import asked
from gemma_trace.errors import ConfigError, OutputError
from gemma_trace.printable import printable, printable_lines
from gemma_trace.report.formats import EXTENSIONS, RENDERERS, WIDE, Format, format_of

if TYPE_CHECKING:
    from gemma_trace.report.table import Report

_LONGEST_STEM = 160
_AS_A_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""What a URL is as a path, which has lost a slash."""

FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        is_eager=True,
        help="What to print; by default what the name of the output file ends with, else a table. parquet needs -o.",
    ),
]


def _with_a_known_name(context: typer.Context, output: Path | None) -> Path | None:
    """An output file, refused at once where its name tells no format and no other option does."""
    if output is not None:
        format_for(context.params.get("form"), output)
    return output


OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        callback=_with_a_known_name,
        help="Write to this file instead of the terminal. Its name gives the format: .csv, .json, .md, .parquet …",
    ),
]
AnyOutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of the terminal.")
]
"""A command's that can write something other than a table."""
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


def answer_lines(text: str) -> None:
    """Print a result of several lines to stdout. Nothing in it acts on a terminal."""
    print(printable_lines(text), end="", flush=True)


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
        OutputError: the file exists and `force` isn't set, there can be no such file, or it is a URL.
    """
    if _AS_A_PATH.match(str(output)):
        raise OutputError("outputs are files of this machine, and that is a URL; give a path, and copy the file there")
    try:
        exists = output.exists()
    except OSError as error:
        raise OutputError(f"can't write {output}: {error.strerror}; check --output") from error
    if exists and not force:
        raise OutputError(f"{output} exists already; give --force to overwrite it")


def refuse_another_format(output: Path | None, form: Format, what: str, option: str = "--output") -> None:
    """A file that is always of one format isn't named after another.

    Args:
        what: is written, for the message.
        option: the option that names the file.

    Raises:
        ConfigError: the name says that the file is of another format.
    """
    if output is not None and format_of(output) not in (None, form):
        raise ConfigError(f"{option} {output}: {what}; end the name with {RENDERERS[form].extensions[0]}")


def format_for(form: Format | None, output: Path | None, option: str = "--output") -> Format:
    """The format that was asked for, or that the file is named after; a table where there is no file.

    Args:
        option: the option that names the file.

    Raises:
        ConfigError: the file's name tells no format.
    """
    chosen = form or (Format.TABLE if output is None else format_of(output))
    if chosen is None:
        known = ", ".join(EXTENSIONS)
        raise ConfigError(f"{option} {output}: the name tells no format; end it with {known}, or give --format")
    return chosen


def emit(report: Report, form: Format | None, output: Path | None, *, force: bool, raw: bool = False) -> None:
    """Print or write a report; a file whose name ends in .gz is compressed.

    Where rows were left out of CSV, which can't say so itself, a line on stderr does.

    Args:
        form: None is what the file's name ends with.
        raw: CSV keeps texts as they are that a spreadsheet would take for formulas.

    Raises:
        OutputError: the file exists and `force` isn't set, or it can't be written.
        ConfigError: what is no text to a terminal, or the file's name tells no format.
    """
    if output is not None:
        refuse_existing(output, force=force)
    form = format_for(form, output)
    refuse_binary(form, output)
    content = render(report, form, to_terminal=output is None, raw=raw)
    if content is None:
        return
    if output is None:
        sys.stdout.write(content.decode())
        sys.stdout.flush()
    else:
        _write(content, output)
    if report.data.left_out and form is Format.CSV:
        shown = len(report.data.rows)
        say(f"gemma-trace: {shown:,} of {shown + report.data.left_out:,} rows; --top 0 gives all of them")


def _write(content: bytes, output: Path) -> None:
    from gemma_trace.trace.files import output_file

    with output_file(output) as file:
        file.write(content)


def refuse_binary(form: Format | None, output: Path | None, option: str = "-o") -> None:
    """A terminal gets no file that is no text.

    Args:
        option: the option that names a file.

    Raises:
        ConfigError: there is no file, and the format is no text.
    """
    if form is not None and output is None and RENDERERS[form].is_binary:
        raise ConfigError(f"{form.value} is a binary format; give {option} FILE")


def render(report: Report, form: Format, *, to_terminal: bool, raw: bool = False) -> bytes | None:
    """The report as bytes; None where it went to the terminal already."""
    if form is Format.TABLE and to_terminal:
        from rich.console import Console

        from gemma_trace.report.terminal import print_report

        # A pipe has no width: then nothing is dropped, unless COLUMNS says how wide it is.
        piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        print_report(report, Console(width=WIDE if piped else None))
        return None
    return RENDERERS[form].render(report, raw)
