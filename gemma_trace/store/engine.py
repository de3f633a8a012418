"""Index many files: here, with a process a core. What comes back of each is an `Outcome` and no more."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Final

from gemma_trace.parallel import WORTHWHILE_BYTES
from gemma_trace.store.indexing import IndexJob, Outcome, Status, index_file
from gemma_trace.trace.jobs import jobs_of

_AHEAD: Final = 2
"""So many files a process are handed out: one is worked on, the next is at hand."""

_GARBAGE_BYTES: Final = 4 << 20
"""After so much of files is read, what is in cycles goes. To look for it takes longer than to read a small trace."""

_LEAST_BYTES: Final = 64 << 10
"""What a file counts at least: some time goes into one of any size."""

_job: IndexJob
"""What the files of this process are for: a worker gets it once, not with each file."""

_garbage_bytes = 0
"""What this process has read since it looked for garbage."""


def outcomes(job: IndexJob, paths: Sequence[Path], jobs: int | None = None) -> Iterator[Outcome]:
    """Add files to a store; gives what became of each as soon as that is known, in any order.

    Args:
        jobs: how many processes; None as GEMMA_TRACE_JOBS says, else one a core.

    Raises:
        OutputError: the store can't be written.
        ConfigError: GEMMA_TRACE_JOBS is no number of processes.
    """
    processes = min(len(paths), jobs_of(jobs))
    # A pipe is this process's alone, and what isn't there has no size.
    sizes = [path.stat().st_size if path.is_file() else None for path in paths] if processes > 1 else []
    known = [size for size in sizes if size is not None]
    work_bytes = sum(max(size, _LEAST_BYTES) for size in known)
    if processes < 2 or len(known) < len(sizes) or work_bytes < WORTHWHILE_BYTES:
        for path in paths:
            yield _tidily(replace(job, jobs=jobs), path)
        return
    # The largest first, so that no core is left with it alone at the end.
    order = sorted(range(len(paths)), key=lambda place: -known[place])
    yield from _in_processes(job, deque(paths[place] for place in order), processes)


def _in_processes(job: IndexJob, waiting: deque[Path], processes: int) -> Iterator[Outcome]:
    """A pool after the other: one whose process was killed takes no more work."""
    while waiting:
        running: dict[Future[Outcome], Path] = {}
        pool = ProcessPoolExecutor(processes, initializer=_begin, initargs=(job,))
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * processes:
                    path = waiting.popleft()
                    running[_submitted(pool, path, waiting)] = path
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del running[future]
                    yield outcome
        except BrokenProcessPool:
            suspects = list(running.values())
        else:
            suspects = []
        finally:
            pool.shutdown(cancel_futures=True)
        for path in suspects:
            yield _alone(job, path)


def _submitted(pool: ProcessPoolExecutor, path: Path, waiting: deque[Path]) -> Future[Outcome]:
    try:
        return pool.submit(_index, path)
    except BrokenProcessPool:
        waiting.appendleft(path)
        raise


def _alone(job: IndexJob, path: Path) -> Outcome:
    """One of the files that were being read when a process was killed, by itself: so it is known whose fault it is."""
    with ProcessPoolExecutor(1, initializer=_begin, initargs=(job,)) as pool:
        try:
            return pool.submit(_index, path).result()
        except BrokenProcessPool:
            message = f"the process that read {path} was killed, perhaps because memory ran out; index it by itself"
            return Outcome(path, Status.FAILED, message=message)


def _begin(job: IndexJob) -> None:
    """A worker begins. Ctrl-C is its parent's affair, and it doesn't outlive its parent."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _index(path: Path) -> Outcome:
    return _tidily(_job, path)


def _tidily(job: IndexJob, path: Path) -> Outcome:
    """Index one of many files; what is in cycles goes now and then, whatever the collector is set to."""
    global _garbage_bytes
    outcome = index_file(job, path)
    _garbage_bytes += max(outcome.file_bytes, _LEAST_BYTES)
    if _garbage_bytes >= _GARBAGE_BYTES:
        gc.collect()
        _garbage_bytes = 0
    return outcome
