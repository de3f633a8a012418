"""Who asked for what other threads do: the stage open on the request's thread, or that of the forward op."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gemma_trace.stages import REQUEST_CODE
from gemma_trace.trace.events import NONE, CodeArray, Codes, IntArray
from gemma_trace.trace.links import link_backward
from gemma_trace.trace.open_spans import OpenSpans
from gemma_trace.trace.requests import main_threads, process_of_tracks

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace


class AskingThreads:
    """Which thread asks for what other threads of its process do at an instant."""

    def __init__(self, trace: Trace) -> None:
        self._process = process_of_tracks(trace)
        self._main = np.full(int(self._process.max(initial=0)) + 1, NONE, dtype=np.int64)
        for number, track in main_threads(trace).items():
            self._main[number] = track
        requests = sorted(trace.requests, key=lambda request: (request.start_ns, -request.end_ns))
        self._tracks = np.array([request.track for request in requests], dtype=np.int64)
        start = np.array([request.start_ns for request in requests], dtype=np.int64)
        end = np.array([request.end_ns for request in requests], dtype=np.int64)
        self._windows = OpenSpans(start, end, self._process[self._tracks])

    def at(self, track: Codes, ts_ns: IntArray) -> IntArray:
        """The thread of the request that is open in a thread's process, of several the last begun; else its main one.

        Args:
            track: integer [q], codes of threads.
            ts_ns: int64 [q].

        Returns:
            int64 [q], codes of threads; `NONE` for a process without any.
        """
        process = self._process[track]
        window = self._windows.at(process, ts_ns)
        return np.where(window >= 0, self._tracks[window], self._main[process])


def asking_ranges(trace: Trace) -> CodeArray:
    """int32 [n], the index of the stage range that asked for each span of the host; see `Trace.asking_range`."""
    innermost = trace.innermost_range
    backward, forward = link_backward(trace.spans, trace.flows, np.flatnonzero(trace.is_op))
    asked = np.zeros(len(trace.spans), dtype=bool)
    asked[backward] = True
    gradient = trace.innermost(asked)
    missing = np.flatnonzero(trace.on_host & (innermost == NONE) & (trace.is_call | (gradient >= 0)))
    if not len(missing) or not len(trace.stage_ranges):
        return innermost
    track, ts_ns = trace.spans.track[missing], trace.spans.ts_ns[missing]
    asking = AskingThreads(trace).at(track, ts_ns)
    asked_by = np.where(asking != track, trace.stage_range_at(asking, ts_ns), NONE)
    of_forward = np.full(len(trace.spans) + 1, NONE, dtype=np.int64)  # the last is for no gradient
    of_forward[backward] = innermost[forward]
    is_stage = (asked_by >= 0) & (trace.stage_range[asked_by] != REQUEST_CODE)
    through = of_forward[gradient[missing]]
    asking_range = innermost.copy()
    asking_range[missing] = np.where(is_stage | (through == NONE), asked_by, through)
    return asking_range
