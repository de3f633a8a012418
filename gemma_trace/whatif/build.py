"""Makes the dependency graph of a request of a trace's columns."""

from __future__ import annotations

import numpy as np

from gemma_trace.analysis.intervals import union, union_ns
from gemma_trace.analysis.timeline import first_token_ns, ranges_in
from gemma_trace.stages import Stage
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.requests import WHOLE_TRACE, Request
from gemma_trace.whatif.cuts import Boundaries, Cuts
from gemma_trace.whatif.facts import Facts, Stretch, WaitStretches, places_of
from gemma_trace.whatif.graph import Edges, Graph, Probes, put_in_order

_IMAGE_LOAD = list(Stage).index(Stage.IMAGE_LOAD)
OWN = 0
"""The line of the request's own thread."""


def graph_of(facts: Facts, request: Request) -> Graph:
    """The graph of a request."""
    return _Builder(facts, request).build()


class _Edge:
    """Edges while lines are still being cut: columns of handles. `where` says which of them there are."""

    def __init__(self, source: IntArray, target: IntArray, work: tuple[IntArray, IntArray] | None, where: BoolArray):
        self.source, self.target, self.where = source, target, where
        self.first, self.last = (source, source) if work is None else work
        self.delay_ns = np.zeros(len(source), dtype=np.int64)
        self.owner = np.full(len(source), NONE, dtype=np.int64)

    def after(self, delay_ns: IntArray, owner: IntArray | None = None) -> _Edge:
        """With a delay, and the handle of the start of the activity that it leads to."""
        self.delay_ns = delay_ns
        if owner is not None:
            self.owner = owner
        return self

    def of(self, owner: IntArray) -> _Edge:
        """With the handle of the piece without which the edge isn't there."""
        self.owner = owner
        return self

    def columns(self, of_handle: IntArray) -> tuple[IntArray, ...]:
        """As `Edges` has them."""
        ends = (of_handle[column[self.where]] for column in (self.source, self.target, self.first, self.last))
        owner = self.owner[self.where]
        return (*ends, self.delay_ns[self.where], np.where(owner >= 0, of_handle[owner], NONE))


