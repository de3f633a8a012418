"""How the blocks of kernels fill a device."""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np

from gemma_trace.advice.rule import Lacking
from gemma_trace.foreign import numbers_of
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.trace import Trace

MOST_BLOCKS: Final = 1 << 40
"""No grid is taken to have more."""


def blocks_of(trace: Trace) -> IntArray:
    """int64 [n], how many blocks each kernel was launched with; 0 where its grid isn't known."""
    spans = trace.spans
    used = np.unique(spans.grid[spans.grid >= 0])
    by_code = np.zeros(len(spans.texts) + 1, dtype=np.int64)  # the last is for no grid
    for code in used.tolist():
        sides = numbers_of(spans.texts[code])
        blocks = prod(sides) if len(sides) == 3 and min(sides) > 0 else 0
        by_code[code] = blocks if blocks <= MOST_BLOCKS else 0
    found: IntArray = by_code[spans.grid]
    return found


def multiprocessors_of(trace: Trace) -> IntArray:
    """int64 [n], how many multiprocessors the device of each activity has; 0 where that isn't known."""
    device = trace.spans.device
    found = np.zeros(len(device), dtype=np.int64)
    for index, count in trace.multiprocessors.items():
        found[device == index] = count
    return found


def what_grids_lack(trace: Trace, kernels: BoolArray) -> Lacking | None:
    """Why nothing can be said of how these kernels fill their device; None where it can."""
    if not (blocks_of(trace)[kernels] > 0).any():
        return Lacking("the grids of kernels aren't recorded", "the device's activities as torch.profiler writes them")
    if not (multiprocessors_of(trace)[kernels] > 0).any():
        return Lacking(
            "how many multiprocessors the device has isn't said",
            "the trace whole, with its deviceProperties, as torch.profiler writes it",
        )
    return None
