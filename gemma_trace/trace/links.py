"""Device activity → the host's call that launched it."""

from __future__ import annotations

import numpy as np

from gemma_trace.trace.events import LAUNCH_CATEGORIES, NONE, Events, IntArray


def link_launches(events: Events, activities: IntArray, host: IntArray) -> IntArray:
    """The call that launched each device activity: the one on the host with the same correlation id.

    Whatever the call is named. Where several spans on the host carry the id, calls of a runtime or driver come
    first, then the earliest.

    Args:
        events: the trace's spans.
        activities: int64 [m], indices of the device activities.
        host: int64 [k], indices of the spans on the host.

    Returns:
        int64 [m], index of the launching call, `NONE` for an activity that has none in this trace.
    """
    calls = host[events.correlation[host] > 0]
    if not len(calls) or not len(activities):
        return np.full(len(activities), NONE, dtype=np.int64)
    is_launch = events.in_categories(LAUNCH_CATEGORIES)[calls]
    calls = calls[np.lexsort((calls, ~is_launch, events.correlation[calls]))]
    ids = events.correlation[calls]
    wanted = events.correlation[activities]
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where((wanted > 0) & (ids[place] == wanted), calls[place], NONE)
