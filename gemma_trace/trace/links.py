"""What belongs to what across threads: device activity → the call that launched it; backward op → its forward op."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.events import LAUNCH_CATEGORIES, NONE, BoolArray, Codes, Events, Flows, IntArray
from gemma_trace.trace.places import Places, distinct, is_among

FORWARD_BACKWARD: frozenset[str] = frozenset({"fwdbwd"})
"""Category of the arrows from an op to the op of the autograd thread that computes its gradient."""


MOST_PROCESSES: Final = 1024
"""Of more processes than this none is told for an activity: a file of so many was not merged from a run's."""


def link_launches(events: Events, flows: Flows, activities: IntArray, host: IntArray) -> IntArray:
    """The call that launched each device activity.

    The one on the host with the same correlation id, whatever the call is named; where several spans carry the id,
    calls of a runtime or driver come first. Ids repeat where files were merged or a process had several sessions: then
    it is the latest that starts before the activity, in the activity's own process where the trace tells that. Failing
    all this, the call from which an arrow leads to the activity.

    Args:
        events: the trace's spans.
        flows: its arrows.
        activities: int64 [m], indices of the device activities.
        host: int64 [k], indices of the spans on the host.

    Returns:
        int64 [m], index of the launching call, `NONE` for an activity that has none in this trace.
    """
    launch = _by_correlation(events, activities, host)
    left = np.flatnonzero(launch == NONE)
    if len(left) and len(flows):
        launch[left] = _by_flow(events, flows, activities[left], host)
    return launch


def link_backward(events: Events, flows: Flows, ops: IntArray) -> tuple[IntArray, IntArray]:
    """The arrows from forward to backward ops.

    Args:
        ops: int64, indices of the ops, by start.

    Returns:
        int64 [a] each: the backward ops, and the forward op of each.
    """
    is_gradient = np.array([cat in FORWARD_BACKWARD for cat in flows.cats], dtype=bool)
    chosen = is_gradient[flows.cat] if len(flows) else np.zeros(0, dtype=bool)
    sources, targets = _arrows(flows, chosen)
    if not len(targets):
        return targets, targets
    at = SpanFinder(events, ops)
    backward = at.find(flows.track[targets], flows.ts_ns[targets])
    forward = at.find(flows.track[sources], flows.ts_ns[sources])
    both = (backward >= 0) & (forward >= 0)
    return backward[both], forward[both]


def _by_correlation(events: Events, activities: IntArray, host: IntArray) -> IntArray:
    calls = _with_correlation(events, host)
    if not len(calls) or not len(activities):
        return np.full(len(activities), NONE, dtype=np.int64)
    ids = events.correlation[calls]
    wanted = events.correlation[activities]
    if (np.diff(ids) == 0).any():
        return _latest_before(events, activities, calls)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where((wanted > 0) & (ids[place] == wanted), calls[place], NONE)


def _with_correlation(events: Events, host: IntArray) -> IntArray:
    """The calls that may have launched an activity, by id and start.

    Those of a runtime or driver; of an id that has none of them, whatever span of the host carries it. A call that is
    made inside another one of its id is the same launch.
    """
    calls = host[events.correlation[host] > 0]
    is_launch = events.in_categories(LAUNCH_CATEGORIES)[calls]
    if not is_launch.all():
        launched = distinct(events.correlation[calls[is_launch]])
        calls = calls[is_launch | ~is_among(events.correlation[calls], launched)]
    calls = calls[np.argsort(events.correlation[calls], kind="stable")]  # of one id they ascend by start
    again = np.flatnonzero(np.diff(events.correlation[calls]) == 0)
    outer, inner = calls[again], calls[again + 1]
    within = (events.track[outer] == events.track[inner]) & (events.ts_ns[inner] < events.ends_ns(outer))
    return np.delete(calls, again[within] + 1)


def repeated_ids(events: Events, host: IntArray) -> tuple[int, int]:
    """How many correlation ids have launches in two processes or more, and how many others have several in one."""
    calls = _with_correlation(events, host)
    ids = events.correlation[calls]
    repeated = distinct(ids[1:][np.diff(ids) == 0])
    process = _process(events, calls)
    order = np.lexsort((process, ids))
    fresh = np.append(True, (np.diff(ids[order]) != 0) | (np.diff(process[order]) != 0))[: len(order)]
    pairs = ids[order][fresh]
    several = distinct(pairs[1:][np.diff(pairs) == 0])
    return len(several), len(repeated) - len(several)


def _process(events: Events, spans: IntArray) -> IntArray:
    """int64, a number for the process of each span."""
    numbers: dict[str, int] = {}
    of_track = [numbers.setdefault(track.pid, len(numbers)) for track in events.tracks]
    return np.array(of_track, dtype=np.int64)[events.track[spans]]


def _latest_before(events: Events, activities: IntArray, calls: IntArray) -> IntArray:
    """Of the calls with an activity's id the latest that starts before it, in its own process where that is known.

    Where all of them start after it, the clocks of host and device disagree, and it is the earliest.
    """
    process = _process(events, calls)
    device_process = _process_of_activities(events, activities, calls, process)
    latest = np.full(len(activities), NONE, dtype=np.int64)
    for number in distinct(device_process).tolist():
        of_process = np.flatnonzero(device_process == number)
        candidates = calls if number == NONE else calls[process == number]
        latest[of_process] = _latest(events, activities[of_process], candidates)
    # Launched by a process that isn't the device's usual one.
    missing = np.flatnonzero((latest == NONE) & (device_process != NONE))
    latest[missing] = _latest(events, activities[missing], calls)
    return latest


