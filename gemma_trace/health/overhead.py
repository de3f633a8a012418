"""Findings about time that is no program's steady work: the profiler's own, and a cold start's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gemma_trace.analysis.cold import INNER_SHARE, MOST_CALLS, LongCalls, is_inside, long_calls
from gemma_trace.analysis.intervals import Intervals, intersect, union
from gemma_trace.analysis.overhead import overhead_of
from gemma_trace.analysis.timeline import Request
from gemma_trace.health.findings import COLD_START, Finding, Severity
from gemma_trace.health.times import span_text
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

NOTABLE_OVERHEAD: Final = 0.05
"""A profiler that holds the program up for a larger share of the time changes where the time goes."""

WORTH_KNOWING: Final = 0.001
"""A smaller share of overhead is none."""

COLD_SHARE: Final = 0.25
"""A cold start that takes a larger share of the time is no steady state."""

COLD_WORTH_KNOWING: Final = 0.1


def overhead_findings(trace: Trace) -> Iterator[Finding]:
    """How much of the requests' time the profiler holds their threads up, and how much goes to a cold start."""
    if not len(trace.host):
        return
    requests = trace.requests
    wall_ns = sum(request.wall_ns for request in requests)
    if wall_ns:
        yield from _profiler(trace, requests, wall_ns)
        yield from _cold_start(trace, requests, wall_ns)


def _profiler(trace: Trace, requests: Sequence[Request], wall_ns: int) -> Iterator[Finding]:
    total_ns, events = 0, 0
    for track, windows in _windows(requests).items():
        held, span = overhead_of(trace, track)
        low, high, which, _ = intersect(held, windows)
        total_ns += int((high - low).sum())
        events += len(distinct(span[which]))
    share = total_ns / wall_ns
    if share < WORTH_KNOWING:
        return
    notable = share >= NOTABLE_OVERHEAD
    yield Finding(
        "profiler_overhead",
        Severity.WARNING if notable else Severity.INFO,
        events,
        f"the profiler itself held the program up for {total_ns / 1e6:,.3f} ms, {100 * share:.1f}% of the time "
        f"({counted(events, 'event')} of its own overhead)",
        "do not count it as the program's time (stages --why shows it), and profile fewer steps, or without stacks and "
        "shapes"
        if notable
        else "nothing to do",
    )


def _cold_start(trace: Trace, requests: Sequence[Request], wall_ns: int) -> Iterator[Finding]:
    calls = long_calls(trace)
    calls = calls.of(calls.cold)
    if not len(calls.span):
        return
    elsewhere = _elsewhere(trace)
    total_ns = 0
    on_track = Places(trace.spans.track[calls.span])
    for track, windows in _windows(requests).items():
        on_thread = calls.span[on_track.of(track)]
        total_ns += _beyond(trace, on_thread, elsewhere, windows)
    share = total_ns / wall_ns
    if share < COLD_WORTH_KNOWING:
        return
    span, longest_ns, usual_ns = _longest(trace, calls, elsewhere)
    usual = "" if np.isnan(usual_ns) else f" (the others: {usual_ns / 1e3:,.1f} µs, median)"
    yield Finding(
        COLD_START,
        Severity.WARNING if share >= COLD_SHARE else Severity.INFO,
        len(calls.span),
        f"first calls of their kind, and calls that make memory, streams or code, take {total_ns / 1e6:,.1f} ms, "
        f"{100 * share:.0f}% of the time, the longest being one {span_text(trace, span)} of {longest_ns / 1e6:,.1f} ms"
        f"{usual}",
        "run some steps before the profiler starts (schedule(wait=…, warmup=…)), or look at later steps only",
    )


def _elsewhere(trace: Trace) -> Intervals:
    """When the device is busy, or a thread waits, copies, or is held up by the profiler: that is no cold start's."""
    spans = trace.spans
    waits = np.array(["Synchronize" in name or "Memcpy" in name for name in spans.names], dtype=bool)
    calls = np.flatnonzero(waits[spans.name] & trace.is_call)
    overhead = np.flatnonzero(spans.in_categories(frozenset({"overhead"})))
    everything = np.concatenate((trace.activities, calls, overhead))
    return union(spans.ts_ns[everything], spans.ends_ns(everything))


def _windows(requests: Sequence[Request]) -> dict[int, Intervals]:
    """By thread, when its requests run."""
    windows: dict[int, list[tuple[int, int]]] = {}
    for request in requests:
        windows.setdefault(request.track, []).append((request.start_ns, request.end_ns))
    return {track: union(*np.array(edges, dtype=np.int64).T) for track, edges in windows.items()}


def _beyond(trace: Trace, calls: IntArray, elsewhere: Intervals, windows: Intervals) -> int:
    """How much of these windows the calls fill beyond what else is going on."""
    start, end = trace.spans.ts_ns[calls], trace.spans.ends_ns(calls)
    both = union(np.concatenate((start, elsewhere[0])), np.concatenate((end, elsewhere[1])))
    with_calls, without = (intersect(intervals, windows) for intervals in (both, elsewhere))
    return int((with_calls[1] - with_calls[0]).sum() - (without[1] - without[0]).sum())


def _longest(trace: Trace, calls: LongCalls, elsewhere: Intervals) -> tuple[int, int, float]:
    """The call with most of the time, the innermost where several hold it: its span, its length, and what is usual."""
    spans = trace.spans
    order = np.argsort(-spans.dur_ns[calls.span], kind="stable")[:MOST_CALLS]
    whole = (spans.ts_ns[:1], np.array([spans.end_ns.max()]))
    time_ns = {place: _beyond(trace, calls.span[place : place + 1], elsewhere, whole) for place in order.tolist()}
    outer = max(time_ns, key=lambda place: time_ns[place])
    inside = [place for place in time_ns if is_inside(spans, int(calls.span[place]), int(calls.span[outer]))]
    innermost = [place for place in inside if time_ns[place] >= INNER_SHARE * time_ns[outer]][-1]
    span = int(calls.span[innermost])
    return span, int(spans.dur_ns[span]), float(calls.usual_ns[innermost])