class _Builder:
    """Cuts the lines of one request and ties them."""

    def __init__(self, facts: Facts, request: Request) -> None:
        trace = facts.trace
        self._facts, self._request = facts, request
        self._chosen = chosen = facts.activities_in(request)
        self._start = facts.start_ns[chosen] - request.start_ns
        self._end = facts.end_ns[chosen] - request.start_ns
        call = trace.launch[chosen]
        self._linked = call >= 0
        call = np.maximum(call, 0)
        self._called = trace.spans.ts_ns[call] - request.start_ns
        self._returned = trace.spans.ends_ns(call) - request.start_ns
        self._is_here = self._linked & (self._called >= 0) & (self._called <= self._start)
        track = trace.spans.track[call].astype(np.int64)
        others = np.setdiff1d(distinct(track[self._is_here]), [request.track])
        self._tracks = (request.track, *others.tolist())
        line_of = {code: line for line, code in enumerate(self._tracks)}
        self._line = np.array([line_of.get(code, OWN) for code in track.tolist()], dtype=np.int64)
        self._cuts, self._edges = Cuts(), list[_Edge]()
        self._stretches: list[Stretch] = [facts.stretches(code, request) for code in self._tracks]
        self._waits = [facts.waits_in(code, request, chosen) for code in self._tracks]

    def build(self) -> Graph:
        """The graph."""
        wall = self._request.wall_ns
        begin = [
            self._cuts.add(line, np.array([0, self._ended(line, wall)]), is_point=True)
            for line in range(len(self._tracks))
        ]
        for line, stretches in enumerate(self._stretches):
            self._cuts.add(line, np.concatenate(stretches[:2]), is_point=False)
        self._of_activity = len(self._tracks) + np.arange(len(self._chosen))
        self._starts = self._cuts.add(self._of_activity, self._start, is_point=True)
        self._ends = self._cuts.add(self._of_activity, self._end, is_point=True)
        every = self._end > self._start
        self._edges.append(_Edge(self._starts, self._ends, (self._starts, self._ends), every))
        self._add_streams()
        self._add_launches()
        waits = [self._add_waits(line, waits_on, begin[OWN][1]) for line, waits_on in enumerate(self._waits)]
        self._add_roots()
        probes = self._add_probes()
        cuts, of_handle = self._cuts.done()
        span = self._spans(cuts)
        work = np.where(self._is_idle(cuts, span, waits, of_handle), 0, cuts.length_ns)
        edges = self._joined(cuts, of_handle)
        order, edges = put_in_order(cuts, len(self._tracks), edges, work)
        ends = of_handle[np.array([handles[1] for handles in begin])] if self._is_whole else of_handle[begin[OWN][1:]]
        if self._is_whole:
            ends = np.append(ends, of_handle[self._ends])
        return Graph(
            self._request,
            cuts,
            work,
            span,
            order,
            edges,
            self._placed(probes, ends, of_handle, cuts.at_ns),
            self._tracks,
            self._chosen,
        )

    @property
    def _is_whole(self) -> bool:
        """Whether the window ends with the last span of the trace, whatever that is."""
        return self._request.label == WHOLE_TRACE

    def _ended(self, line: int, wall: int) -> int:
        """Where a thread ends: with the request, but where that ends with any thread's or activity's last span."""
        return wall if line == OWN and not self._is_whole else int(self._stretches[line].end_ns.max(initial=0))

    def _add_streams(self) -> None:
        """An activity comes after the one before it on its stream, and after that of another one that it waited for."""
        before = places_of(self._chosen, self._facts.before[self._chosen])
        previous = places_of(self._chosen, self._facts.previous[self._chosen])
        self._after(before, before >= 0, is_binding=True)
        self._after(previous, (previous >= 0) & (previous != before), is_binding=False)

    def _after(self, earlier: IntArray, where: BoolArray, *, is_binding: bool) -> None:
        """Edges from other activities; of one that hasn't ended it is the part that ran till then that counts."""
        earlier = np.maximum(earlier, 0)[where]
        start, starts = self._start[where], self._starts[where]
        until = np.minimum(self._end[earlier], start) if len(earlier) else start
        over = self._end[earlier] <= start
        cut = self._cuts.add(self._of_activity[earlier], np.maximum(until, self._start[earlier]), is_point=False)
        source = np.where(over, self._ends[earlier], self._starts[earlier])
        first = np.where(over, self._ends[earlier], self._starts[earlier])
        edge = _Edge(source, starts, (first, np.where(over, first, cut)), np.ones(len(earlier), dtype=bool))
        self._edges.append(edge.after(start - until if is_binding else np.zeros_like(start), starts))

    def _add_launches(self) -> None:
        """An activity comes after its launch; what is linked to none after what the request's thread had done then."""
        free = self._facts.before[self._chosen] == NONE
        bound, beside = self._is_here & free, self._is_here & ~free
        arrived = np.minimum(self._returned, self._start)[bound]
        source = self._cuts.add(self._line[bound], arrived, is_point=True)
        starts = self._starts[bound]
        every = np.ones(len(starts), dtype=bool)
        self._edges.append(_Edge(source, starts, None, every).after(self._start[bound] - arrived, starts))
        source = self._cuts.add(self._line[beside], self._called[beside], is_point=True)
        self._edges.append(_Edge(source, self._starts[beside], None, np.ones(len(source), dtype=bool)))
        lost = free & ~self._linked & (self._start >= 0)
        self._add_from_own(self._start[lost], self._starts[lost], self._starts[lost])

    def _own_at(self, at: IntArray) -> tuple[IntArray, IntArray]:
        """Where the request's thread was at some instants; where it waited, the begin of that and what came after it.

        Returns:
            int64 each: handles of points, and the delays from there.
        """
        waits = self._waits[OWN]
        place = np.searchsorted(waits.ended_ns, at, side="right")
        begin = np.append(waits.begin_ns, np.iinfo(np.int64).max)[place]
        source_ns = np.minimum(begin, at)
        return self._cuts.add(OWN, source_ns, is_point=True), at - source_ns

    def _add_from_own(self, at: IntArray, target: IntArray, owner: IntArray | None = None) -> None:
        """Edges from where the request's thread was at some instants."""
        source, delay = self._own_at(at)
        self._edges.append(_Edge(source, target, None, np.ones(len(at), dtype=bool)).after(delay, owner))

    def _add_waits(self, line: int, waits: WaitStretches, end: int) -> tuple[IntArray, IntArray]:
        """A thread goes on once what it waited for has ended; the handles of where the waits begin and end.

        Args:
            end: the handle of the request's end, which comes after all that was waited for, be the wait there or not.
        """
        begin = self._cuts.add(line, waits.begin_ns, is_point=True)
        ended = self._cuts.add(line, waits.ended_ns, is_point=True)
        every = np.ones(len(ended), dtype=bool)
        self._edges.append(_Edge(self._ends[waits.place], ended, None, every).of(begin))
        self._edges.append(_Edge(self._ends[waits.place], np.full(len(ended), end), None, every))
        for_all = np.flatnonzero(self._facts.waits_for_all[self._facts.trace.spans.name[waits.call]])
        called = self._facts.trace.spans.ts_ns[waits.call[for_all]] - self._request.start_ns
        if len(for_all):
            for on_stream in self._on_streams():
                latest = np.maximum.accumulate(self._end[on_stream])
                place = np.searchsorted(latest, waits.ended_ns[for_all], side="right") - 1
                last = on_stream[np.maximum(place, 0)]
                real = (place >= 0) & self._linked[last] & (self._called[last] < called)
                self._edges.append(_Edge(self._ends[last], ended[for_all], None, real).of(begin[for_all]))
        return begin, ended

    def _on_streams(self) -> list[IntArray]:
        spans, activities = self._facts.trace.spans, self._facts.trace.activities[self._chosen]
        streams = np.stack((spans.device[activities], spans.stream[activities]))
        _, code = np.unique(streams, axis=1, return_inverse=True)
        return [rows for _, rows in Places(code.reshape(-1))]

    def _add_roots(self) -> None:
        """An outermost span of another thread begins when the request's thread had got as far as it had."""
        for line, track in enumerate(self._tracks[1:], start=1):
            roots = self._facts.roots_in(track, self._request)
            self._add_from_own(roots, self._cuts.add(line, roots, is_point=True))

    def _add_probes(self) -> tuple[tuple[IntArray, IntArray] | None, IntArray, int]:
        """Points at the first token, with its delay, and at the edges of what loads images before it (by handle)."""
        trace, request = self._facts.trace, self._request
        first = first_token_ns(trace, request)
        nothing = np.zeros((0, 2), dtype=np.int64)
        if first is None:
            return None, nothing, 0
        at = np.array([min(first, request.end_ns) - request.start_ns])
        source, delay = self._own_at(at)
        token = source, delay + first - request.start_ns - at
        ranges = ranges_in(trace, request)
        load = ranges[(trace.stage_range[ranges] == _IMAGE_LOAD) & (trace.spans.ends_ns(ranges) <= first)]
        on_track = trace.spans.track[load] == request.track
        start, end = union(trace.spans.ts_ns[load[on_track]], trace.spans.ends_ns(load[on_track]))
        total = union_ns(trace.spans.ts_ns[load], trace.spans.ends_ns(load))
        handles = [self._cuts.add(OWN, edge - request.start_ns, is_point=True) for edge in (start, end)]
        return token, np.stack(handles, axis=1), total - int((end - start).sum())

    def _placed(
        self,
        starts: tuple[tuple[IntArray, IntArray] | None, IntArray, int],
        ends: IntArray,
        of_handle: IntArray,
        at_ns: IntArray,
    ) -> Probes:
        token, loads, others = starts
        first = None if token is None else (int(of_handle[token[0][0]]), int(token[1][0]))
        tail = self._request.wall_ns - int(at_ns[ends].max())
        return Probes(ends, tail, first, of_handle[loads], others)

    def _spans(self, cuts: Boundaries) -> IntArray:
        """int64 [b], of each piece the activity or the thread's innermost span."""
        span = np.full(len(cuts.line), NONE, dtype=np.int64)
        edges = np.searchsorted(cuts.line, np.arange(len(self._tracks) + 1))
        for line, stretches in enumerate(self._stretches):
            at = cuts.at_ns[edges[line] : edges[line + 1]]
            place = np.searchsorted(stretches.start_ns, at, side="right") - 1
            known = np.maximum(place, 0)
            if len(stretches.span):
                inside = (place >= 0) & (at < stretches.end_ns[known])
                span[edges[line] : edges[line + 1]] = np.where(inside, stretches.span[known], NONE)
        of_device = np.arange(edges[-1], len(cuts.line))
        place = self._chosen[cuts.line[of_device] - len(self._tracks)]
        span[of_device] = self._facts.trace.activities[place]
        return span

    def _is_idle(
        self, cuts: Boundaries, span: IntArray, waits: list[tuple[IntArray, IntArray]], of_handle: IntArray
    ) -> BoolArray:
        """bool [b], in which pieces a thread has nothing to do: it waits, or it is another one and in no span."""
        change = np.zeros(len(span) + 1, dtype=np.int64)
        for begin, ended in waits:
            np.add.at(change, of_handle[begin], 1)
            np.add.at(change, of_handle[ended], -1)
        idle = np.cumsum(change)[:-1] > 0
        bare = (span == NONE) & (cuts.line < len(self._tracks))
        idle |= bare & (cuts.line != OWN)
        if self._is_whole:
            last = int(self._stretches[OWN].end_ns.max(initial=0))
            idle |= bare & (cuts.at_ns >= last)
        return idle

    def _joined(self, cuts: Boundaries, of_handle: IntArray) -> Edges:
        """All edges: those that were collected, and each thread from one point to the next."""
        points = np.flatnonzero(cuts.is_point & (cuts.line < len(self._tracks)))
        source, target = points[:-1], points[1:]
        same = cuts.line[source] == cuts.line[target]
        source, target = source[same], target[same]
        zero, nothing = np.zeros(len(source), dtype=np.int64), np.full(len(source), NONE, dtype=np.int64)
        parts = [(source, target, source, target, zero, nothing), *(edge.columns(of_handle) for edge in self._edges)]
        return Edges(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
