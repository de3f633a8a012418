"""Reads a trace's events with several processes, as far as that gives what one process would.

Where one process cuts a chunk it has decoded what lies before the cut, and so knows that it is one. Here the chunk is
cut at the same place and decoded meanwhile, by another process or by this one. What gives a block by itself is appended
in the file's order; where one doesn't, all that was cut behind it is forgotten, and the reader goes on from there.
"""

from __future__ import annotations

import itertools
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_trace.trace.block_process import may_fork
from gemma_trace.trace.block_worker import SLOTS
from gemma_trace.trace.block_workers import BlockWorker, fits
from gemma_trace.trace.collected import Block, Collected
from gemma_trace.trace.source import SourceState, expected_json_bytes

WORTHWHILE_BYTES: Final = 96 << 20
"""JSON below this is read faster than processes are started."""

WORTHWHILE_FORKED_BYTES: Final = 24 << 20
"""The same where this process can be forked."""

_MOST_MISSES: Final = 4
_HITS_A_MISS: Final = 8
"""So many blocks that could be decoded ahead are worth one that couldn't."""

CLOSE, COMMA = b"],"


def pays(path: Path, state: SourceState) -> bool:
    """Whether a file is so large that it is read faster by several processes. A pipe isn't: how much comes is unknown.

    Args:
        state: of the file, of which a chunk has been read.
    """
    status = path.stat()
    expected = expected_json_bytes(status.st_size, compressed=state.compressed)
    worthwhile = WORTHWHILE_FORKED_BYTES if may_fork() else WORTHWHILE_BYTES
    return stat.S_ISREG(status.st_mode) and expected >= worthwhile


@dataclass(frozen=True)
class _Flight:
    """A chunk that was cut, and isn't known yet to give a block.

    Attributes:
        pending: the array as it was read, a closing bracket in the place of the comma at which it was cut.
        cut: where that is.
        chunk: what was read of the file next.
        worker: who decodes what is before the cut.
        block: what it gave, where no worker has it.
    """

    pending: bytearray
    cut: int
    chunk: bytes
    worker: BlockWorker | None
    block: Block | None


class Ahead:
    """Cuts chunks before it is known whether their events decode.

    Args:
        workers: who decodes them, beside this process.
        collected: takes the blocks.
        cut_of: says where an array would be cut, if anywhere.
        decoded: decodes a block here.
        on_chunk: is called for each chunk that is drawn.
        earn: hears how long the events were that were read.
    """

    def __init__(
        self,
        workers: Sequence[BlockWorker],
        collected: Collected,
        cut_of: Callable[[bytearray], int | None],
        decoded: Callable[[memoryview], Block | None],
        on_chunk: Callable[[], None],
        earn: Callable[[int], None],
    ) -> None:
        self._workers, self._collected = workers, collected
        self._cut_of, self._decoded, self._on_chunk, self._earn = cut_of, decoded, on_chunk, earn
        self._flights: deque[_Flight] = deque()
        self._most = 2 * SLOTS * len(workers)
        self._misses = self._hits = 0

    def run(self, pending: bytearray, chunks: Iterator[bytes]) -> tuple[bytearray, Iterator[bytes]]:
        """Go on for as long as what is cut gives blocks.

        Args:
            pending: the array as far as it was read, with its opening bracket.
            chunks: what follows.

        Returns:
            The same, from where it didn't go on; everything before was appended.

        Raises:
            InputError: a worker has ended.
        """
        while self._misses <= _MOST_MISSES + self._hits // _HITS_A_MISS:
            chunk = next(chunks, None)
            if chunk is None:
                return self._landed(pending, chunks)
            self._on_chunk()
            cut = self._cut_of(pending)
            if cut is None:
                self._misses += 1
                return self._landed(pending, itertools.chain([chunk], chunks))
            self._flights.append(self._flight(pending, cut, chunk))
            pending = array_of(memoryview(pending)[cut + 1 :])
            pending += chunk
            while self._flights and (len(self._flights) > self._most or _has_landed(self._flights[0])):
                if not self._append():
                    return self._back(chunks)
        return pending, chunks

    def _flight(self, pending: bytearray, cut: int, chunk: bytes) -> _Flight:
        pending[cut] = CLOSE
        array = memoryview(pending)[: cut + 1]
        worker = next((each for each in self._workers if fits(array) and each.is_free), None)
        if worker:
            worker.give(array)
        return _Flight(pending, cut, chunk, worker, None if worker else self._decoded(array))

    def _landed(self, pending: bytearray, chunks: Iterator[bytes]) -> tuple[bytearray, Iterator[bytes]]:
        """Wait for all; the same as `run`."""
        while self._flights:
            if not self._append():
                return self._back(chunks)
        return pending, chunks

    def _append(self) -> bool:
        """Append what the first of the flights gave; False, and it stays the first, where it gave no block."""
        flight = self._flights[0]
        block = flight.worker.take() if flight.worker else flight.block
        if block is None:
            return False
        self._collected.absorb(block)
        self._earn(flight.cut)
        self._hits += 1
        self._flights.popleft()
        return True

    def _back(self, chunks: Iterator[bytes]) -> tuple[bytearray, Iterator[bytes]]:
        """Go back to the first of the flights, which has given no block; forget the others."""
        self._misses += 1
        first, *others = self._flights
        self._flights.clear()
        for flight in others:
            if flight.worker:
                flight.worker.take()
        first.pending[first.cut] = COMMA
        return first.pending, itertools.chain([first.chunk], [flight.chunk for flight in others], chunks)


def array_of(events: bytes | memoryview) -> bytearray:
    """An opening bracket and events, to be closed in place: a chunk is copied once, not once a step."""
    array = bytearray(b"[")
    array += events
    return array


def _has_landed(flight: _Flight) -> bool:
    return flight.worker is None or flight.worker.has_answered
