"""Gzip on every core: one member, whose blocks are compressed apart from each other.

Each block is deflated by itself and ends at a byte, so that blocks may follow one another in one stream, which every
reader of gzip reads. Where the blocks are cut does not depend on how many cores there are, and so neither does a byte.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from isal import isal_zlib

from gemma_trace.errors import ConfigError
from gemma_trace.trace.jobs import jobs_of

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

BLOCK_BYTES: Final = 1 << 20

_LEVEL: Final = 2
_RAW_DEFLATE: Final = -15  # zlib.h: 15 bits of window, without a header
_HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # RFC 1952: no name, no time, no system
_TRAILER: Final = struct.Struct("<II")


class GzipBlocks(io.BufferedIOBase):
    """Compresses what is written to it into a file, which it leaves open. The same text gives the same bytes.

    Args:
        write: takes the compressed bytes.
        jobs: how many threads may compress; None as for reading a trace. There are none before the second block.
    """

    def __init__(self, write: Callable[[bytes], object], jobs: int | None = None) -> None:
        self._write_out, self._jobs = write, jobs
        self._pending = bytearray()
        self._crc32 = self._size_bytes = 0
        self._pool: ThreadPoolExecutor | None = None
        self._blocks: deque[Future[bytes]] = deque()
        write(_HEADER)

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any, /) -> int:
        """Append bytes.

        Raises:
            OSError: the file can't be written.
        """
        given = memoryview(data).cast("B")
        self._crc32 = isal_zlib.crc32(given, self._crc32)
        self._size_bytes += len(given)
        for begin in range(0, len(given), BLOCK_BYTES):
            self._pending += given[begin : begin + BLOCK_BYTES]
            if len(self._pending) > BLOCK_BYTES:
                self._compress(bytes(self._pending[:BLOCK_BYTES]))
                del self._pending[:BLOCK_BYTES]
        return len(given)

    def finish(self) -> None:
        """Write what is left, and the end of the stream.

        Raises:
            OSError: the file can't be written.
        """
        while self._blocks:
            self._write_out(self._blocks.popleft().result())
        self._write_out(_deflated(bytes(self._pending), isal_zlib.Z_FINISH))
        self._write_out(_TRAILER.pack(self._crc32, self._size_bytes & 0xFFFFFFFF))
        self._pending.clear()

    def close(self) -> None:
        """End the threads; what is not finished is no gzip."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
        super().close()

    def _compress(self, block: bytes) -> None:
        if self._jobs is None:
            self._jobs = 1
            with contextlib.suppress(ConfigError):  # whoever reads traces says so; what was captured is not lost for it
                self._jobs = jobs_of(None)
        if self._jobs < 2:
            self._write_out(_deflated(block))
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._jobs, "gzip")
        self._blocks.append(self._pool.submit(_deflated, block))
        while len(self._blocks) > self._jobs or (self._blocks and self._blocks[0].done()):
            self._write_out(self._blocks.popleft().result())


def _deflated(block: bytes, flush: int = isal_zlib.Z_SYNC_FLUSH) -> bytes:
    """A block by itself, without what was in those before; up to a byte's end if it isn't the last."""
    deflater = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)
    return deflater.compress(block) + deflater.flush(flush)
