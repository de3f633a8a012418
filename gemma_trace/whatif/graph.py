"""The dependency graph of a request: what had to be over before what could begin.

A point is an instant of a thread or of a device activity. An edge says that its target can't come before its source by
less than its weight: the work between them (pieces of a thread or of an activity, which a change may shorten) and a
delay. The edges are those that the critical path walks (`analysis/dependencies.py`):

* a thread goes through its own time in order; where it waits for the device it has nothing to do until then;
* an activity comes after the one before it on its stream, after the start of its launch, and after the activity of
  another stream that it seems to have waited for;
* a call that waits comes after its activity, one that waits for a whole device after the last of each stream; so does
  the request's end, whether the call is there or not;
* an outermost span of another thread begins when the request's thread had got as far as it had.

What the graph can't explain (a launch that takes its time to arrive, the gap between two activities) is a fixed delay
on the edge that bound the point. So the graph, replayed as it is, gives the measured times to the nanosecond. What a
thread waits for on other threads isn't recorded; it counts as work of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.requests import Request
from gemma_trace.whatif.cuts import Boundaries


@dataclass(frozen=True)
class Edges:
    """All columns have the length e.

    Attributes:
        source, target: int64, boundaries; `NONE` as a source is the request's start.
        first, last: int64, boundaries of one line: the work on the edge lies between them.
        delay_ns: int64.
        owner: int64, of a delay that leads to an activity the boundary at which that begins; of a wait the one at which
            its call begins, without which it isn't there; `NONE` of all else.
    """

    source: IntArray
    target: IntArray
    first: IntArray
    last: IntArray
    delay_ns: IntArray
    owner: IntArray

    def __len__(self) -> int:
        return len(self.source)

    def are_waits(self, is_device: BoolArray) -> BoolArray:
        """bool [e], which edges lead from an activity to a thread that waits for it.

        Args:
            is_device: bool [b], which boundaries are of activities.
        """
        is_wait: BoolArray = (self.owner >= 0) & ~is_device[self.owner]
        return is_wait

    def taken(self, chosen: IntArray | BoolArray) -> Edges:
        """Some of them."""
        return Edges(*(getattr(self, field.name)[chosen] for field in fields(self)))


@dataclass(frozen=True)
class Probes:
    """Where a replay is read off: points as boundaries.

    Attributes:
        ends: int64, the request is over when all of these are.
        tail_ns: how much longer other threads go on in a whole trace; that stays as it is.
        first_token: the point of the first token, and what it comes after that; None where it isn't known.
        loads: int64 [k, 2], from where to where images are loaded before that.
        other_loads_ns: how long images are loaded on other threads.
    """

    ends: IntArray
    tail_ns: int
    first_token: tuple[int, int] | None
    loads: IntArray
    other_loads_ns: int


@dataclass(frozen=True)
class Graph:
    """A request's graph.

    Attributes:
        cuts: its lines; the first `len(tracks)` are threads, the others activities.
        work_ns: int64 [b], what of each boundary's piece is work; 0 where a thread waits.
        span: int64 [b], of each piece the activity, or the innermost span of the thread; `NONE` where that is in none.
        order: int64 [p], the boundaries that are points, so that no edge leads back.
        edges: by target, in that order.
        tracks: the threads, the request's own first.
        activities: int64, of each further line the place of its activity.
    """

    request: Request
    cuts: Boundaries
    work_ns: IntArray
    span: IntArray
    order: IntArray
    edges: Edges
    probes: Probes
    tracks: tuple[int, ...]
    activities: IntArray

    @property
    def is_device(self) -> BoolArray:
        """bool [b], which pieces are of activities."""
        is_on_device: BoolArray = self.cuts.line >= len(self.tracks)
        return is_on_device


def put_in_order(cuts: Boundaries, threads: int, edges: Edges, work_ns: IntArray) -> tuple[IntArray, Edges]:
    """The points in an order in which no edge leads back, and the edges by target, made to give the measured times.

    An edge that the times contradict is left out. Where none of a point's edges explains its time, the one that leads
    to the latest has the rest as a delay; a point that has no edge begins when it did.
    """
    points = np.flatnonzero(cuts.is_point)
    line, at = cuts.line[points], cuts.at_ns[points]
    ends = (line >= threads) & np.append(False, np.diff(line) == 0)  # an activity of no length has one point: its start
    kind = np.where(line < threads, 1, np.where(ends, 0, 2))
    order = points[np.lexsort((line, kind, at))]
    rank = np.full(len(cuts.line) + 1, NONE, dtype=np.int64)  # the last is for the request's start
    rank[order] = np.arange(len(order))
    reached = _reached(cuts, edges, work_ns)
    edges = edges.taken((rank[edges.source] < rank[edges.target]) & (reached <= cuts.at_ns[edges.target]))
    without = np.ones(len(cuts.line), dtype=bool)
    without[edges.target] = False
    starts = order[without[order]]
    nothing = np.full(len(starts), NONE, dtype=np.int64)
    added = Edges(nothing, starts, starts, starts, cuts.at_ns[starts], nothing)
    edges = Edges(*(np.concatenate(pair) for pair in zip(_columns(edges), _columns(added), strict=True)))
    edges = edges.taken(np.argsort(rank[edges.target], kind="stable"))
    return order, _explained(cuts, edges, work_ns)


def _explained(cuts: Boundaries, edges: Edges, work_ns: IntArray) -> Edges:
    """The edges, of each target the latest with a delay that makes it exact."""
    reached = _reached(cuts, edges, work_ns)
    latest = np.full(len(cuts.line), np.iinfo(np.int64).min)
    np.maximum.at(latest, edges.target, reached)
    binding = np.flatnonzero(reached == latest[edges.target])
    target, place = np.unique(edges.target[binding], return_index=True)
    delay = edges.delay_ns.copy()
    delay[binding[place]] += cuts.at_ns[target] - latest[target]
    return replace(edges, delay_ns=delay)


def _reached(cuts: Boundaries, edges: Edges, work_ns: IntArray) -> IntArray:
    """int64 [e], the instant that each edge leads to, by the measured times."""
    before = np.append(0, np.cumsum(work_ns))
    source = np.where(edges.source >= 0, cuts.at_ns[edges.source], 0)
    reached_ns: IntArray = source + before[edges.last] - before[edges.first] + edges.delay_ns
    return reached_ns


def _columns(edges: Edges) -> tuple[IntArray, ...]:
    return tuple(getattr(edges, field.name) for field in fields(edges))
