"""What the host does while all devices are idle: on the thread whose stage answers for the time, span by span."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import EMPTY, Intervals, intersect
from gemma_trace.analysis.pieces import Pieces
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import Segments

_LATEST: Final = 2**63 - 1

MOST_THREADS: Final = 256
"""Of a request's other threads that work, so many are looked at, the busiest first."""


@dataclass(frozen=True)
class HostPieces:
    """The idle time of requests in pieces, by start. All columns have the length p.

    Attributes:
        interval: starts and ends on the requests' line, disjoint.
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

    @property
    def bare(self) -> BoolArray:
        """bool, which pieces lie in no stage and in no span."""
        is_bare: BoolArray = (self.span == NONE) & (self.row == UNATTRIBUTED_CODE)
        return is_bare


class HostThreads:
    """The threads of a trace as stretches by innermost span."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        tracks = trace.spans.track[trace.segments.owner]  # ascending, as the segments are
        edges = [0, *(np.flatnonzero(tracks[1:] != tracks[:-1]) + 1).tolist(), len(tracks)]
        self._on_track = {int(tracks[low]): slice(low, high) for low, high in pairwise(edges) if high > low}

    def pieces(self, pieces: Pieces) -> HostPieces:
        """Cut requests' idle time where the innermost span changes on the thread whose stage answers for it.

        Where that is the request's own thread, which is in no stage and in no span, it is another one of its process
        that works: of several the one that works most.
        """
        nothing = np.full(len(pieces.idle_row), NONE, dtype=np.int64)
        idle = HostPieces(pieces.idle, pieces.idle_row, pieces.gap, pieces.idle_track, nothing)
        cut = _joined(self._on(idle.taken(rows), track, pieces.line) for track, rows in Places(pieces.idle_track))
        if cut.bare.any():
            bare = np.flatnonzero(cut.bare)
            cut = _joined([cut.taken(np.flatnonzero(~cut.bare)), *self._elsewhere(cut.taken(bare), pieces.line)])
        start = cut.interval[0]
        return cut if (start[1:] >= start[:-1]).all() else cut.taken(np.argsort(start, kind="stable"))

    def _on(self, given: HostPieces, track: int, line: WindowLine) -> HostPieces:
        """Pieces cut where a thread's innermost span changes; where it is in none, they keep their thread."""
        near = line.taken(distinct(line.at(given.interval[0])))
        segments = self._near(track, near)
        window, place = near.overlaps(segments.start_ns, segments.end_ns)
        cuts, span = near.clipped(window, segments.start_ns[place], segments.end_ns[place]), segments.owner[place]
        bare = near.gaps(cuts)
        if len(bare[0]):
            order = np.argsort(np.concatenate((cuts[0], bare[0])), kind="stable")
            span = np.concatenate((span, np.full(len(bare[0]), NONE, dtype=np.int32)))[order]
            cuts = (np.concatenate((cuts[0], bare[0]))[order], np.concatenate((cuts[1], bare[1]))[order])
        start, end, piece, stretch = intersect(given.interval, cuts)
        on = np.where(span[stretch] >= 0, track, given.track[piece])
        return HostPieces((start, end), given.row[piece], given.gap[piece], on, span[stretch].astype(np.int64))

    def _elsewhere(self, bare: HostPieces, line: WindowLine) -> Iterator[HostPieces]:
        """Pieces in no span, cut by what other threads of the request's process do, the busiest first."""
        process, looked = self._trace.process, np.zeros(len(line), dtype=np.int64)
        for track in np.argsort(-self._worked, kind="stable")[: int((self._worked > 0).sum())].tolist():
            window = line.at(bare.interval[0])
            may = (process[line.track] == process[track]) & (line.track != track) & (looked < MOST_THREADS)
            bare_rows = np.flatnonzero(may[window])
            if not len(bare_rows):
                continue
            looked[self._windows_of(track, line, distinct(window[bare_rows]))] += 1
            rest = bare.taken(np.flatnonzero(~may[window]))
            cut = self._on(bare.taken(bare_rows), track, line)
            yield cut.taken(np.flatnonzero(~cut.bare))
            bare = _joined([rest, cut.taken(np.flatnonzero(cut.bare))])
            if not len(bare.row):
                return
        yield bare

    def _windows_of(self, track: int, line: WindowLine, windows: IntArray) -> IntArray:
        """Those of some windows in which a thread is in a span."""
        near = line.taken(windows)
        segments = self._near(track, near)
        window, _ = near.overlaps(segments.start_ns, segments.end_ns)
        inside: IntArray = windows[distinct(window)]
        return inside

    def _near(self, track: int, line: WindowLine) -> Segments:
        """A thread's stretches from the first window's start to the last one's end: views, nothing is copied."""
        segments, on_track = self._trace.segments, self._on_track.get(track, slice(0, 0))
        starts, ends = segments.start_ns[on_track], segments.end_ns[on_track]  # both ascend: they are disjoint
        low = on_track.start + int(np.searchsorted(ends, line.start_ns.min(initial=_LATEST), side="right"))
        high = on_track.start + int(np.searchsorted(starts, line.end_ns.max(initial=-_LATEST)))
        near = slice(low, max(low, high))
        return Segments(segments.start_ns[near], segments.end_ns[near], segments.owner[near])

    @cached_property
    def _worked(self) -> npt.NDArray[np.float64]:
        """float64 [tracks], how long each thread works, in ns."""
        segments = self._trace.segments
        works = ~self._trace.waits
        worked = np.zeros(len(self._trace.process))
        for track, on_track in self._on_track.items():
            length = segments.end_ns[on_track] - segments.start_ns[on_track]
            worked[track] = float(length.sum(where=works[on_track]))
        return worked


def _joined(parts: Iterable[HostPieces]) -> HostPieces:
    """One after the other; what is all of it isn't copied."""
    filled = [part for part in parts if len(part.row)]
    if len(filled) == 1:
        return filled[0]
    rows = zip(*((*part.interval, part.row, part.gap, part.track, part.span) for part in [_NONE, *filled]), strict=True)
    start, end, row, gap, track, span = (np.concatenate(columns) for columns in rows)
    return HostPieces((start, end), row, gap, track, span)


_NONE: Final = HostPieces(EMPTY, *(np.zeros(0, np.int64) for _ in range(4)))
