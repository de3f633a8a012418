"""The replay of a graph: when each point comes, if the work between the points takes what it is said to take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.whatif.graph import Graph

_NEVER: Final = -(2**61)
"""Long before every request."""


@dataclass(frozen=True)
class Replayed:
    """What a request takes.

    Attributes:
        wall_ns: from its start to its end.
        ttft_ns: to its first token, less `image_load`; None where it has none.
    """

    wall_ns: int
    ttft_ns: int | None


class Replay:
    """Replays one graph as often as it is asked to; one pass over its edges each time, in exact integers."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        rank = np.full(len(graph.work_ns) + 1, 0, dtype=np.int64)
        rank[graph.order] = np.arange(1, len(graph.order) + 1)
        self._rank = rank
        edges = graph.edges
        self._source = np.where(edges.source >= 0, rank[edges.source], 0)
        self._target = rank[edges.target]
        self._are_waits = edges.are_waits(graph.is_device)
        self._sources, self._targets = self._source.tolist(), self._target.tolist()

    @cached_property
    def as_measured(self) -> Replayed:
        """What the request took."""
        return self.run(self.graph.work_ns)

    def run(self, work_ns: IntArray, removed: BoolArray | None = None) -> Replayed:
        """What the request would take.

        Args:
            work_ns: int64 [b], the work of each piece.
            removed: bool [b], what isn't there at all; the delays that lead to removed activities aren't either, nor do
                removed calls wait.
        """
        return self._read_off(self._times(work_ns, removed))

    def critical(self) -> BoolArray:
        """bool [b], which pieces lie on the chain of edges that the end of the request hangs on, as it was measured.

        The first piece of an activity is among them if the delay before it is, however short the activity is.
        """
        graph, edges = self.graph, self.graph.edges
        before = np.append(0, np.cumsum(graph.work_ns))
        weight = before[edges.last] - before[edges.first] + edges.delay_ns
        at = np.append(0, graph.cuts.at_ns[graph.order])
        tight = np.flatnonzero(at[self._source] + weight == at[self._target])
        by = np.full(len(at), NONE, dtype=np.int64)
        by[self._target[tight]] = tight
        ends = self._rank[graph.probes.ends]
        now = int(ends[np.argmax(at[ends])])
        chain = []
        while now:
            edge = int(by[now])
            chain.append(edge)
            now = self._sources[edge]
        change = np.zeros(len(graph.work_ns) + 1, dtype=np.int64)
        np.add.at(change, edges.first[chain], 1)
        np.add.at(change, edges.last[chain], -1)
        is_critical: BoolArray = np.cumsum(change)[:-1] > 0
        owner = edges.owner[chain]
        is_critical[owner[owner >= 0]] = True
        return is_critical

    def _times(self, work_ns: IntArray, removed: BoolArray | None) -> list[int]:
        """By the place of a point in the order, after the request's start, when it comes."""
        edges = self.graph.edges
        before = np.append(0, np.cumsum(work_ns))
        weight = before[edges.last] - before[edges.first] + edges.delay_ns
        if removed is not None:
            gone = (edges.owner >= 0) & removed[edges.owner]
            weight = np.where(gone, np.where(self._are_waits, _NEVER, weight - edges.delay_ns), weight)
        times = [0] + [_NEVER] * len(self.graph.order)
        for source, target, length in zip(self._sources, self._targets, weight.tolist(), strict=True):
            reached = times[source] + length
            if reached > times[target]:
                times[target] = reached
        return times

    def _read_off(self, times: list[int]) -> Replayed:
        probes, rank = self.graph.probes, self._rank
        wall = max(times[place] for place in rank[probes.ends].tolist()) + probes.tail_ns
        if probes.first_token is None:
            return Replayed(wall, None)
        point, delay = probes.first_token
        loads = sum(times[last] - times[first] for first, last in rank[probes.loads].tolist())
        return Replayed(wall, times[int(rank[point])] + delay - loads - probes.other_loads_ns)
