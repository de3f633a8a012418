"""Stages on other threads than the request's: a server's processor, a streamer's `generate`."""

from __future__ import annotations

import numpy as np

from gemma_trace.analysis.intervals import Intervals, union
from gemma_trace.analysis.stretches import Stretches, earliest_opened
from gemma_trace.analysis.window_line import WindowLine
from gemma_trace.stages import IDLE, UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.trace import Trace

_NOTHING = np.zeros(0, dtype=np.int64)


def stages_of_others(trace: Trace, line: WindowLine) -> Stretches:
    """The stages open on other threads of each request's process, at every instant the earliest opened.

    What another request holds on its own thread is that one's, not this one's.
    """
    _, stretches = _elsewhere(trace, line, same_process=True)
    stages = np.flatnonzero((stretches.row != UNATTRIBUTED_CODE) & (stretches.row != _code_of(trace, IDLE)))
    lanes = [stretches.taken(stages[places]) for _, places in Places(stretches.track[stages])]
    return earliest_opened(lanes) if lanes else Stretches(_NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)


def lanes_elsewhere(trace: Trace, line: WindowLine) -> list[Stretches]:
    """The stages open on other threads than the windows', of whatever process, thread by thread."""
    _, stretches = _elsewhere(trace, line, same_process=False)
    stages = np.flatnonzero(stretches.row != UNATTRIBUTED_CODE)
    return [stretches.taken(stages[places]) for _, places in Places(stretches.track[stages])]


def host_ns_of_others(trace: Trace, line: WindowLine, rows: int) -> IntArray:
    """How long each stage is open on other threads than the request's, less the stages nested in it.

    Nothing for a client of a server: its own thread repeats what others did for it.

    Returns:
        int64 [w · rows], window by window.
    """
    window, others = _elsewhere(trace, line, same_process=False)
    real = (others.row != UNATTRIBUTED_CODE) & ~trace.client_tracks[line.track[window]]
    sums = np.zeros(len(line) * rows, dtype=np.int64)
    np.add.at(sums, window[real] * rows + others.row[real], (others.end_ns - others.start_ns)[real])
    return sums


def waiting_in(trace: Trace, line: WindowLine, stretches: Stretches) -> Intervals:
    """When the requests' threads only wait: in a stage named `idle`, or in a call that is known to wait."""
    segments = trace.segments
    waits = np.flatnonzero(trace.waits)
    low, high = segments.start_ns[waits], segments.end_ns[waits]
    window, place = line.on_tracks(Places(trace.spans.track[segments.owner[waits]]), low, high)
    start, end = line.clipped(window, low[place], high[place])
    idle = stretches.row == _code_of(trace, IDLE)
    return union(np.append(start, stretches.start_ns[idle]), np.append(end, stretches.end_ns[idle]))


def _elsewhere(trace: Trace, line: WindowLine, *, same_process: bool) -> tuple[IntArray, Stretches]:
    """The stages open on other threads than the requests', by window and start, and the window of each."""
    segments, spans = trace.stage_segments, trace.spans
    order = trace.stage_segments_order
    window, place = line.overlaps(segments.start_ns[order], segments.end_ns[order])
    place = order[place]
    track = spans.track[segments.owner[place]].astype(np.int64)
    chosen = track != line.track[window]
    if same_process:
        chosen &= trace.process[track] == trace.process[line.track[window]]
    window, place, track = window[chosen], place[chosen], track[chosen]
    is_free = ~_held_by_others(trace, line.index[window], segments.start_ns[place], track)
    window, place, track = window[is_free], place[is_free], track[is_free]
    start, end = line.clipped(window, segments.start_ns[place], segments.end_ns[place])
    owner = segments.owner[place]
    return window, Stretches(start, end, trace.stage_of_ranges(owner), track, spans.ts_ns[owner])


def _held_by_others(trace: Trace, request: IntArray, start_ns: IntArray, track: IntArray) -> BoolArray:
    """bool, what runs on the thread of another request than this one while that one is open."""
    if not len(track):
        return np.zeros(0, dtype=bool)
    window = trace.windows.at(track, start_ns)
    held: BoolArray = (window != NONE) & (window != request)
    return held


def _code_of(trace: Trace, stage: str) -> int:
    return trace.stage_names.index(stage) if stage in trace.stage_names else -1
