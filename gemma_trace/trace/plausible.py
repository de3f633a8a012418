"""Times that can't be: spans decades away from all others are left out, lengths that overflow are cut.

Some profilers leave a device activity at time zero, or give it an end that belongs to another. One such span makes the
trace decades long, or a stage that took a microsecond the largest. What is done here is counted and is a finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gemma_trace.trace.events import DEVICE_CATEGORIES, LAUNCH_CATEGORIES, BoolArray, Events, IntArray
from gemma_trace.trace.named_spans import named
from gemma_trace.trace.places import distinct

YEAR_NS: Final = 365 * 86_400 * 10**9
"""What lies further from the rest than this isn't of the same trace, and no span lasts as long."""

MAX_EXTENT_NS: Final = 2**60
"""Spans of one trace lie within this, 36 years: four times as much still fits 64 bits, and so all sums are exact."""

MAX_SUM_NS: Final = 2**62
"""What the lengths of a trace's spans may sum up to."""

APART_NS: Final = 3600 * 10**9
"""Spans that are nearer than this belong together, wherever they are."""

LENGTH_FACTOR: Final = 3
"""A length is wrong where an activity runs over all of a later one of its stream, and is over this many times as long
as the longest of its name that runs over none; failing one, of all."""

WAIT_FACTOR: Final = 10
"""The same where it goes on after a call that waited for it, which a clock that is off makes many do."""

RARE_SHARE: Final = 0.02
"""Such a fault is rare: where more than three, and more than this share, are so, the stream ran several at once."""

_WAITS_FOR_ALL: Final = re.compile(r"(?>\w*?(?:Device|Ctx)Synchronize)\w*")

_FAR: Final = np.iinfo(np.int64).max

LEAST_OVERLAP_NS: Final = 1_000
"""What overlaps by less is the clock's own coarseness."""


@dataclass(frozen=True)
class Overlong:
    """A device activity whose length can't be.

    Attributes:
        span: its index among the spans.
        recorded_ns: its length in the file.
        counted_ns: what counts everywhere: up to the start of the next one of its stream, or to the end of a call that
            waited for it.
        over: how many later activities of its stream it ran over.
        overlap_ns: by how much, summed.
    """

    span: int
    recorded_ns: int
    counted_ns: int
    over: int
    overlap_ns: int


@dataclass(frozen=True)
class Implausible:
    """What was left out or cut.

    Attributes:
        displaced: spans at time zero, or over `YEAR_NS` from all others or long; left out.
        displaced_activities: those of them that are of a device.
        overlong: the longest first.
    """

    displaced: int = 0
    displaced_activities: int = 0
    overlong: tuple[Overlong, ...] = ()


def plausible(events: Events) -> tuple[Events, Implausible]:
    """The spans whose times can be, with lengths that can be, and what was wrong with the others."""
    displaced = _displaced(events)
    is_activity = events.in_categories(DEVICE_CATEGORIES)
    if displaced is None:
        count, activities = 0, 0
    else:
        count, activities = int(displaced.sum()), int((displaced & is_activity).sum())
        events, is_activity = events.taken(~displaced), is_activity[~displaced]
    overlong = _overlong(events, np.flatnonzero(is_activity))
    if overlong:
        dur_ns = events.dur_ns.copy()
        dur_ns[[each.span for each in overlong]] = [each.counted_ns for each in overlong]
        events = replace(events, dur_ns=dur_ns)
    return events, Implausible(count, activities, overlong)


def can_be_summed(events: Events) -> bool:
    """Whether the spans' times are of a size of which no sum leaves 64 bits: see `MAX_EXTENT_NS`, `MAX_SUM_NS`."""
    if not len(events):
        return True
    extent_ns = int(events.end_ns.max()) - int(events.ts_ns.min())
    return extent_ns <= MAX_EXTENT_NS and float(events.dur_ns.sum(dtype=np.float64)) <= MAX_SUM_NS


def _displaced(events: Events) -> BoolArray | None:
    """bool [n], which spans lie or end absurdly far from the rest; None where none does."""
    ts_ns = events.ts_ns
    endless = events.dur_ns > YEAR_NS
    if not len(ts_ns) or (int(ts_ns[-1]) - int(ts_ns[0]) < APART_NS and not endless.any()):
        return None
    # As floats: the distance of two times may be more than 64 bits hold.
    at = ts_ns.astype(np.float64)
    cluster = np.cumsum(np.append(0, np.diff(at) > APART_NS))
    first = np.searchsorted(cluster, np.arange(cluster[-1] + 1))
    last = np.append(first[1:], len(at)) - 1
    on_host = np.bincount(cluster[~endless & ~events.in_categories(DEVICE_CATEGORIES)], minlength=len(first))
    bulk = int(np.lexsort((last - first, on_host))[-1])
    distance = np.maximum(at[first[bulk]] - at[last], at[first] - at[last[bulk]])
    at_zero = (ts_ns[first] == 0) & (ts_ns[last] == 0)
    lost = at_zero[cluster] & (at + events.dur_ns < at[first[bulk]] - APART_NS)
    is_displaced: BoolArray = (distance > YEAR_NS)[cluster] | lost | endless
    return is_displaced if is_displaced.any() and not is_displaced.all() else None


