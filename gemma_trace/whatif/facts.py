"""What of a trace the graphs of all its requests are made of, worked out once."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from gemma_trace.analysis.dependencies import Waits, activity_before, outermost_starts, previous_on_stream
from gemma_trace.analysis.dependencies import waits_for_device as waits_of
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace

_FOR_ALL: Final = re.compile(r"(?>\w*?DeviceSynchronize)\w*", re.I)
_NOTHING: Final = np.zeros(0, dtype=np.int64)


class Stretch(NamedTuple):
    """A thread's stretches by innermost span, by start: starts, ends, and the span of each; int64 [s]."""

    start_ns: IntArray
    end_ns: IntArray
    span: IntArray


class Facts:
    """A trace's activities with what they waited for, and its threads with where they waited.

    Attributes:
        start_ns, end_ns: int64 [m], of the activities.
        before: int64 [m], see `activity_before`.
        previous: int64 [m], the activity before on the stream.
        waits: by thread, where it waited for the device.
        roots: by thread, where its outermost spans begin.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        spans, activities = trace.spans, trace.activities
        self.start_ns, self.end_ns = spans.ts_ns[activities], spans.ends_ns(activities)
        self.before, self.previous = activity_before(trace), previous_on_stream(trace)
        self.waits: dict[int, Waits] = waits_of(trace)
        self.roots = outermost_starts(trace)
        self._latest_ns = np.maximum.accumulate(self.end_ns)

    @cached_property
    def _on_track(self) -> Places:
        return Places(self.trace.spans.track[self.trace.segments.owner])

    @cached_property
    def waits_for_all(self) -> BoolArray:
        """bool [names], whether a call of this name waits for all streams of its device."""
        return np.array([bool(_FOR_ALL.fullmatch(name)) for name in self.trace.spans.names], dtype=bool)

    def activities_in(self, request: Request) -> IntArray:
        """int64, the places of the activities that overlap a request, ascending."""
        stop = int(np.searchsorted(self.start_ns, request.end_ns))
        first = int(np.searchsorted(self._latest_ns, request.start_ns, side="right"))
        places: IntArray = first + np.flatnonzero(self.end_ns[first:stop] > request.start_ns)
        return places

    def stretches(self, track: int, request: Request) -> Stretch:
        """What a thread does during a request, clipped to it; times are from the request's start on."""
        segments, on_track = self.trace.segments, self._on_track.of(track)
        first = int(np.searchsorted(segments.end_ns[on_track], request.start_ns, side="right"))
        stop = int(np.searchsorted(segments.start_ns[on_track], request.end_ns))
        here = on_track[first:stop]
        start = np.maximum(segments.start_ns[here], request.start_ns) - request.start_ns
        end = np.minimum(segments.end_ns[here], request.end_ns) - request.start_ns
        return Stretch(start, end, segments.owner[here].astype(np.int64))

    def roots_in(self, track: int, request: Request) -> IntArray:
        """int64, where outermost spans of a thread begin within a request, from its start on."""
        roots = self.roots.get(track, _NOTHING)
        first, stop = np.searchsorted(roots, (request.start_ns, request.end_ns), side="right")
        starts_ns: IntArray = distinct(roots[first:stop] - request.start_ns)
        return starts_ns

    def waits_in(self, track: int, request: Request, chosen: IntArray) -> WaitStretches:
        """Where a thread waits for the device within a request.

        A call that waits for its own activity alone waits from that activity's start on; any other from its own.

        Args:
            chosen: int64 [a], the request's activities, as `activities_in` gives them.
        """
        waits = self.waits.get(track)
        if waits is None:
            return WaitStretches(_NOTHING, _NOTHING, _NOTHING, _NOTHING)
        first, stop = np.searchsorted(waits.ended_ns, (request.start_ns, request.end_ns), side="right")
        ended, activity, call = (column[first:stop] for column in waits)
        place = places_of(chosen, activity)
        real = (place >= 0) & (self.end_ns[activity] > self.start_ns[activity])
        ended, activity, call, place = ended[real], activity[real], call[real], place[real]
        called = self.trace.spans.ts_ns[call]
        for_itself = (self.trace.launch[activity] == call) & (self.before[activity] == NONE)
        begin = np.where(for_itself, np.maximum(self.start_ns[activity], called), called)
        begin = np.maximum(begin, np.append(request.start_ns, ended[:-1])[: len(begin)])
        return WaitStretches(begin - request.start_ns, ended - request.start_ns, place, call)


class WaitStretches(NamedTuple):
    """Where a thread waits, by end, disjoint: begin and end from the request's start on, the place of the activity
    among the request's, and the call.
    """

    begin_ns: IntArray
    ended_ns: IntArray
    place: IntArray
    call: IntArray


def places_of(chosen: IntArray, wanted: IntArray) -> IntArray:
    """int64, where each wanted value stands among the chosen ones, which ascend; `NONE` where it doesn't."""
    if not len(chosen):
        return np.full(len(wanted), NONE, dtype=np.int64)
    place = np.minimum(np.searchsorted(chosen, wanted), len(chosen) - 1)
    return np.where(chosen[place] == wanted, place, NONE)
