"""Who called for a collective that a thread of gloo runs: the op on the thread that then waits for it.

gloo runs collectives on threads of its own, and its range there holds no other span. The call is an op such as
`c10d::allreduce_` on the thread of the model. A process's calls of one kind are taken in their order, so that the k-th
range is that of the k-th call.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.kinds import COMMS, kind_of
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.trace import Trace

_CALL: Final = "c10d::"


def host_calls(trace: Trace, ranges: IntArray) -> IntArray:
    """The call for each range in which a thread of the host is in a collective.

    Args:
        ranges: int64 [k], by start.

    Returns:
        int64 [k], the index of the call; the range itself where no call of its kind is before it, as of a backend that
        runs a collective on the thread that calls for it.
    """
    spans = trace.spans
    called = ranges.copy()
    is_call = np.array([name.startswith(_CALL) for name in spans.names], dtype=bool)
    calls = np.flatnonzero(is_call[spans.name] & trace.is_op)
    kinds = np.array([COMMS.index(kind_of(name)) for name in spans.names], dtype=np.int64)
    calls_of = dict(Places(kinds[spans.name[calls]]))
    for kind, places in Places(kinds[spans.name[ranges]]):
        if kind in calls_of:
            of_kind = calls[calls_of[kind]]
            place = _in_order(spans.ts_ns[of_kind], spans.ts_ns[ranges[places]])
            known = place != NONE
            called[places[known]] = of_kind[place[known]]
    return called


def _in_order(calls_ns: IntArray, ranges_ns: IntArray) -> IntArray:
    """The place of the call for each range: in order where that is possible, else the last one before it.

    Args:
        calls_ns, ranges_ns: int64 [c] and [k], when they start, ascending.

    Returns:
        int64 [k], `NONE` where there is none.
    """
    if len(calls_ns) == len(ranges_ns):
        before: BoolArray = calls_ns <= ranges_ns
        if before.all():
            return np.arange(len(ranges_ns))
    return np.searchsorted(calls_ns, ranges_ns, side="right") - 1  # `NONE` before the first
