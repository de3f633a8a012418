"""What a query may take: time and memory. DuckDB keeps to them for the most part; a thread sees to the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gemma_trace.errors import ConfigError
from gemma_trace.trace.budget import resident_bytes

if TYPE_CHECKING:
    import duckdb

MOST_S: Final = 10**6
"""The longest time that a query may be given, in seconds."""

MOST_BYTES: Final = 10**18
"""The most memory that a query may be given; DuckDB understands no number that is much larger."""

_POLL_S: Final = 0.05
_GRACE_S: Final = 2.0
"""So long a query may take to end when it is told to. Single functions on huge values don't listen."""

_MEMORY_GRACE_S: Final = 0.2
"""The same where memory is filling."""


@dataclass(frozen=True)
class Limits:
    """What a query may take.

    Attributes:
        timeout_s: seconds.
        memory_bytes: of the query and its result, beside the trace.

    Raises:
        ConfigError: one of them is no number above 0.
    """

    timeout_s: float = 60.0
    memory_bytes: float = 2_000_000_000

    def __post_init__(self) -> None:
        if not (_is_number(self.timeout_s) and 0 < self.timeout_s <= MOST_S):
            raise ConfigError(f"--timeout is {self.timeout_s!r}; it requires a number of seconds above 0")
        if not (_is_number(self.memory_bytes) and 0 < self.memory_bytes <= MOST_BYTES):
            raise ConfigError(f"--memory-limit is {self.memory_bytes!r}; it requires a number of bytes above 0")

    @property
    def time_text(self) -> str:
        """What is said where the time is over."""
        return f"the query took longer than {self.timeout_s:g} s; ask for less, or give --timeout SECONDS"

    @property
    def memory_text(self) -> str:
        """What is said where the memory is."""
        size = f"{self.memory_bytes / 1e9:g} GB" if self.memory_bytes >= 10**9 else f"{self.memory_bytes / 1e6:g} MB"
        return f"the query needs more than {size} of memory; ask for less, or give --memory-limit"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


class Watch:
    """Watches a query from another thread.

    Attributes:
        reason: why the query was interrupted; "" where it wasn't.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, limits: Limits, give_up: Callable[[str], None]) -> None:
        self.reason = ""
        self._connection, self._limits, self._give_up = connection, limits, give_up
        self._over = threading.Event()

    def run(self) -> None:
        """Until the query is over, or was told to end and doesn't."""
        began_s, before_bytes = time.monotonic(), resident_bytes()
        told_s = 0.0
        while not self._over.wait(_POLL_S):
            now_s = time.monotonic()
            if not self.reason:
                self.reason = self._exceeded(now_s - began_s, resident_bytes() - before_bytes)
                told_s = now_s
            if self.reason:
                self._connection.interrupt()  # again: it is forgotten where nothing runs at the moment
                if now_s - told_s > (_GRACE_S if self.reason == self._limits.time_text else _MEMORY_GRACE_S):
                    self._give_up(self.reason)
                    return

    def end(self) -> None:
        """The query is over."""
        self._over.set()

    def _exceeded(self, taken_s: float, grown_bytes: int) -> str:
        if taken_s > self._limits.timeout_s:
            return self._limits.time_text
        # DuckDB counts what it holds itself; what it doesn't count may be as much again before this acts.
        return self._limits.memory_text if grown_bytes > 2 * self._limits.memory_bytes else ""


@contextmanager
def watched(connection: duckdb.DuckDBPyConnection, limits: Limits, give_up: Callable[[str], None]) -> Iterator[Watch]:
    """Watch what the connection does in the block.

    Args:
        give_up: is told why, in another thread, where a query doesn't end.
    """
    watch = Watch(connection, limits, give_up)
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
