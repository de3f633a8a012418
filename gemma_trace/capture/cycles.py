"""How many requests the profiler records before it collects and exports them, which frees what it holds."""

from __future__ import annotations

from typing import Final

CYCLE_REQUESTS: Final = 10
"""So many requests at most are one cycle. Until it is collected torch keeps over 2 KB an event, which with stacks and
memory are 75 MB a request of the tiny model; but each cycle costs one request more, which is thrown away."""


def cycle_lengths(requests: int, longest: int) -> list[int]:
    """How many requests each cycle has: as few cycles as can be, as even as can be.

    >>> cycle_lengths(23, 10)
    [8, 8, 7]
    """
    cycles = -(-requests // longest)
    return [requests // cycles + (cycle < requests % cycles) for cycle in range(cycles)]
