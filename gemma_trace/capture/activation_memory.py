"""Keeps the profiler's events from tearing the heap to pieces, where memory is too short to let them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from gemma_trace.trace.budget import host_free_bytes, resident_bytes

LARGE_BYTES: Final = 4 * 2**20
"""Where large blocks are kept apart, a block of this size or more is mapped by itself, not carved out of the heap."""

APART_WARNING: Final = (
    "memory was short under the profiler, so large tensors were mapped one by one: stages that make large tensors, "
    "image processing above all, take longer in the profiled pass; the timed pass is unaffected"
)
"""What a capture says of itself if large blocks were kept apart."""

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
_GROWN_BYTES: Final = 32 * 2**20
"""What glibc's own threshold has grown to once a block of that size was freed, as every model of some size does."""


class ProfiledHeap:
    """Watches the heap grow under the profiler, and keeps large blocks out of it once the memory would run out.

    With shapes the profiler keeps a small record of every op. These settle in the places that freed activations
    leave, which then are too small for the next ones: the heap grows by most of what a request computes, over 2 GB per
    request of Gemma 3 4b. Activations that are mapped by themselves leave no such places, but each costs its page
    faults at every request: processing an image of 8.75 megapixels took 2.6 times as long. So they are mapped by
    themselves only if the growth so far, repeated by the requests to come, would take over half of the free memory,
    or if less is free than half of what the process holds already.

    Attributes:
        apart: whether large blocks are kept out of the heap.
    """

    def __init__(self) -> None:
        self.apart = False
        self._resident_bytes = resident_bytes()
        self._keep_apart_if(self._resident_bytes // 2 > host_free_bytes())

    def begin_cycle(self) -> None:
        """Look at the heap as it is, after what the profiler has collected and freed: that is no request's growth."""
        self._resident_bytes = resident_bytes()

    def after_request(self, still_to_come: int) -> None:
        """Look how far the heap has grown since the last look.

        Args:
            still_to_come: how many requests will be profiled yet before the profiler frees its records.
        """
        resident = resident_bytes()
        grown = resident - self._resident_bytes
        self._resident_bytes = resident
        self._keep_apart_if(grown * still_to_come > host_free_bytes() // 2)
        if self.apart:
            _give_back()

    def _keep_apart_if(self, short: bool) -> None:
        self.apart = self.apart or (short and _set_threshold(LARGE_BYTES))


@contextmanager
def profiled_heap() -> Iterator[ProfiledHeap]:
    """The heap while requests are profiled; afterwards glibc's threshold is as it was. Elsewhere nothing changes."""
    heap = ProfiledHeap()
    try:
        yield heap
    finally:
        if heap.apart:
            _set_threshold(_GROWN_BYTES)


def _give_back() -> None:
    """Hand what the heap holds in vain back to the system; for between two requests, since the next one misses it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(size: int) -> bool:
    """Whether the C library has such a threshold, which is now `size` bytes."""
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, size))
    except (AttributeError, OSError, TypeError):  # another C library; TypeError is Windows's
        return False