def _latest(events: Events, activities: IntArray, calls: IntArray) -> IntArray:
    if not len(calls):
        return np.full(len(activities), NONE, dtype=np.int64)
    ids, starts = events.correlation[calls], events.ts_ns[calls]
    wanted, when = events.correlation[activities], events.ts_ns[activities]
    # Calls and activities are sorted together, by id and time; a call comes before an activity of its instant.
    kind = np.concatenate((np.zeros(len(calls), np.int64), np.ones(len(activities), np.int64)))
    order = np.lexsort((kind, np.concatenate((starts, when)), np.concatenate((ids, wanted))))
    is_call = order < len(calls)
    last = np.maximum.accumulate(np.where(is_call, np.arange(len(order)), NONE))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.where(last >= 0, order[last], NONE)
    before = place[len(calls) :]
    valid = (before >= 0) & (ids[before] == wanted)
    first = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    fallback = np.where(ids[first] == wanted, calls[first], NONE)
    return np.where(wanted > 0, np.where(valid, calls[before], fallback), NONE)


def _process_of_activities(events: Events, activities: IntArray, calls: IntArray, process: IntArray) -> IntArray:
    """int64 [m], the process that a trace of several tells for each activity; `NONE` where it tells none.

    Files that were merged one after the other keep each process's events together. Failing that, a device belongs to
    the process most of whose calls come before its activities; where processes are alike in that, the first in the
    file to the first device.
    """
    numbers = distinct(process).tolist()
    if not 1 < len(numbers) <= MOST_PROCESSES:
        return np.full(len(activities), NONE, dtype=np.int64)
    place = events.place.astype(np.int64)
    places = [place[calls[of_process]] for _, of_process in Places(process)]
    first, last = np.array([each.min() for each in places]), np.array([each.max() for each in places])
    order = np.argsort(first)
    if (last[order][:-1] < first[order][1:]).all():
        where = np.searchsorted(first[order], place[activities], side="right") - 1
        return np.array(numbers, dtype=np.int64)[order[np.maximum(where, 0)]]
    devices = np.stack((events.device[activities].astype(np.int64), _process(events, activities)))
    known, device = np.unique(devices, axis=1, return_inverse=True)
    device = device.reshape(-1)
    votes = np.zeros((known.shape[1], len(numbers)), dtype=np.int64)
    for column, number in enumerate(numbers):
        call = _latest(events, activities, calls[process == number])
        early = (call >= 0) & (events.ts_ns[np.maximum(call, 0)] <= events.ts_ns[activities])
        votes[:, column] = np.bincount(device[early], minlength=len(votes))
    of_device = np.full(len(votes), NONE, dtype=np.int64)
    left = list(order)
    by_file = np.argsort([place[activities[device == number]].min() for number in range(len(votes))])
    for row in by_file.tolist():
        best = np.flatnonzero(votes[row] == votes[row].max())
        column = next((int(each) for each in left if each in best), int(best[0]))
        left = [each for each in left if each != column]
        of_device[row] = numbers[column]
    return of_device[device]


def _by_flow(events: Events, flows: Flows, activities: IntArray, host: IntArray) -> IntArray:
    """The call that starts where an arrow to the activity's start does."""
    sources, targets = _arrows(flows, np.ones(len(flows), dtype=bool))
    hit = SpanFinder(events, activities).find(flows.track[targets], flows.ts_ns[targets])
    call = SpanFinder(events, host).find(flows.track[sources], flows.ts_ns[sources])
    launch = np.full(len(events), NONE, dtype=np.int64)
    both = (hit >= 0) & (call >= 0)
    launch[hit[both]] = call[both]
    return launch[activities]


def _arrows(flows: Flows, chosen: BoolArray) -> tuple[IntArray, IntArray]:
    """The arrows among the chosen flow events, as the indices of their starts and of their ends."""
    starts = np.flatnonzero(chosen & flows.is_start)
    ends = np.flatnonzero(chosen & ~flows.is_start)
    if not len(starts):
        return starts, starts
    key = _rank(flows.cat, flows.id)
    starts = starts[np.argsort(key[starts], kind="stable")]
    keys = key[starts]
    place = np.minimum(np.searchsorted(keys, key[ends]), len(keys) - 1)
    matched = keys[place] == key[ends]
    return starts[place[matched]], ends[matched]


def _rank(first: npt.NDArray[Any], second: IntArray) -> IntArray:
    """Pairs → integers in the pairs' order, the same for the same pair."""
    order = np.lexsort((second, first))
    fresh = np.append(True, (np.diff(first[order]) != 0) | (np.diff(second[order]) != 0))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.cumsum(fresh[: len(order)])
    return rank


class SpanFinder:
    """Finds spans by the track and the instant they start at; of several the last, which is the innermost."""

    def __init__(self, events: Events, spans: IntArray) -> None:
        self._spans = spans[np.lexsort((spans, events.ts_ns[spans], events.track[spans]))]
        self._tracks, self._times = events.track[self._spans], events.ts_ns[self._spans]

    def find(self, track: Codes, ts_ns: IntArray) -> IntArray:
        """int64, the span's index; `NONE` where none starts there."""
        if not len(self._spans):
            return np.full(len(track), NONE, dtype=np.int64)
        # Both sides are ranked together, then the ranks are looked up.
        rank = _rank(np.concatenate((self._tracks, track)), np.concatenate((self._times, ts_ns)))
        known, wanted = rank[: len(self._spans)], rank[len(self._spans) :]
        place = np.searchsorted(known, wanted, side="right") - 1
        hit = (place >= 0) & (known[np.maximum(place, 0)] == wanted)
        return np.where(hit, self._spans[np.maximum(place, 0)], NONE)
