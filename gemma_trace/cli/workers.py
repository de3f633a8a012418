"""One process per core where there are many files to read."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

R = TypeVar("R")

WORTHWHILE_BYTES: Final = 8 * 1024 * 1024
"""Below this much to read, starting processes costs more than it saves (some 0.3 s against 10 MB/s of gzip a core)."""


def map_files(work: Callable[[Path], R], files: Sequence[Path]) -> list[R]:
    """`work` on each file, in order of the files; in processes where that is faster, with progress on a terminal.

    Args:
        work: a module's function, whose result can be pickled.
    """
    cores = min(len(files), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    total = sum(file.stat().st_size for file in files)
    if cores < 2 or total < WORTHWHILE_BYTES or not all(map(Path.is_file, files)):  # a pipe is this process's alone
        return [work(file) for file in files]
    from rich.console import Console
    from rich.progress import track

    # The largest first, so that no core is left with it alone at the end.
    order = sorted(range(len(files)), key=lambda index: -files[index].stat().st_size)
    results: dict[int, R] = {}
    with ProcessPoolExecutor(cores) as pool:
        done = pool.map(work, [files[index] for index in order])
        console = Console(stderr=True)
        shown = track(
            done, "reading traces", len(files), console=console, disable=not console.is_terminal, transient=True
        )
        for index, result in zip(order, shown, strict=True):
            results[index] = result
    return [results[index] for index in range(len(files))]
