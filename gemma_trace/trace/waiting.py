"""Which of a thread's time is waiting, and so is no work."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.trace.closed_pieces import PIECE
from gemma_trace.trace.events import NONE, BoolArray, Events, IntArray, Role
from gemma_trace.trace.recordings import recording_at, recording_edges
from gemma_trace.trace.requests import main_threads
from gemma_trace.trace.tree import Nesting

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace

WHOLE: Final = 0.99
"""A frame that is the innermost one of its thread for this share of the trace, with nothing under it, waits."""


_WAITING: Final = re.compile(
    r"(?=.*>\Z)<(?:built-in )?(?:method|function) '?(?:acquire|wait|poll|select|sleep|accept|recv|recv_into|get|join|"
    r"control|epoll_wait|kevent|sem_wait|wait_for)'?(?: of .*(?:lock|Lock|queue|Queue|poll|kqueue|socket|Semaphore|"
    r"Event|Condition|Connection|select|time).*)?>"
    r"|<built-in (?:function|method) (?:sleep|select|poll)\b.*>"
    r"|(?:.*[/\\])?(?:threading|selectors|queue|tqdm[/\\]_monitor|multiprocessing[/\\]\w+|concurrent[/\\]futures[/\\]\w+"
    r"|zmq[/\\]utils[/\\]garbage)\.py\(\d+\): (?:wait|select|get|join|run|recv|_recv|_recv_bytes|poll|_poll|"
    r"result|_worker|_wait_for_tstate_lock|acquire)"
    r"|.*shm_broadcast\.py\(\d+\): (?:dequeue|acquire_read|wait)"
)
"""Python frames that wait: the threading, queue, selectors, multiprocessing and concurrent.futures modules of CPython
3.8 to 3.14, tqdm's monitor, and vLLM's queue in shared memory. It is the innermost frame that counts."""


def is_waiting(name: str) -> bool:
    """Whether a Python frame of this name is known to wait."""
    return _WAITING.fullmatch(name) is not None


def waiting_segments(trace: Trace) -> BoolArray:
    """bool [s], along `trace.segments`: the stretches in which a thread waits.

    That is where the innermost span is a Python frame whose name is known to wait, or one of a thread other than the
    process's main one that has nothing under it and lasts as long as the trace does: the profiler found the thread in
    it and left it in it. Of a trace with several recordings, it is the thread's recording that counts.
    """
    spans, host, segments = trace.spans, trace.host, trace.segments
    named = np.array([is_waiting(name) for name in spans.names], dtype=bool)
    edges = recording_edges(spans)
    extents = _extents(spans, host, edges)
    parents = np.zeros(len(spans), dtype=bool)
    parents[host] = _hold_others(trace.nesting)
    is_main = np.zeros(len(spans.tracks), dtype=bool)
    is_main[list(main_threads(trace).values())] = True
    is_frame = trace.roles.are(Role.PYTHON)
    waits = np.zeros(len(segments.owner), dtype=bool)
    for low in range(0, len(waits), PIECE):
        piece = slice(low, low + PIECE)
        owner = segments.owner[piece]
        start = segments.start_ns[piece]
        long = segments.end_ns[piece] - start >= WHOLE * extents[recording_at(edges, start)]
        stuck = long & ~is_main[spans.track[owner]] & ~parents[owner]
        waits[piece] = is_frame[owner] & (named[spans.name[owner]] | stuck)
    return waits


def _hold_others(nesting: Nesting) -> BoolArray:
    """bool [n], which spans of a nesting have one inside them."""
    parent, has_children = nesting.parent, np.zeros(len(nesting.parent), dtype=bool)
    for low in range(0, len(parent), PIECE):
        above = parent[low : low + PIECE]
        has_children[above[above != NONE]] = True
    return has_children


def _extents(spans: Events, host: IntArray, edges: IntArray) -> IntArray:
    """int64 [r], how long each recording is on the host."""
    inner = np.searchsorted(spans.ts_ns[host], edges).tolist() if len(edges) else []
    borders = [0, *inner, len(host)]
    return np.array([_extent(spans, host[low:high]) for low, high in pairwise(borders)], dtype=np.int64)


def _extent(spans: Events, host: IntArray) -> int:
    """From the first one's start to the last end, in ns."""
    if not len(host):
        return 0
    ends = (int(spans.ends_ns(host[low : low + PIECE]).max()) for low in range(0, len(host), PIECE))
    return max(ends) - int(spans.ts_ns[host[0]])
