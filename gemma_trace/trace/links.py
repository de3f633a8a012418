"""What belongs to what across threads: device activity → the call that launched it; backward op → its forward op."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.events import LAUNCH_CATEGORIES, NONE, BoolArray, Codes, Events, Flows, IntArray

FORWARD_BACKWARD: frozenset[str] = frozenset({"fwdbwd"})
"""Category of the arrows from an op to the op of the autograd thread that computes its gradient."""


def link_launches(events: Events, flows: Flows, activities: IntArray, host: IntArray) -> IntArray:
    """The call that launched each device activity.

    The one on the host with the same correlation id, whatever the call is named; where several spans carry the id,
    calls of a runtime or driver come first, then the earliest. Failing that, the one from which an arrow leads to
    the activity.

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
    at = SpanFinder(events, ops)
    backward = at.find(flows.track[targets], flows.ts_ns[targets])
    forward = at.find(flows.track[sources], flows.ts_ns[sources])
    both = (backward >= 0) & (forward >= 0)
    return backward[both], forward[both]


def _by_correlation(events: Events, activities: IntArray, host: IntArray) -> IntArray:
    calls = host[events.correlation[host] > 0]
    if not len(calls) or not len(activities):
        return np.full(len(activities), NONE, dtype=np.int64)
    is_launch = events.in_categories(LAUNCH_CATEGORIES)[calls]
    calls = calls[np.lexsort((calls, ~is_launch, events.correlation[calls]))]
    ids = events.correlation[calls]
    wanted = events.correlation[activities]
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where((wanted > 0) & (ids[place] == wanted), calls[place], NONE)


def _by_flow(events: Events, flows: Flows, activities: IntArray, host: IntArray) -> IntArray:
    """The call that starts where an arrow to the activity's start does."""
    sources, targets = _arrows(flows, np.ones(len(flows), dtype=bool))
    hit = SpanFinder(events, activities).find(flows.track[targets], flows.ts_ns[targets])
    call = SpanFinder(events, host).find(flows.track[sources], flows.ts_ns[sources])
    found = np.full(len(events), NONE, dtype=np.int64)
    both = (hit >= 0) & (call >= 0)
    found[hit[both]] = call[both]
    return found[activities]


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
