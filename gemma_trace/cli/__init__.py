"""The command line: a file a command, its help its docstring. Heavy imports wait until a command runs."""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from gemma_trace._version import __version__
from gemma_trace.cli.output import say
from gemma_trace.errors import GemmaTraceError
from gemma_trace.opening import pipes_kept
from gemma_trace.printable import printable
from gemma_trace.signals import Ended, cleared_up_on_signals

COMMANDS: Final = (
    *("capture", "sweep", "compare"),
    *("summarize", "stages", "kernels", "tree", "diff", "check"),
    *("report", "view", "export", "hta"),
    "doctor",
)
"""In the order of the help. Each is the function of that name in the module of that name."""

TRACEBACK: Final = "GEMMA_TRACE_TRACEBACK"
"""The environment variable that makes a fault of our own print where it is."""

FAULT: Final = 70
"""What the command line ends with then; `sysexits.h` calls it EX_SOFTWARE."""

RUNS_MODELS: Final = frozenset({"capture", "sweep"})
"""The commands that use every core for arithmetic."""


class _Group(TyperGroup):
    """The commands; what was typed wrongly is said in text that is safe to print."""

    def make_context(self, *given: Any, **more: Any) -> Any:
        with _printable_usage():
            return super().make_context(*given, **more)

    def invoke(self, *given: Any, **more: Any) -> Any:
        with _printable_usage():
            return super().invoke(*given, **more)


@contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):  # click's, which typer may bring along
            vars(error)["message"] = printable(error.message)
        raise


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The command line for these arguments: with the one command that they name, or, for help, with all."""
    app = typer.Typer(
        name="gemma-trace",
        cls=_Group,
        help="Where does the time to the first token of a multimodal model go?",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Start with: gemma-trace capture && gemma-trace summarize traces/",
    )
    app.callback()(root)
    named = next((argument for argument in arguments if argument in COMMANDS), None)
    for command in (named,) if named else COMMANDS:
        app.command(command)(getattr(importlib.import_module(f"{__name__}.{command}"), command))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gemma-trace {__version__}")
        raise typer.Exit


def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours; so does NO_COLOR=1.")] = False,
) -> None:
    """Where does the time to the first token of a multimodal model go?"""
    if no_color:
        os.environ["NO_COLOR"] = "1"
    if context.invoked_subcommand not in RUNS_MODELS:
        # Reading a trace multiplies no matrices; starting OpenBLAS's threads is half of what importing numpy takes.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        # The process is short, and what it makes by the million (events, numbers, texts) is in no cycles.
        gc.disable()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and answer in one line whatever goes wrong.

    Returns:
        0 done; 1 the input or the analysis failed; 2 usage; 3 a gate was exceeded; 5 whether it was can't be known; 70
        a fault of gemma-trace's own; 143 ended by SIGTERM, 129 by SIGHUP.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets a question mark, not a traceback
    try:
        with cleared_up_on_signals(), pipes_kept():
            return run(given)
    except Ended as ended:
        say(f"gemma-trace: ended by {ended.name}")
        return int(ended.code or 0)
    except GemmaTraceError as error:
        say(f"gemma-trace: {error}")
        return error.exit_code
    except MemoryError:
        say("gemma-trace: memory is short; close other programs, or give a smaller trace")
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        say(
            f"gemma-trace: a fault of its own, {type(error).__name__} in {_place(error)}; "
            f"please report it with what {TRACEBACK}=1 makes it print"
        )
        return FAULT


def _place(error: Exception) -> str:
    """The innermost file and line."""
    innermost = error.__traceback__
    while innermost and innermost.tb_next:
        innermost = innermost.tb_next
    return f"{Path(innermost.tb_frame.f_code.co_filename).name}:{innermost.tb_lineno}" if innermost else ""


def run(arguments: Sequence[str]) -> int:
    """Run a command, without the answers in one line.

    Returns:
        What `main` does, where the command ends by itself.

    Raises:
        GemmaTraceError: the message is for the user.
    """
    try:
        build_app(arguments)(args=list(arguments), standalone_mode=True)
    except Ended:
        raise
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
