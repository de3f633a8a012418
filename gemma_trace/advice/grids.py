"""How the blocks of kernels fill a device."""

from __future__ import annotations

import re
from math import prod
from typing import Final

import numpy as np

from gemma_trace.advice.rule import Lacking
from gemma_trace.foreign import numbers_of
from gemma_trace.trace.events import BoolArray, Codes, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

MOST_BLOCKS: Final = 1 << 40
"""No grid is taken to have more blocks, nor threads."""

_IN_THREADS: Final = re.compile(r"hip(Ext|Hcc)ModuleLaunchKernel")
"""Calls that take their grid in threads, by HIP's documentation; all others take it in blocks."""


def blocks_of(trace: Trace) -> IntArray:
    """int64 [n], how many blocks each kernel was launched with; 0 where that isn't known."""
    spans = trace.spans
    grid = _volumes(trace, spans.grid)
    in_threads = np.array([_IN_THREADS.fullmatch(name) is not None for name in spans.names], dtype=bool)
    linked = trace.launch >= 0
    of_threads = np.zeros(len(spans), dtype=bool)
    of_threads[trace.activities[linked]] = in_threads[spans.name[trace.launch[linked]]]
    if not of_threads.any():
        return grid
    block = _volumes(trace, spans.block)
    blocks: IntArray = np.where(of_threads, np.where(block > 0, -(-grid // np.maximum(block, 1)), 0), grid)
    return blocks


def _volumes(trace: Trace, column: Codes) -> IntArray:
    """int64 [n], the product of three dimensions; 0 where they aren't known.

    Args:
        column: codes of their texts.
    """
    by_code = np.zeros(len(trace.spans.texts) + 1, dtype=np.int64)  # the last is for no text
    for code in distinct(column[column >= 0]).tolist():
        sides = numbers_of(trace.spans.texts[code])
        volume = prod(sides) if len(sides) == 3 and min(sides) > 0 else 0
        by_code[code] = volume if volume <= MOST_BLOCKS else 0
    volumes: IntArray = by_code[column]
    return volumes


def multiprocessors_of(trace: Trace) -> IntArray:
    """int64 [n], how many multiprocessors the device of each activity has; 0 where that isn't known."""
    device = trace.spans.device
    counts = np.zeros(len(device), dtype=np.int64)
    for index, count in trace.multiprocessors.items():
        counts[device == index] = count
    return counts


def what_grids_lack(trace: Trace, kernels: BoolArray) -> Lacking | None:
    """Why nothing can be said of how these kernels fill their device; None where it can."""
    if not (blocks_of(trace)[kernels] > 0).any():
        return Lacking("the grids of kernels aren't recorded", "the device's activities as torch.profiler writes them")
    if not (multiprocessors_of(trace)[kernels] > 0).any():
        return Lacking(
            "the trace does not say how many multiprocessors the device has",
            "the whole trace, with its deviceProperties, as torch.profiler writes it",
        )
    return None
