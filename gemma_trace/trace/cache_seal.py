"""The seal of a cached trace: what its name was, how long it is, and a checksum of every byte behind it.

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

_MAGIC: Final = b"gemma-trace 1\n\0\0"
_SEAL: Final = struct.Struct("<16s20sQI16x")
"""Magic, the name's digest, length of the content in bytes and its CRC-32; 64 bytes keep columns aligned."""


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
def sealing(out: BinaryIO, name: str) -> Iterator[Sealed]:
    """Write content behind a seal, which is put on when the block ends well.

    Args:
        name: the file's, under which alone the content counts.
    """
    out.write(bytes(_SEAL.size))
    sealed = Sealed(out)
    yield sealed
    out.seek(0)
    out.write(_SEAL.pack(_MAGIC, _digest(name), sealed.length_bytes, sealed.crc32))


def sealed_content(path: Path) -> memoryview | None:
    """The content at this path, mapped; None unless it is a file that was sealed under this name and is whole."""
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
    whole = (magic, of, length_bytes) == (_MAGIC, _digest(path.name), len(content)) and isal_zlib.crc32(
        content
    ) == crc32
    return content if whole else None


def _digest(name: str) -> bytes:
    import hashlib  # OpenSSL, which a command without a cache needn't load

    return hashlib.blake2b(os.fsencode(name), digest_size=20).digest()
