"""What the host does while all devices are idle: on the thread whose stage answers for the time, span by span."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import Intervals, gaps, intersect
from gemma_trace.analysis.timeline import Pieces, Request
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import process_of_tracks
from gemma_trace.trace.trace import Trace

MOST_THREADS: Final = 256
"""Of a request's other threads that work, so many are looked at, the busiest first."""


@dataclass(frozen=True)
class HostPieces:
    """The idle time of a request in pieces, by start. All columns have the length p.

    Attributes:
        interval: starts and ends, disjoint.
        row: int64, the stage code of each.
        gap: int64, the idle gap each is in, as in `Pieces`.
        track: int64, the thread looked at.
        span: int64, the innermost span of that thread; `NONE` where it is in none.
    """

    interval: Intervals
    row: IntArray
    gap: IntArray
    track: IntArray
    span: IntArray

    def taken(self, chosen: IntArray) -> HostPieces:
        """Some of the pieces."""
        start, end = self.interval
        columns = (column[chosen] for column in (self.row, self.gap, self.track, self.span))
        return HostPieces((start[chosen], end[chosen]), *columns)


class HostThreads:
    """The threads of a trace as stretches by innermost span; each is worked out once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._stretches: dict[int, tuple[IntArray, IntArray, IntArray]] = {}
        self._process = process_of_tracks(trace)
        self._on_track = Places(trace.spans.track[trace.segments.owner])

    def pieces(self, pieces: Pieces, request: Request) -> HostPieces:
        """Cut a request's idle time where the innermost span changes on the thread whose stage answers for it.

        Where that is the request's own thread, which is in no stage and in no span, it is another one of its process
        that works: of several the one that works most.
        """
        nothing = np.full(len(pieces.idle_row), NONE, dtype=np.int64)
        found = HostPieces(pieces.idle, pieces.idle_row, pieces.gap, pieces.idle_track, nothing)
        own = [self._on(found.taken(mine), track, request) for track, mine in Places(pieces.idle_track)]
        found = _joined(own) if own else found
        for track in self._others(request) if self._has_bare(found) else ():
            bare = (found.span == NONE) & (found.row == UNATTRIBUTED_CODE)
            looked = self._on(found.taken(np.flatnonzero(bare)), track, request)
            found = _joined([found.taken(np.flatnonzero(~bare)), looked])
            if not self._has_bare(found):
                break
        return found.taken(np.argsort(found.interval[0], kind="stable"))

    @staticmethod
    def _has_bare(found: HostPieces) -> bool:
        return bool(((found.span == NONE) & (found.row == UNATTRIBUTED_CODE)).any())

    def _on(self, given: HostPieces, track: int, request: Request) -> HostPieces:
        """Pieces cut where a thread's innermost span changes; where it is in none, they keep their thread."""
        low, high, owner = self._thread(track)
        first, last = np.searchsorted(high, request.start_ns, "right"), np.searchsorted(low, request.end_ns, "left")
        low = np.maximum(low[first:last], request.start_ns)
        high = np.minimum(high[first:last], request.end_ns)
        bare = gaps((low, high), request.start_ns, request.end_ns)
        order = np.argsort(np.concatenate((low, bare[0])), kind="stable")
        span = np.concatenate((owner[first:last], np.full(len(bare[0]), NONE)))[order]
        cuts = (np.concatenate((low, bare[0]))[order], np.concatenate((high, bare[1]))[order])
        start, end, piece, place = intersect(given.interval, cuts)
        on = np.where(span[place] >= 0, track, given.track[piece])
        return HostPieces((start, end), given.row[piece], given.gap[piece], on, span[place])

    def _thread(self, track: int) -> tuple[IntArray, IntArray, IntArray]:
        """A thread's stretches: starts, ends, innermost spans."""
        if track not in self._stretches:
            segments = self._trace.segments
            own = self._on_track.of(track)
            self._stretches[track] = (segments.start_ns[own], segments.end_ns[own], segments.owner[own])
        return self._stretches[track]

    def _others(self, request: Request) -> list[int]:
        """The other threads of a request's process that work and are in a span in it, the busiest first."""
        segments = self._trace.segments
        in_window = (segments.start_ns < request.end_ns) & (segments.end_ns > request.start_ns)
        tracks = np.unique(self._trace.spans.track[segments.owner[in_window]])
        own = (self._process[tracks] == self._process[request.track]) & (tracks != request.track)
        works = tracks[own & (self._worked[tracks] > 0)]
        busiest: list[int] = works[np.argsort(-self._worked[works], kind="stable")][:MOST_THREADS].tolist()
        return busiest

    @cached_property
    def _worked(self) -> npt.NDArray[np.float64]:
        """float64 [tracks], how long each thread works, in ns."""
        segments = self._trace.segments
        length = np.where(self._trace.waits, 0, segments.end_ns - segments.start_ns)
        tracks = self._trace.spans.track[segments.owner]
        worked = np.zeros(len(self._process))
        np.add.at(worked, tracks, length)
        return worked


def _joined(parts: list[HostPieces]) -> HostPieces:
    if len(parts) == 1:
        return parts[0]
    rows = zip(*((*part.interval, part.row, part.gap, part.track, part.span) for part in parts), strict=True)
    start, end, row, gap, track, span = (np.concatenate(columns) for columns in rows)
    return HostPieces((start, end), row, gap, track, span)
