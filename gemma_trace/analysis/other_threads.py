"""Stages on other threads than the request's: a server's processor, a streamer's `generate`."""

from __future__ import annotations

import numpy as np

from gemma_trace.analysis.intervals import Intervals, union
from gemma_trace.analysis.stretches import Stretches, earliest_opened
from gemma_trace.stages import IDLE, UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace

_NOTHING = np.zeros(0, dtype=np.int64)


def stages_of_others(trace: Trace, request: Request) -> Stretches:
    """The stages open on other threads of the request's process, at every instant the earliest opened.

    What another request holds on its own thread is that one's, not this one's.
    """
    found = _elsewhere(trace, request, same_process=True)
    stages = np.flatnonzero((found.row != UNATTRIBUTED_CODE) & (found.row != _code_of(trace, IDLE)))
    lanes = [found.taken(stages[own]) for _, own in Places(found.track[stages])]
    return earliest_opened(lanes) if lanes else Stretches(_NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


def host_ns_of_others(trace: Trace, request: Request, rows: int) -> IntArray:
    """int64 [rows], how long each stage is open on other threads than the request's, less the stages nested in it."""
    found = _elsewhere(trace, request, same_process=False)
    sums = np.zeros(rows, dtype=np.int64)
    real = found.row != UNATTRIBUTED_CODE
    np.add.at(sums, found.row[real], (found.end_ns - found.start_ns)[real])
    return sums


def waiting_in(trace: Trace, request: Request, stretches: Stretches) -> Intervals:
    """When the request's thread only waits: in a stage named `idle`, or in a call that is known to wait."""
    segments = trace.segments
    waits = np.flatnonzero(trace.waits & (trace.spans.track[segments.owner] == request.track))
    idle = stretches.row == _code_of(trace, IDLE)
    return union(
        np.concatenate((segments.start_ns[waits], stretches.start_ns[idle])),
        np.concatenate((segments.end_ns[waits], stretches.end_ns[idle])),
    )


def _elsewhere(trace: Trace, request: Request, *, same_process: bool) -> Stretches:
    """The stages open on other threads in a request's window, by thread."""
    segments, spans = trace.stage_segments, trace.spans
    track = spans.track[segments.owner].astype(np.int64)
    chosen = (segments.start_ns < request.end_ns) & (segments.end_ns > request.start_ns) & (track != request.track)
    if same_process:
        process = trace.process
        chosen &= process[track] == process[request.track]
    place = np.flatnonzero(chosen)
    place = place[~_held_by_others(trace, request, segments.start_ns[place], track[place])]
    owner = segments.owner[place]
    return Stretches(
        np.maximum(segments.start_ns[place], request.start_ns),
        np.minimum(segments.end_ns[place], request.end_ns),
        trace.stage_of_ranges(owner),
        track[place],
        spans.ts_ns[owner],
    )


def _held_by_others(trace: Trace, request: Request, start_ns: IntArray, track: IntArray) -> BoolArray:
    """bool, what runs on the thread of another request while that one is open."""
    if not len(track):
        return np.zeros(0, dtype=bool)
    window = trace.windows.at(track, start_ns)
    held: BoolArray = (window != NONE) & (window != request.index)
    return held


def _code_of(trace: Trace, stage: str) -> int:
    return trace.stage_names.index(stage) if stage in trace.stage_names else -1