@dataclass(frozen=True)
class Overlaps:
    """How activities overlap on their streams. All columns have the length m of the activities given.

    Attributes:
        over: int64, how many later ones of its stream each runs over.
        until_ns: int64, the start of the next one of its stream; its own end where it is the last.
        next_end_ns: int64, the end of that one; far away where there is none.
        covered_ns: int64, how much of each the earlier ones of its stream run over.
    """

    over: IntArray
    until_ns: IntArray
    next_end_ns: IntArray
    covered_ns: IntArray


def overlaps(events: Events, activities: IntArray) -> Overlaps:
    """Find the activities that start before an earlier one of their stream has ended.

    Args:
        activities: int64 [m], indices of device activities, by start.
    """
    start, end = events.ts_ns[activities], events.ends_ns(activities)
    over, covered_ns = (np.zeros(len(activities), dtype=np.int64) for _ in range(2))
    until_ns, next_end_ns = end.copy(), np.full(len(activities), _FAR)
    for on_stream in _streams(events, activities):
        starts, ends = start[on_stream], end[on_stream]
        until_ns[on_stream[:-1]], next_end_ns[on_stream[:-1]] = starts[1:], ends[1:]
        reached = np.append(starts[:1], np.maximum.accumulate(ends)[:-1])
        covered_ns[on_stream] = np.maximum(np.minimum(reached, ends) - starts, 0)
        # From an activity's own place to the first that starts no earlier than its end.
        later = np.searchsorted(starts, ends, side="left") - np.arange(len(on_stream)) - 1
        over[on_stream] = np.maximum(later, 0)
    return Overlaps(over, until_ns, next_end_ns, covered_ns)


def _streams(events: Events, activities: IntArray) -> list[IntArray]:
    """The places of the activities of each stream, by start."""
    if not len(activities):
        return []
    stream = np.stack((events.track[activities], events.device[activities], events.stream[activities]))
    order = np.lexsort((np.arange(len(activities)), *stream))
    fresh = (np.diff(stream[:, order]) != 0).any(axis=0)
    return np.split(order, np.flatnonzero(fresh) + 1)


def _overlong(events: Events, activities: IntArray) -> tuple[Overlong, ...]:
    """The activities whose length can't be, the longest first."""
    crossed = overlaps(events, activities)
    start, end = events.ts_ns[activities], events.ends_ns(activities)
    until_ns = np.minimum(crossed.until_ns, _waited_for(events, activities))
    runs_over = end - until_ns >= LEAST_OVERLAP_NS
    if not runs_over.any():
        return ()
    length, name = end - start, events.name[activities]
    through = (crossed.over > 1) | ((crossed.over > 0) & (end >= crossed.next_end_ns))
    sound = ~runs_over
    longest = np.zeros(len(events.names), dtype=np.int64)
    np.maximum.at(longest, name[sound], length[sound])
    usual = np.where(longest > 0, longest, longest.max(initial=0))[name]
    factor = np.where(through, LENGTH_FACTOR, WAIT_FACTOR)
    wrong = np.flatnonzero(runs_over & (through | (crossed.over == 0)) & (usual > 0) & (length > factor * usual))
    if int((runs_over & through).sum()) > max(3, RARE_SHARE * len(activities)):
        return ()
    stream = {
        int(place): on_stream
        for on_stream in _streams(events, activities)
        for place in np.intersect1d(on_stream, wrong)
    }
    overlong = []
    for place in wrong[np.argsort(-length[wrong], kind="stable")].tolist():
        later = stream[place][np.searchsorted(stream[place], place) + 1 :][: int(crossed.over[place])]
        overlong.append(
            Overlong(
                span=int(activities[place]),
                recorded_ns=int(length[place]),
                counted_ns=int(until_ns[place] - start[place]),
                over=len(later),
                overlap_ns=int((np.minimum(end[later], end[place]) - start[later]).sum()),
            )
        )
    return tuple(overlong)


def _waited_for(events: Events, activities: IntArray) -> IntArray:
    """int64 [m], by when each has ended, since a call that began after it and waits for the whole device returned.

    Known where one process has one device; far away where it isn't.
    """
    far = np.full(len(activities), _FAR)
    calls = np.flatnonzero(events.in_categories(LAUNCH_CATEGORIES))
    processes = {events.tracks[code].pid for code in distinct(events.track[calls]).tolist()}
    if len(processes) != 1 or len(distinct(events.device[activities])) != 1:
        return far
    calls = calls[named(events, calls, _WAITS_FOR_ALL)]
    if not len(calls):
        return far
    returned = np.minimum.accumulate(events.ends_ns(calls)[::-1])[::-1]
    place = np.searchsorted(events.ts_ns[calls], events.ts_ns[activities], side="right")
    return np.where(place < len(calls), returned[np.minimum(place, len(calls) - 1)], far)
