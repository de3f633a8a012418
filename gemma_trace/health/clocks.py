"""Findings about the clocks of host and device: activities before their launch, or after a call that waited for them.

An activity starts after the call that launched it was made, and has ended when a call that waits for it returns. A
clock of the device that is behind or ahead of the host's breaks one of the two; how far it is off at least follows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from gemma_trace.health.findings import CLOCK_SHIFT, Finding, Severity
from gemma_trace.trace.events import NONE, Codes, IntArray
from gemma_trace.trace.named_spans import named
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

TOLERANCE_NS: Final = 10_000
"""Clocks of host and device may be as far apart as this; profilers match them no better."""

MEANINGLESS_SHARE: Final = 0.01
"""A shift over this share of a request moves so much time from one side or stage to another."""

OUTLIER_FACTOR: Final = 10
"""One activity that is off by over this many times as much as all others, of three or more, is a fault of its own."""

SURE_WAIT_NS: Final = 20_000
"""A call that waits for a stream which the trace doesn't name, and takes longer, waited for the only one there is."""

_FOR_DEVICE: Final = re.compile(r"(?>\w*?(?:Device|Ctx)Synchronize)\w*")
_FOR_STREAM: Final = re.compile(r"(?>\w*?StreamSynchronize)\w*")
_TO_HOST: Final = re.compile(r"(?>.*?(?:DtoH|DeviceToHost)).*")
_BLOCKS: Final = re.compile(r"(?:cuda|hip)Memcpy(?:WithStream)?(?:_v\w+)?")
_FAR: Final = np.iinfo(np.int64).max


class _Off(NamedTuple):
    """Activities that are off, by how much at least: int64 places among the activities, and ns above zero."""

    place: IntArray
    by_ns: IntArray

    def least_shift_ns(self) -> int:
        """The shift that makes all of them right, but for one that is far off from all others."""
        if not len(self.by_ns):
            return 0
        ascending = np.sort(self.by_ns)
        alone = len(ascending) >= 3 and ascending[-1] > OUTLIER_FACTOR * ascending[-2]
        return int(ascending[-2] if alone else ascending[-1])


def clock_findings(trace: Trace) -> Iterator[Finding]:
    """Where the clocks of host and device disagree, and by how much."""
    early, late = _early(trace), _late(trace)
    behind_ns, ahead_ns = early.least_shift_ns(), late.least_shift_ns()
    if max(behind_ns, ahead_ns) > TOLERANCE_NS:
        yield _shift(trace, early, late)
    elif len(early.place):
        yield Finding(
            "activities_before_launch",
            Severity.WARNING,
            len(early.place),
            f"device activities that start before the call that launched them: {len(early.place):,}, by up to "
            f"{early.by_ns.max() / 1e3:,.3f} µs; the clocks of host and device disagree",
            "shares near stage boundaries may be off; capture again with a newer driver",
        )


def _shift(trace: Trace, early: _Off, late: _Off) -> Finding:
    behind_ns, ahead_ns = early.least_shift_ns(), late.least_shift_ns()
    facts, least_ns = [], max(behind_ns, ahead_ns)
    if len(early.place):
        facts.append(f"{len(early.place):,} activities start before the call that launched them")
    if len(late.place):
        facts.append(f"{len(late.place):,} end after a call that waited for them had returned")
    if behind_ns > TOLERANCE_NS and ahead_ns > TOLERANCE_NS:
        how = f"by {behind_ns / 1e6:,.3f} ms one way and {ahead_ns / 1e6:,.3f} ms the other, so no shift corrects both"
    else:
        which = "behind" if behind_ns >= ahead_ns else "ahead of"
        how = f"the device's is {which} the host's by at least {least_ns / 1e6:,.3f} ms"
    walls = [request.wall_ns for request in trace.requests]
    meaningless = least_ns > MEANINGLESS_SHARE * float(np.median(walls))
    return Finding(
        CLOCK_SHIFT,
        Severity.ERROR if meaningless else Severity.WARNING,
        len(early.place) + len(late.place),
        f"the clocks of host and device disagree, {how}: {', '.join(facts)}, of {len(trace.activities):,}",
        "do not trust the figures of idle time, waits and launches, or the split of time between host, device and "
        "stages; sums of kernels are right. Capture again with a newer driver"
        if meaningless
        else "shares near stage boundaries may be off by as much; capture again with a newer driver",
    )


