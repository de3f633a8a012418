"""Keeps the profiler's events from tearing the heap to pieces."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LARGE_BYTES: Final = 4 * 2**20
"""While the profiler runs, a block of this size or more is mapped by itself, not carved out of the heap."""

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_GROWN_BYTES: Final = 32 * 2**20
"""What glibc's own threshold has grown to once a block of that size was freed, as every model of some size does."""


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Keep large tensors out of the heap while the block runs; elsewhere than with glibc nothing changes.

    With shapes the profiler keeps a small record of every op. These settle in the places that freed activations
    leave, which then are too small for the next ones: the heap grows by most of what a request computes, over 2 GB a
    request of Gemma 3 4b. Activations that are mapped by themselves leave no such places; each costs the page faults
    that the growing heap costs too.
    """
    if not _set_threshold(LARGE_BYTES):
        yield
        return
    try:
        yield
    finally:
        _set_threshold(_GROWN_BYTES)


def give_back() -> None:
    """Hand what the heap holds in vain back to the system; for between two requests, since the next one misses it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(size: int) -> bool:
    """Whether the C library has such a threshold, which is now `size` bytes."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size))
    except (AttributeError, OSError, TypeError):  # another C library; TypeError is Windows's
        return False
