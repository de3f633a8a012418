"""Where the time of a load goes, part by part: the functions that do the parts are timed from outside.

python -m tests.benchmarks.jobs profile gemma-trace TRACE --jobs 1
"""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

INFLATE: Final = "inflate"
CUT: Final = "cut"
DECODE: Final = "msgspec"
COLUMNS: Final = "columns"
MERGE: Final = "merge blocks"
WAIT: Final = "wait for a worker"
SORT: Final = "sort"
REST: Final = "rest"
PARTS: Final = (INFLATE, CUT, DECODE, COLUMNS, MERGE, WAIT, SORT, REST)
"""In the order of the page. With workers `msgspec` and `columns` are those of the process that reads, for its share."""


class _Clock:
    """Sums up times by part; what one part takes within another is its own alone."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._within = [REST]
        self._since = time.perf_counter()

    def enter(self, part: str) -> None:
        self._turn()
        self._within.append(part)

    def leave(self) -> None:
        self._turn()
        self._within.pop()

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._within[-1]] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*given: Any, **more: Any) -> Any:
            self.enter(part)
            try:
                return function(*given, **more)
            finally:
                self.leave()

        return run

    def timed_steps(self, part: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """The same of a generator: each of its steps."""

        def run(*given: Any, **more: Any) -> Iterator[Any]:
            steps = function(*given, **more)
            step = self.timed(part, lambda: next(steps, None))
            while (value := step()) is not None:
                yield value

        return run


def profiled_load(path: Path, jobs: int) -> dict[str, float]:
    """Seconds of each of `PARTS` of a load; they add up to the whole. Leaves the reader's functions wrapped."""
    from gemma_trace.trace import ahead, block_workers, collected, cuts, sink

    reader: Any = importlib.import_module("gemma_trace.trace.reader")
    clock = _Clock()
    reader.read_chunks = clock.timed_steps(INFLATE, reader.read_chunks)
    reader.cuts_of = cuts.cuts_of = clock.timed(CUT, cuts.cuts_of)
    reader.array_of = ahead.array_of = clock.timed(CUT, ahead.array_of)
    for name in ("decode_tagged", "decode_fast", "decode_exact", "decode_loose"):
        setattr(sink, name, clock.timed(DECODE, getattr(sink, name)))
    sink.ColumnSink.decode = clock.timed(COLUMNS, sink.ColumnSink.decode)  # type: ignore[method-assign]
    collected.Collected.absorb = clock.timed(MERGE, collected.Collected.absorb)  # type: ignore[method-assign]
    collected.Collected.build = clock.timed(SORT, collected.Collected.build)  # type: ignore[method-assign]
    for name in ("give", "take"):
        setattr(block_workers.BlockWorker, name, clock.timed(WAIT, getattr(block_workers.BlockWorker, name)))
    clock.timed(REST, reader.read_trace)(path, jobs=jobs)
    return clock.seconds