def _early(trace: Trace) -> _Off:
    """Activities that start before their launch."""
    spans = trace.spans
    linked = np.flatnonzero(trace.launch >= 0)
    by_ns = spans.ts_ns[trace.launch[linked]] - spans.ts_ns[trace.activities[linked]]
    off = by_ns > 0
    return _Off(linked[off], by_ns[off])


def _late(trace: Trace) -> _Off:
    """Activities that end after a call that waited for them had returned, by more than the tolerance."""
    returned = np.minimum(_after_synchronising(trace), _after_copying(trace))
    end = trace.spans.ends_ns(trace.activities)
    known = returned < _FAR
    by_ns = np.where(known, end - np.where(known, returned, 0), 0)
    off = np.flatnonzero(by_ns > TOLERANCE_NS)
    return _Off(off, by_ns[off])


def _after_copying(trace: Trace) -> IntArray:
    """int64 [m], when the call returned that copied to the host and waited for it; far away for all other activities.

    Calls that copy to memory which isn't pinned return once the copy has ended.
    """
    spans, activities, launch = trace.spans, trace.activities, trace.launch
    known = np.maximum(launch, 0)
    pageable = np.array(["Pageable" in name for name in spans.names], dtype=bool)[spans.name[activities]]
    to_host = named(spans, activities, _TO_HOST)
    waits = (launch >= 0) & to_host & (pageable | named(spans, known, _BLOCKS))
    return np.where(waits, spans.ends_ns(known), _FAR)


def _after_synchronising(trace: Trace) -> IntArray:
    """int64 [m], when the first call returned that was made after an activity's launch and waits for it."""
    spans, activities, launch = trace.spans, trace.activities, trace.launch
    returned = np.full(len(activities), _FAR)
    numbers = {pid: number for number, pid in enumerate(dict.fromkeys(track.pid for track in spans.tracks))}
    process = np.array([numbers[track.pid] for track in spans.tracks], dtype=np.int64)
    linked = np.flatnonzero(launch >= 0)
    calls = np.flatnonzero(trace.is_call)
    for_device, for_stream = named(spans, calls, _FOR_DEVICE), named(spans, calls, _FOR_STREAM)
    stream = _streams_of(trace, calls)
    for its_process in distinct(process[spans.track[launch[linked]]]).tolist():
        of_process = linked[process[spans.track[launch[linked]]] == its_process]
        called = process[spans.track[calls]] == its_process
        devices, streams = (
            distinct(spans.device[activities[of_process]]),
            distinct(spans.stream[activities[of_process]]),
        )
        if len(devices) == 1:  # of several it isn't known which one a call waits for
            _bound(trace, returned, of_process, calls[called & for_device])
            for code in streams.tolist():
                alone = (stream == NONE) & (spans.dur_ns[calls] > SURE_WAIT_NS) & (len(streams) == 1)
                chosen = calls[called & for_stream & ((stream == code) | alone)]
                _bound(trace, returned, of_process[spans.stream[activities[of_process]] == code], chosen)
    return returned


def _bound(trace: Trace, returned: IntArray, places: IntArray, calls: IntArray) -> None:
    """Lower `returned` of these activities to the return of the first of these calls after their launch."""
    if not len(calls) or not len(places):
        return
    spans = trace.spans
    ends = np.minimum.accumulate(spans.ends_ns(calls)[::-1])[::-1]
    place = np.searchsorted(spans.ts_ns[calls], spans.ends_ns(trace.launch[places]), side="left")
    end_ns = np.where(place < len(calls), ends[np.minimum(place, len(calls) - 1)], _FAR)
    returned[places] = np.minimum(returned[places], end_ns)


def _streams_of(trace: Trace, calls: IntArray) -> Codes:
    """The stream that each call names, itself or in the span of its wait on the device; `NONE` for none."""
    spans = trace.spans
    waits = np.flatnonzero(spans.in_categories(frozenset({"cuda_sync"})) & (spans.correlation > 0))
    stream = spans.stream[calls].copy()
    if not len(waits):
        return stream
    waits = waits[np.argsort(spans.correlation[waits], kind="stable")]
    place = np.minimum(np.searchsorted(spans.correlation[waits], spans.correlation[calls]), len(waits) - 1)
    told = (stream == NONE) & (spans.correlation[waits][place] == spans.correlation[calls])
    return np.where(told, spans.stream[waits][place], stream)
