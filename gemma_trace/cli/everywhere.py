"""The options that every command has, before or after its name: `--no-color`, `--quiet`, `--verbose`, `--debug`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Final

from gemma_trace.wording import speaking_of_options

HELP: Final = (
    "Every command also accepts --quiet (-q), --verbose (-v), --no-color and --debug, before or after its name."
)
_FLAGS: Final = {
    "--no-color": "no_color",
    "--quiet": "quiet",
    "-q": "quiet",
    "--verbose": "verbose",
    "-v": "verbose",
    "--debug": "debug",
}


@dataclass(frozen=True)
class Everywhere:
    """What was asked of the whole command line.

    Attributes:
        no_color: no colours; so does NO_COLOR=1.
        quiet: no progress and no remarks on stderr; errors and results alone.
        verbose: how long the command took, and how much memory.
        debug: an error's traceback instead of its line.
    """

    no_color: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


_asked: ContextVar[Everywhere] = ContextVar("_asked", default=Everywhere())  # noqa: B039 - it is frozen


def asked() -> Everywhere:
    """What was asked of this run of the command line."""
    return _asked.get()


def taken_out(arguments: Sequence[str]) -> tuple[list[str], Everywhere]:
    """Arguments without these options, wherever they stand before a `--`; and the options."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    flags = {_FLAGS[argument] for argument in arguments[:end] if argument in _FLAGS}
    rest = [argument for argument in arguments[:end] if argument not in _FLAGS] + list(arguments[end:])
    return rest, Everywhere(**{field.name: field.name in flags for field in fields(Everywhere)})


@contextmanager
def asking(everywhere: Everywhere) -> Iterator[None]:
    """Make it so while the block runs."""
    token = _asked.set(everywhere)
    before = os.environ.get("NO_COLOR")
    if everywhere.no_color:
        os.environ["NO_COLOR"] = "1"
    try:
        with speaking_of_options():
            yield
    finally:
        _asked.reset(token)
        if everywhere.no_color and before is None:
            del os.environ["NO_COLOR"]
