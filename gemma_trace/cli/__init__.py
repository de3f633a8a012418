"""The command line: one file per command, whose docstring is its help. Heavy imports wait until a command runs."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from gemma_trace._version import __version__
from gemma_trace.cli.everywhere import HELP, asked, asking, taken_out
from gemma_trace.cli.output import say
from gemma_trace.cli.summaries import SUMMARIES
from gemma_trace.errors import GemmaTraceError
from gemma_trace.opening import pipes_kept
from gemma_trace.printable import printable
from gemma_trace.signals import Ended, cleared_up_on_signals

COMMANDS: Final = tuple(SUMMARIES)

FAULT: Final = 70
"""The exit code of a fault of our own; `sysexits.h` calls it EX_SOFTWARE."""

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where a disk, or what a user may have of it, is full."""

TRACE_SUFFIXES: Final = (".json", ".json.gz")
"""What is called so is taken for a trace where a command's name is expected."""

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


class _Command(TyperCommand):
    """A command whose usage line shows a required argument as every man page does: TRACE, not {TRACE}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


@contextlib.contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        is_help = type(error).__name__ == "NoArgsIsHelpError"  # whose message is our own help, line by line
        # Both are click's, which typer may bring along.
        if hasattr(error, "format_message") and hasattr(error, "message") and not is_help:
            vars(error)["message"] = printable(error.message)
        raise


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """The command line for these arguments: with the one command that they name, or, for help, with what all do."""
    app = typer.Typer(
        name="gemma-trace",
        cls=_Group,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=f"Start with: gemma-trace capture --name demo && gemma-trace traces/demo. {HELP}",
    )
    app.callback()(root)
    named = next((argument for argument in arguments if argument in COMMANDS), None)
    for command in (named,) if named else COMMANDS:
        if named or _completes():
            app.command(command, cls=_Command, epilog=HELP)(_function_of(command))
        else:
            app.command(command, help=SUMMARIES[command])(_unnamed)
    return app


def _completes() -> bool:
    """Whether a shell asks how a command line goes on, which takes the options of all commands."""
    return any(name.startswith("_") and name.endswith("_COMPLETE") for name in os.environ)


def _function_of(command: str) -> Callable[..., Any]:
    name = command.replace("-", "_")
    function: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{name}"), name)
    return function


def _unnamed() -> None:
    """Stands for a command that isn't run."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gemma-trace {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Show where the time to the first token of a multimodal model goes.

    It captures requests under torch.profiler, and reads those traces and any other trace of PyTorch. Without a command,
    `gemma-trace TRACE` is short for `gemma-trace stages TRACE`.
    """


def entry() -> int:
    """Run `main` in a process that is its own, as `start.py` does.

    Returns:
        As `main`.
    """
    arguments = sys.argv[1:]
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    if RUNS_MODELS & set(arguments):
        return main(arguments)
    # Reading a trace multiplies no matrices; starting OpenBLAS's threads is half of what importing numpy takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # The process is short, and what it makes by the million (events, numbers, texts) is in no cycles.
    gc.disable()
    code = main(arguments)
    _leave(code)
    return code


def _nowhere() -> TextIO:
    """Takes what is printed where the standard output or error was closed (`>&-`), and keeps its number from files."""
    return Path(os.devnull).open("w")


def _leave(code: int) -> None:
    """End the process without taking apart what it has in memory, which takes longer than many a command's work.

    Returns where that isn't safe: while another thread runs or somebody watches, or where what was printed can't be
    written, which Python says on its way out.
    """
    if threading.active_count() > 1 or _is_watched():
        return
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_watched() -> bool:
    """Whether a profiler, a debugger or a coverage is at work, which does its own work at the end."""
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    return any((sys.gettrace(), sys.getprofile(), *tools))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and answer in one line whatever goes wrong. Nothing of the caller's process is changed.

    Returns:
        0 done; 1 the analysis or the capture failed, or `check` found an error; 2 usage; 3 a gate was exceeded; 4 a
        file can't be read; 5 whether a gate was exceeded can't be known; 70 a fault of gemma-trace's own; 143 ended
        by SIGTERM, 129 by SIGHUP.
    """
    given, everywhere = taken_out(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets a question mark, not a traceback
    with asking(everywhere):
        return _answered(with_command(given))


def with_command(arguments: list[str]) -> list[str]:
    """The arguments; with `stages` before them where they begin with a trace instead of a command.

    >>> with_command(["trace.json.gz", "--why"])
    ['stages', 'trace.json.gz', '--why']
    """
    first = arguments[0] if arguments else "-"
    if first.startswith("-") or first in COMMANDS:
        return arguments
    is_trace = first.endswith(TRACE_SUFFIXES) or os.sep in first or Path(first).exists()
    return ["stages", *arguments] if is_trace else arguments


def _answered(given: list[str]) -> int:
    """Run a command; what goes wrong is a line on stderr, or with --debug a traceback."""
    began_s = time.perf_counter()
    try:
        with cleared_up_on_signals(), pipes_kept():
            return run(given)
    except Ended as ended:
        say(f"gemma-trace: ended by {ended.name}")
        return int(ended.code or 0)
    except Exception as error:
        if asked().debug:
            import traceback

            for line in traceback.format_exc().splitlines():
                say(line)
            return error.exit_code if isinstance(error, GemmaTraceError) else FAULT
        return _said(error)
    finally:
        if asked().verbose:
            import resource

            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            say(f"gemma-trace: {time.perf_counter() - began_s:.2f} s, {peak_mb:,.0f} MB of memory at most")


def _said(error: Exception) -> int:
    """Say what went wrong in a line; the exit code."""
    if isinstance(error, GemmaTraceError):
        say(f"gemma-trace: {error}")
        return error.exit_code
    if isinstance(error, MemoryError):
        say("gemma-trace: there is not enough memory; close other programs, or give a smaller trace")
        return 1
    if isinstance(error, OSError) and error.errno in FULL:
        say("gemma-trace: no space is left on the disk that this writes to; make room there, or write to another")
        return 1
    say(
        f"gemma-trace: this is a bug in gemma-trace: {type(error).__name__} in {_place(error)}; "
        "please report it, with what the same command prints with --debug"
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
