"""The wall time of requests cut into pieces, before anything is summed up: what the partition and its reasons share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np

from gemma_trace.analysis.intervals import Intervals, first_come, intersect, union
from gemma_trace.analysis.other_threads import lanes_elsewhere, stages_of_others, waiting_in
from gemma_trace.analysis.stretches import Stretches, overlaid, stage_stretches, working_for
from gemma_trace.analysis.window_line import WindowLine, lines
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.clients import works_for
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace

MOST_KEPT: Final = 4
"""A page asks for the pieces of its one request again and again; those of so many requests are kept with a trace."""

_kept: WeakKeyDictionary[Trace, dict[Request, Pieces]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Pieces:
    """The wall time of one request or more, cut up: each instant is in one of the pieces of `device` or of `idle`.

    All times are places of the line: of a single request, instants of the trace's clock.

    Attributes:
        line: the requests' windows.
        activity: int64 [m], the activities that are launched in a window or run in it, places in `trace.activities`,
            by window.
        window: int64 [m], the window of each.
        device: [m], of each activity the instants that it owns: those that no activity before it has.
        device_row: int64 [m], the stage code of each activity; the number of stages stands for `unlinked`.
        own: bool [m], which activities are the request's: launched in it, or unlinked and running in it.
        idle: [s], the stretches in which all devices are idle, cut where the stage that answers for them changes.
        idle_row: int64 [s], the stage code of each.
        idle_track: int64 [s], the thread on which that stage is open: the request's, or another one's.
        gaps: [g], the stretches in which the device is idle, whatever the host does.
        gap: int64 [s], the gap each idle stretch is in.
        stretches: [t], the request's thread cut where the stage changes.
        stretch_row: int64 [t], the stage code of each.
    """

    line: WindowLine
    activity: IntArray
    window: IntArray
    device: Intervals
    device_row: IntArray
    own: BoolArray
    idle: Intervals
    idle_row: IntArray
    idle_track: IntArray
    gaps: Intervals
    gap: IntArray
    stretches: Intervals
    stretch_row: IntArray


def cut(trace: Trace, request: int | Request) -> Pieces:
    """Cut a request's wall time up by what the device and the request's thread do; the last ones are kept."""
    (window,) = trace.chosen(request)
    kept = _kept.setdefault(trace, {})
    if window not in kept:
        while len(kept) >= MOST_KEPT:
            del kept[next(iter(kept))]
        kept[window] = _cut(trace, WindowLine.of([window]))
    return kept[window]


def cut_all(trace: Trace, requests: Sequence[Request]) -> Iterator[Pieces]:
    """Cut up several requests, as many at a time as keep memory in bounds."""
    if len(requests) == 1:
        yield cut(trace, requests[0])
        return
    for line in lines(trace, requests):
        yield _cut(trace, line)


def _cut(trace: Trace, line: WindowLine) -> Pieces:
    spans = trace.spans
    stretches = stage_stretches(trace, line)
    window, activity = _activities(trace, line, stretches)
    launch, index = trace.launch[activity], trace.activities[activity]
    linked = launch >= 0
    called = np.where(linked, spans.ts_ns[launch], -1)
    launched = linked & (line.start_ns[window] <= called) & (called < line.end_ns[window])
    row = np.full(len(activity), UNATTRIBUTED_CODE, dtype=np.int64)
    row[launched] = trace.activity_stage[activity[launched]]
    row[~linked] = len(trace.stage_names)
    ours = launched & trace.client_tracks[line.track[window]]
    row[ours] = stretches.row[stretches.at(line.places(called[ours], window[ours]))]
    start, end = line.clipped(window, spans.ts_ns[index], spans.ends_ns(index))
    idle_gaps = line.gaps(union(start, end))
    answering = answering_stretches(trace, line, stretches)
    idle_start, idle_end, stretch, gap = intersect((answering.start_ns, answering.end_ns), idle_gaps)
    return Pieces(
        line=line,
        activity=activity,
        window=window,
        device=first_come(start, end),
        device_row=row,
        own=launched | (~linked & (start < end)),
        idle=(idle_start, idle_end),
        idle_row=answering.row[stretch],
        idle_track=answering.track[stretch],
        gaps=idle_gaps,
        gap=gap,
        stretches=(stretches.start_ns, stretches.end_ns),
        stretch_row=stretches.row,
    )


def _activities(trace: Trace, line: WindowLine, stretches: Stretches) -> tuple[IntArray, IntArray]:
    """The pairs of a window and an activity that runs in it or is launched in it, by window and start.

    Args:
        stretches: the requests' threads.
    """
    spans, activities = trace.spans, trace.activities
    window, place = line.overlaps(spans.ts_ns[activities], spans.ends_ns(activities))
    linked = trace.launch_order
    launched, which = line.starts(spans.ts_ns[trace.launch[linked]])
    pairs = np.append(window, launched) * len(activities) + np.append(place, linked[which])
    window, place = np.divmod(distinct(pairs), max(len(activities), 1))
    is_client = trace.client_tracks[line.track[window]]
    if not is_client.any():
        return window, place
    kept = ~is_client | _is_for_client(trace, line, stretches, window, place)
    return window[kept], place[kept]


def _is_for_client(
    trace: Trace, line: WindowLine, stretches: Stretches, window: IntArray, place: IntArray
) -> BoolArray:
    """bool, whether an activity was launched when its window's request was in the very stage that launched it.

    A server's device works for other requests while one waits. What no launch is known of is the request's where it
    starts in a stage of the engine; a step that reads others' prompts is of its `decode` (see `works_for`).
    """
    launch, activity = trace.launch[place], trace.activities[place]
    asked = np.where(launch >= 0, launch, activity)
    asked_ns = trace.spans.ts_ns[asked]
    inside = (line.start_ns[window] <= asked_ns) & (asked_ns < line.end_ns[window])
    stretch = stretches.at(line.places(asked_ns, window))
    asked_for = trace.activity_stage[place].astype(np.int64)
    in_row, client = stretches.row[stretch], line.track[window]
    return inside & (stretch >= 0) & works_for(trace, in_row, client, asked_for, trace.spans.track[asked])


def answering_stretches(trace: Trace, line: WindowLine, known: Stretches | None = None) -> Stretches:
    """Whose time each instant is while all devices are idle: the request thread's stages, and others' in between.

    Args:
        known: what `stage_stretches` says, if it is known.
    """
    stretches = stage_stretches(trace, line) if known is None else known
    if trace.client_tracks[line.track].any():
        stretches = working_for(trace, stretches, lanes_elsewhere(trace, line))
    others = stages_of_others(trace, line)
    return overlaid(stretches, others, waiting_in(trace, line, stretches)) if len(others) else stretches
