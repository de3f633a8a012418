"""The requests of a trace: which windows of time they are, and which thread each runs on."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.arguments import is_whole, shown
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.stages import REQUEST_CODE
from gemma_trace.trace.events import NONE, IntArray, Track
from gemma_trace.trace.places import Places

if TYPE_CHECKING:
    from gemma_trace.trace.derived import Derived
    from gemma_trace.trace.trace import Trace

_PROFILER_STEP: Final = re.compile(r"ProfilerStep\s*#\s*\d+")

WHOLE_TRACE: Final = "whole trace"
"""The label of the one window of a trace that has neither requests nor steps."""


@dataclass(frozen=True)
class Request:
    """One request's window in a trace.

    Attributes:
        index: 0 for the first.
        label: "request 0", or what the window is in a trace that has no requests of ours.
        start_ns, end_ns: on the trace's clock.
        track: code of the thread that the request runs on.
    """

    index: int
    label: str
    start_ns: int
    end_ns: int
    track: int

    @property
    def wall_ns(self) -> int:
        """The window's length."""
        return self.end_ns - self.start_ns


def place_of(index: int, count: int, owner: str) -> int:
    """The index of a request, once it is known to be one.

    Args:
        count: how many requests there are.
        owner: what has them, for the message.

    Raises:
        ConfigError: it is no whole number.
        InputError: there is no request of this index.
    """
    if not is_whole(index):
        raise ConfigError(f"request={shown(index)} is neither an index nor a request of the trace")
    place = operator.index(index)
    if not 0 <= place < count:
        known = f"requests 0 to {count - 1}" if count > 1 else "request 0 alone"
        raise InputError(f"request {place} not found: {owner} has {known}")
    return place


def is_step_name(name: str) -> bool:
    """Whether a range of this name is a step of torch.profiler's schedule: `ProfilerStep#N`."""
    return _PROFILER_STEP.fullmatch(name) is not None


def requests_of(trace: Trace) -> tuple[Request, ...]:
    """The requests of a trace: our own ranges; failing those its `ProfilerStep#N`; failing those the whole trace.

    A request runs on the thread of its range; where that thread has no stage in the window and another one of its
    process has, on that one, as where a range is around a `generate` that a worker thread runs.
    """
    spans = trace.spans
    ours = np.flatnonzero(trace.stage_range == REQUEST_CODE)
    if len(ours):
        return tuple(_on_the_thread_of_its_work(trace, _windows(trace, ours, "request {index}")))
    is_step = np.array([is_step_name(name) for name in spans.names], dtype=bool)
    steps = np.flatnonzero(is_step[spans.name] & trace.is_annotation)
    if len(steps):
        return tuple(_on_the_thread_of_its_work(trace, _windows(trace, steps, "{name}")))
    everything = np.flatnonzero(trace.on_host | trace.is_activity)
    start, end = int(spans.ts_ns[everything].min()), int(spans.ends_ns(everything).max())
    threads = main_threads(trace)
    return (Request(0, WHOLE_TRACE, start, end, next(iter(threads.values()), int(spans.track[everything[0]]))),)


def _windows(trace: Trace, indices: IntArray, label: str) -> Iterable[Request]:
    spans = trace.spans
    columns = (spans.name[indices], spans.ts_ns[indices], spans.ends_ns(indices), spans.track[indices])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for position, (name, start, end, track) in enumerate(rows):
        yield Request(position, label.format(index=position, name=spans.names[name]), start, end, track)


def _on_the_thread_of_its_work(trace: Trace, requests: Iterable[Request]) -> Iterable[Request]:
    spans = trace.spans
    ranges = np.flatnonzero((trace.stage_range != NONE) & (trace.stage_range != REQUEST_CODE))
    starts, tracks = spans.ts_ns[ranges], spans.track[ranges]
    process = process_of_tracks(trace)
    for request in requests:
        low, high = np.searchsorted(starts, (request.start_ns, request.end_ns))
        inside = ranges[low:high]
        on = tracks[low:high]
        elsewhere = inside[process[on] == process[request.track]]
        if len(elsewhere) and request.track not in on:
            covered = np.bincount(spans.track[elsewhere], spans.dur_ns[elsewhere])
            request = replace(request, track=int(covered.argmax()))
        yield request


def process_of_tracks(trace: Derived) -> IntArray:
    """int64 [tracks], a number for the process of each track, the same for the same process."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(track.pid, len(numbers)) for track in trace.spans.tracks], dtype=np.int64)


def main_threads(trace: Trace) -> dict[int, int]:
    """By the number of the process, in the order of their first spans, the thread that asks for the work of others.

    The one with annotations or steps; of several, or where there is none, the process's main thread (whose id is the
    process's); else the one whose outermost spans cover most time.
    """
    spans, host = trace.spans, trace.host
    tracks = spans.track[host]
    annotated = np.zeros(len(spans.tracks), dtype=bool)
    annotated[spans.track[trace.is_annotation | (trace.stage_range != NONE)]] = True
    process = process_of_tracks(trace)
    known, first = np.unique(tracks, return_index=True)
    main_thread: dict[int, int] = {}
    of_process, on_track = Places(process[known]), Places(tracks)
    for number in dict.fromkeys(process[known[np.argsort(first)]].tolist()):
        threads = known[of_process.of(number)].tolist()
        best = max((annotated[code], _is_main(spans.tracks[code])) for code in threads)
        alike = [code for code in threads if (annotated[code], _is_main(spans.tracks[code])) == best]
        main_thread[number] = (
            alike[0] if len(alike) == 1 else max(alike, key=lambda code: _covered_ns(trace, host[on_track.of(code)]))
        )
    return main_thread


def _is_main(track: Track) -> bool:
    return track.tid == track.pid


def _covered_ns(trace: Trace, spans_of_request: IntArray) -> int:
    """How long a thread, of which these are the spans, is in any of them."""
    spans = trace.spans
    covered = np.maximum.accumulate(spans.ends_ns(spans_of_request))
    before = np.append(spans.ts_ns[spans_of_request[:1]], covered[:-1])
    return int(np.maximum(covered - np.maximum(before, spans.ts_ns[spans_of_request]), 0).sum())
