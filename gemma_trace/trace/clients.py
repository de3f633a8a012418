"""The requests of clients in a trace that was merged of a server's processes: each on a thread of its own.

Such a thread is nobody's work: it says in which stage the request was, whoever worked at it. What the processes did is
on their own threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.stages import PREFIX
from gemma_trace.trace.events import BoolArray, IntArray

if TYPE_CHECKING:
    from gemma_trace.trace.requests import Request
    from gemma_trace.trace.trace import Trace

CLIENT_PROCESS: Final = f"{PREFIX}clients"
"""The process id of the threads that stand for requests of clients."""

TOKEN: Final = f"{PREFIX}token"
"""An empty range on such a thread: the client has a piece of text, usually a token."""


def client_tracks(trace: Trace) -> BoolArray:
    """bool [tracks], which threads stand for requests of clients."""
    return np.array([track.pid == CLIENT_PROCESS for track in trace.spans.tracks], dtype=bool)


def client_tokens_ns(trace: Trace, request: Request) -> IntArray:
    """int64 [tokens], when the client had each piece of text of its request; ascending."""
    spans = trace.spans
    if TOKEN not in spans.names:
        return np.zeros(0, dtype=np.int64)
    code = spans.names.index(TOKEN)
    marks = np.flatnonzero((spans.name == code) & (spans.track == request.track))
    return np.sort(spans.ts_ns[marks])
