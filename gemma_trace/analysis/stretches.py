"""Requests' time cut into stretches, each with the stage that is open in it and the thread on which it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gemma_trace.analysis.intervals import Intervals
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.clients import works_for
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class Stretches:
    """Disjoint stretches by start, none empty. All columns have the length s.

    Attributes:
        start_ns, end_ns: int64, on the line of the requests.
        row: int64, the stage code of each.
        track: int64, the thread on which that stage is open.
        opened_ns: int64, when the stage's range began, on the trace's clock.
    """

    start_ns: IntArray
    end_ns: IntArray
    row: IntArray
    track: IntArray
    opened_ns: IntArray

    def __len__(self) -> int:
        return len(self.start_ns)

    def at(self, instants: IntArray) -> IntArray:
        """int64, the stretch that holds each instant; `NONE` where none does."""
        place = np.searchsorted(self.start_ns, instants, side="right") - 1
        inside = (place >= 0) & (instants < self.end_ns[np.maximum(place, 0)]) if len(self) else place >= 0
        return np.where(inside, place, NONE)

    def taken(self, chosen: IntArray) -> Stretches:
        """Some of the stretches."""
        return Stretches(
            self.start_ns[chosen], self.end_ns[chosen], self.row[chosen], self.track[chosen], self.opened_ns[chosen]
        )


def stage_stretches(trace: Trace, line: WindowLine) -> Stretches:
    """Each window's thread from its start to its end, cut where the innermost open stage changes; without gaps."""
    segments = trace.stage_segments
    window, segment = line.on_tracks(trace.stage_segments_on, segments.start_ns, segments.end_ns)
    start, end = line.clipped(window, segments.start_ns[segment], segments.end_ns[segment])
    bare = line.gaps((start, end))
    row = trace.stage_of_ranges(segments.owner[segment])
    none = np.full(len(bare[0]), UNATTRIBUTED_CODE)
    order = np.argsort(np.concatenate((start, bare[0])), kind="stable")
    opened = np.concatenate((trace.spans.ts_ns[segments.owner[segment]], bare[0]))
    track = np.concatenate((line.track[window], line.track[line.at(bare[0])]))
    return Stretches(
        np.concatenate((start, bare[0]))[order],
        np.concatenate((end, bare[1]))[order],
        np.concatenate((row, none))[order],
        track[order],
        opened[order],
    )


def earliest_opened(lanes: list[Stretches]) -> Stretches:
    """At every instant the stretch, of whichever lane, whose stage was opened first."""
    while len(lanes) > 1:
        pairs = [_earlier(lanes[place], lanes[place + 1]) for place in range(0, len(lanes) - 1, 2)]
        lanes = pairs + lanes[2 * len(pairs) :]
    return lanes[0]


def _earlier(first: Stretches, second: Stretches) -> Stretches:
    both = _joined(first, second)
    edges = distinct(np.concatenate((both.start_ns, both.end_ns)))
    in_first, in_second = first.at(edges[:-1]), second.at(edges[:-1])
    ahead = (in_second == NONE) | ((in_first != NONE) & (first.opened_ns[in_first] <= second.opened_ns[in_second]))
    chosen = np.where(ahead, in_first, np.where(in_second == NONE, NONE, in_second + len(first)))
    return _pieces(both, edges, chosen)


def overlaid(stretches: Stretches, others: Stretches, waiting: Intervals) -> Stretches:
    """Requests' stretches, and in them others' where the request's thread is in no stage, or waits.

    Args:
        stretches: of all windows, without gaps in them.
        others: within the same windows.
        waiting: disjoint intervals by start.
    """
    both = _joined(stretches, others)
    edges = distinct(np.concatenate((both.start_ns, both.end_ns, *waiting)))
    below, above = stretches.at(edges[:-1]), others.at(edges[:-1])
    place = np.searchsorted(waiting[0], edges[:-1], side="right") - 1
    waits = (place >= 0) & (edges[:-1] < np.append(waiting[1], 0)[place])
    free = (stretches.row[below] == UNATTRIBUTED_CODE) | waits
    return _pieces(both, edges, np.where((above != NONE) & free, above + len(stretches), below))


def working_for(trace: Trace, stretches: Stretches, lanes: list[Stretches]) -> Stretches:
    """The stretches of clients' threads, but that the thread is the one at work for them, in whatever stage it is.

    Args:
        lanes: of other threads, within the same windows.
    """
    current = stretches
    for lane in lanes:
        both = _joined(current, lane)
        edges = distinct(np.concatenate((both.start_ns, both.end_ns)))
        worker, other, client = current.at(edges[:-1]), lane.at(edges[:-1]), stretches.at(edges[:-1])
        rows, tracks = (stretches.row[client], lane.row[other]), (stretches.track[client], lane.track[other])
        works = (client != NONE) & (other != NONE) & works_for(trace, rows[0], tracks[0], rows[1], tracks[1])
        current = _pieces(both, edges, np.where(works, other + len(current), worker))
    return replace(current, row=stretches.row[stretches.at(current.start_ns)])


def _joined(first: Stretches, second: Stretches) -> Stretches:
    columns = ("start_ns", "end_ns", "row", "track", "opened_ns")
    return Stretches(*(np.concatenate((getattr(first, name), getattr(second, name))) for name in columns))


def _pieces(source: Stretches, edges: IntArray, chosen: IntArray) -> Stretches:
    """The stretch chosen between each two edges; neighbours of one stretch become one, `NONE` is left out."""
    kept = np.flatnonzero(chosen != NONE)
    start, end, chosen = edges[:-1][kept], edges[1:][kept], chosen[kept]
    fresh = np.ones(len(kept), dtype=bool)
    fresh[1:] = (chosen[1:] != chosen[:-1]) | (start[1:] != end[:-1])
    last = np.append(np.flatnonzero(fresh)[1:] - 1, len(kept) - 1) if len(kept) else np.zeros(0, dtype=np.int64)
    pieces = source.taken(chosen[fresh])
    return Stretches(start[fresh], end[last], pieces.row, pieces.track, pieces.opened_ns)
