"""One process per core where there are many files to read."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from gemma_trace.errors import UnreadableError
from gemma_trace.trace.jobs import JOBS_VARIABLE, jobs_of

R = TypeVar("R")

WORTHWHILE_BYTES: Final = 8 * 1024 * 1024
"""Below this much to read, starting processes costs more than it saves (some 0.3 s against 10 MB/s of gzip a core)."""


def map_files(work: Callable[[Path], R], files: Sequence[Path]) -> list[R]:
    """`work` on each file, in order of the files; in processes where that is faster, with progress on a terminal.

    Args:
        work: a module's function, whose result can be pickled.

    Raises:
        UnreadableError: a process was killed.
        ConfigError: GEMMA_TRACE_JOBS is no number of processes.
    """
    processes = min(len(files), jobs_of(None))
    # A pipe is this process's alone, and what isn't there has no size.
    if processes < 2 or not all(file.is_file() for file in files):
        return [work(file) for file in files]
    sizes = [file.stat().st_size for file in files]
    if sum(sizes) < WORTHWHILE_BYTES:
        return [work(file) for file in files]
    from rich.console import Console
    from rich.progress import track

    # The largest first, so that no core is left with it alone at the end.
    order = sorted(range(len(files)), key=lambda index: -sizes[index])
    results: dict[int, R] = {}
    try:
        with ProcessPoolExecutor(processes) as pool:
            done = pool.map(partial(_tidily, work), [files[index] for index in order])
            console = Console(stderr=True)
            shown = track(
                done, "reading traces", len(files), console=console, disable=not console.is_terminal, transient=True
            )
            for index, result in zip(order, shown, strict=True):
                results[index] = result
    except BrokenProcessPool:
        raise UnreadableError(
            "a process that read traces was killed, perhaps because memory ran out; close other programs, or set "
            f"{JOBS_VARIABLE}=1 to read one trace at a time"
        ) from None
    return [results[index] for index in range(len(files))]


def _tidily(work: Callable[[Path], R], file: Path) -> R:
    """`work` on one of many files: what is in cycles goes before the next, whatever the collector is set to."""
    result = work(file)
    gc.collect()
    return result
