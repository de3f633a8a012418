"""The seal of a cached trace: what it is of, how long it is, and a checksum of every byte behind it.

The checksum is ISA-L's CRC-32, at some 10 GB/s: reading all of an entry with it costs less than hashing the trace.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from isal import isal_zlib

KEY_BYTES: Final = 20

_MAGIC: Final = b"gemma-trace 1\n\0\0"
_SEAL: Final = struct.Struct(f"<16s{KEY_BYTES}sQI16x")
"""Magic, key, length of the content in bytes and its CRC-32. 64 bytes, so that the columns behind it are aligned."""


class Sealed:
    """A file, to whoever writes to it from its start; remembers the length and the checksum of what it was given."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.length_bytes = 0
        self.crc32 = 0

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it."""
        view = memoryview(data)
        self._out.write(view)
        self.crc32 = isal_zlib.crc32(view, self.crc32)
        self.length_bytes += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Where the next byte goes, the seal not counted."""
        return self.length_bytes

    def flush(self) -> None:
        """Nothing: the file is flushed at its end."""

    def close(self) -> None:
        """Nothing: the file isn't ours."""


@contextlib.contextmanager
def sealing(out: BinaryIO, key: bytes) -> Iterator[Sealed]:
    """Write content behind a seal, which is put on when the block ends well.

    Args:
        key: `KEY_BYTES` bytes.
    """
    out.write(bytes(_SEAL.size))
    sealed = Sealed(out)
    yield sealed
    out.seek(0)
    out.write(_SEAL.pack(_MAGIC, key, sealed.length_bytes, sealed.crc32))


def sealed_content(path: Path, key: bytes) -> memoryview | None:
    """The content at this path, mapped; None unless it is a file that was sealed for this key and is whole."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            mapped = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        finally:
            os.close(descriptor)
        magic, of, length_bytes, crc32 = _SEAL.unpack_from(mapped)
    except (OSError, ValueError, struct.error):  # ValueError: an empty file can't be mapped
        return None
    content = mapped[_SEAL.size :]
    whole = (magic, of, length_bytes) == (_MAGIC, key, len(content)) and isal_zlib.crc32(content) == crc32
    return content if whole else None
