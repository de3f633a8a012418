"""Processes that decode blocks of a trace, seen from the one that reads it.

They are started anew for a file, share nothing with this process but a file in memory that has no name, and end with
it, however it ends: by their input's end.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from gemma_trace.errors import InputError
from gemma_trace.trace.block_process import started
from gemma_trace.trace.block_worker import LENGTH, ORDER, READY, SLOT_BYTES, SLOTS, TEXT_BYTES, block_of
from gemma_trace.trace.collected import Block


class BlockWorker:
    """One process. What it is given it answers in order.

    Args:
        path: the trace, for messages.
        detailed: whether the details are read too.

    Raises:
        OSError, ValueError: it can't be started.
    """

    def __init__(self, path: Path, *, detailed: bool = True) -> None:
        self._path = path
        self._given = 0
        self._answered = 0
        self._is_ready = self._has_ended = False
        descriptor = _shared_file(SLOTS * SLOT_BYTES)
        try:
            self._shared = memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES))
            self._process = started(descriptor, detailed=detailed)
        finally:
            os.close(descriptor)
        self._orders, self._answers = self._process.orders, self._process.answers
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    @property
    def is_free(self) -> bool:
        """Whether it has started, and has room for another block."""
        if not self._is_ready and not self._has_ended and self.has_answered:
            self._is_ready = self._answers.read(len(READY)) == READY
            self._has_ended = not self._is_ready  # where it can't start, it isn't missed
        return self._is_ready and self._given - self._answered < SLOTS

    @property
    def has_answered(self) -> bool:
        """Whether an answer is here, or the process has ended."""
        return bool(self._poll.poll(0))

    def give(self, array: memoryview) -> None:
        """Have a block decoded, of `TEXT_BYTES` at most.

        Raises:
            InputError: the process has ended.
        """
        slot = self._given % SLOTS
        self._shared[slot * SLOT_BYTES : slot * SLOT_BYTES + len(array)] = array
        try:
            self._orders.write(ORDER.pack(slot, len(array)))
        except OSError:
            raise self._ended() from None
        self._given += 1

    def take(self) -> Block | None:
        """The block that was given first of those without an answer, once it has been decoded.

        Returns:
            Its columns are overwritten by the block after the next; None where it has to be decoded here.

        Raises:
            InputError: the process has ended.
        """
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        answer = self._read(length)
        slot = self._answered % SLOTS
        self._answered += 1
        return block_of(answer, self._shared[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]) if answer else None

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        for pipe in (self._orders, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._answers.read(size - len(data))
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _ended(self) -> InputError:
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        return InputError(
            f"{self._path} was not read: a process that decoded part of it {how}, perhaps because memory ran out; "
            "set GEMMA_TRACE_JOBS to 1 to read it in one process"
        )


@contextlib.contextmanager
def block_workers(path: Path, count: int, *, detailed: bool = True) -> Iterator[list[BlockWorker]]:
    """So many processes, or as many as can be started; they have ended when the block has."""
    workers: list[BlockWorker] = []
    try:
        with contextlib.suppress(OSError, ValueError):
            for _ in range(count):
                workers.append(BlockWorker(path, detailed=detailed))
        yield workers
    finally:
        for worker in workers:
            worker.close()


def fits(array: memoryview) -> bool:
    """Whether a block isn't too long for a process."""
    return len(array) <= TEXT_BYTES


def _shared_file(size: int) -> int:
    """The descriptor of a file without a name that two processes can map; in memory, where the system has such."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("gemma-trace")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
