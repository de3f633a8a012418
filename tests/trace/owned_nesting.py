"""Nesting with what is left of each span when its children are taken off: what its segments have to add up to."""

from __future__ import annotations

from dataclasses import dataclass

from gemma_trace.trace import tree
from gemma_trace.trace.events import Codes, IntArray
from gemma_trace.trace.tree import Nesting, Ranks


@dataclass(frozen=True)
class OwnedNesting(Nesting):
    """`Nesting`, and int64 [n], the clipped length of each span less that of its children."""

    self_ns: IntArray


def self_ns(ts_ns: IntArray, nesting: Nesting) -> IntArray:
    """int64 [n], by the definition."""
    length = nesting.end_ns - ts_ns
    left = length.copy()
    for child, parent in enumerate(nesting.parent.tolist()):
        if parent >= 0:
            left[parent] -= length[child]
    return left


def nest(ts_ns: IntArray, end_ns: IntArray, track: Codes, rank: Ranks | None = None) -> OwnedNesting:
    """`tree.nest`, with self times."""
    found = tree.nest(ts_ns, end_ns, track, rank)
    return OwnedNesting(found.parent, found.depth, found.end_ns, found.clipped, self_ns(ts_ns, found))
