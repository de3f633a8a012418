"""The command line: a file a command, its help its docstring. Heavy imports wait until a command runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gemma_trace._version import __version__
from gemma_trace.cli import capture, check, kernels, stages, summarize
from gemma_trace.errors import GemmaTraceError

app = typer.Typer(
    name="gemma-trace",
    help="Where does the time to the first token of a multimodal model go?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: gemma-trace capture && gemma-trace summarize traces/",
)
app.command()(capture.capture)
app.command()(summarize.summarize)
app.command()(stages.stages)
app.command()(kernels.kernels)
app.command()(check.check)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gemma-trace {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR=1.")] = False,
) -> None:
    """Where does the time to the first token of a multimodal model go?"""
    if no_color:
        os.environ["NO_COLOR"] = "1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 done; 1 the input or the analysis failed; 2 usage.
    """
    try:
        app(args=arguments, standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except GemmaTraceError as error:
        print(f"gemma-trace: {error}", file=sys.stderr)
        return error.exit_code
    return 0
