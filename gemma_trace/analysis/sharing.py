"""Steps of a server's engine that are for several requests at once.

Each of those requests has the whole step in its own wall time, since it waits for all of it. Sums over requests that
are to say what the engine did have to count it once, and tables say how much is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gemma_trace.analysis.intervals import EMPTY, Intervals, intersect, union, union_ns
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.trace.clients import engine_stages, works_for
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace


class Asked(NamedTuple):
    """Pieces of work, each with a request that it was for: a piece of several requests comes several times.

    Attributes:
        piece: int64 [p], the places of the pieces.
        request: int64 [p], the requests' indices.
        stage: int64 [p], the stage that each is of for that request.
    """

    piece: IntArray
    request: IntArray
    stage: IntArray


def for_clients(
    trace: Trace, requests: Sequence[Request], track: IntArray, asked_ns: IntArray, stage: IntArray
) -> Asked:
    """Which work was for which of a server's clients, those that were sent last at the end.

    Args:
        track: int64 [n], the thread on which each piece was asked for.
        asked_ns: int64 [n], when.
        stage: int64 [n], the stage that asked for it; the number of stages stands for `unlinked`.
    """
    order = np.argsort(asked_ns, kind="stable")
    none = np.zeros(0, dtype=np.int64)
    parts = [Asked(none, none, none)]
    for request in sorted(requests, key=lambda request: request.start_ns):
        low, high = np.searchsorted(asked_ns[order], (request.start_ns, request.end_ns))
        inside = order[low:high]
        client = np.full(len(inside), request.track)
        clients_stage = trace.stage_of_ranges(trace.stage_range_at(client, asked_ns[inside], after=True))
        chosen = works_for(trace, clients_stage, client, stage[inside], track[inside])
        known = np.where(stage[inside] < len(trace.stage_names), clients_stage, stage[inside])
        parts.append(Asked(inside[chosen], np.full(int(chosen.sum()), request.index), known[chosen]))
    return Asked(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def clients_at_once(trace: Trace) -> bool:
    """Whether the trace has several requests of a server's clients."""
    return len(trace.requests) > 1 and any(trace.client_tracks[request.track] for request in trace.requests)


def engine_ns(trace: Trace, requests: Sequence[Request]) -> int | None:
    """How long engines worked for these requests, each step counted once; None if they are no clients' of a server."""
    tracks = [request.track for request in requests if trace.client_tracks[request.track]]
    if not tracks:
        return None
    segments, chosen = trace.stage_segments, _in_engine(trace, np.array(tracks))
    engine = trace.engines[trace.spans.track[segments.owner[chosen]]]
    return sum(union_ns(segments.start_ns[part], segments.end_ns[part]) for part in _by(chosen, engine).values())


def shared_ns(
    trace: Trace, line: WindowLine, pieces: Sequence[tuple[Intervals, IntArray]], rows: int, cells: int
) -> IntArray:
    """How long the requests' stages share the engine with other requests.

    Args:
        pieces: the requests' wall time as disjoint intervals of the line by start, with the stage code of each.
        rows: how many stages there are, with `unlinked`.
        cells: windows times rows.

    Returns:
        int64 [cells].
    """
    sums = np.zeros(cells, dtype=np.int64)
    if not clients_at_once(trace):
        return sums
    shared = _on_line(trace, line)
    engine = np.append(engine_stages(trace), True)
    for intervals, row in pieces:
        start, end, interval, _ = intersect(intervals, shared)
        real = engine[row[interval]] & (end > start)
        np.add.at(sums, line.at(start[real]) * rows + row[interval[real]], (end - start)[real])
    return sums


def _on_line(trace: Trace, line: WindowLine) -> Intervals:
    """When the engine of each window's request works for several; of the windows of any but clients, never."""
    starts, ends = [EMPTY[0]], [EMPTY[1]]
    engine = np.where(trace.client_tracks[line.track], trace.engines[line.track], -2)
    for number, windows in Places(engine):
        if number < -1:
            continue
        start, end = _shared(trace, number)
        window, place = line.taken(windows).overlaps(start, end)
        clipped = line.clipped(windows[window], start[place], end[place])
        starts.append(clipped[0])
        ends.append(clipped[1])
    start, end = np.concatenate(starts), np.concatenate(ends)
    order = np.argsort(start, kind="stable")
    return start[order], end[order]


def _shared(trace: Trace, engine: int) -> Intervals:
    """When several clients are in stages of an engine, on the trace's clock."""
    segments = trace.stage_segments
    in_engine = _in_engine(trace, np.flatnonzero(trace.client_tracks & (trace.engines == engine)))
    edges = np.concatenate((segments.start_ns[in_engine], segments.end_ns[in_engine]))
    steps = np.repeat((1, -1), len(in_engine))
    order = np.argsort(edges, kind="stable")
    edges, open_now = edges[order], np.cumsum(steps[order])
    several = np.flatnonzero(open_now[:-1] > 1)
    return union(edges[several], edges[several + 1])


def _in_engine(trace: Trace, tracks: IntArray) -> IntArray:
    """The places, in `trace.stage_segments`, of the stages of an engine on these threads."""
    owner = trace.stage_segments.owner
    chosen: BoolArray = np.isin(trace.spans.track[owner], tracks)
    return np.flatnonzero(chosen & engine_stages(trace)[trace.stage_of_ranges(owner)])


def _by(places: IntArray, values: IntArray) -> dict[int, IntArray]:
    return {value: places[rows] for value, rows in Places(values)}
