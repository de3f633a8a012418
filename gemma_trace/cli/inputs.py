"""Reading traces for a command: with progress, and through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.progress import reading
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.trace import Trace

TraceArgument = Annotated[
    Path,
    typer.Argument(help="A trace file, or a folder that holds one; also as a URL.", metavar="TRACE", parser=path_of),
]


def open_trace(path: Path, rules: Sequence[StageRule] = (), *, cached: bool = True, detailed: bool = True) -> Trace:
    """Read a trace, with progress on a terminal where it takes more than a moment.

    Args:
        cached: keep a large trace's columns for the next time, and find them again.
        detailed: see `load`; without, for commands that ask for no details.

    Raises:
        InputError: as `load` does.
    """
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    cache = TraceCache() if cached else None
    with reading(f"reading {path.name}", path) as on_bytes:
        return load(path, rules, on_bytes, cache, detailed=detailed)
