"""The requests of clients in a trace that was merged of a server's processes: each on a thread of its own.

Such a thread is nobody's work: it says in which stage the request was, whoever worked at it. What the processes did is
on their own threads. Work in a step of an engine is for every request that is in that step: each has it in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.stages import DEVICE_STAGES, PREFIX, READING_STAGES, Stage
from gemma_trace.trace.events import NONE, BoolArray, Codes, IntArray

if TYPE_CHECKING:
    from gemma_trace.trace.requests import Request
    from gemma_trace.trace.trace import Trace

CLIENT_PROCESS: Final = f"{PREFIX}clients"
"""The process id of the threads that stand for requests of clients."""

TOKEN: Final = f"{PREFIX}token"
"""An empty range on such a thread: the client has a piece of text, usually a token."""

_DECODE: Final = list(Stage).index(Stage.DECODE)
_READING: Final = [list(Stage).index(stage) for stage in READING_STAGES]


def client_process(workers: Sequence[str] = ()) -> str:
    """The process id of the clients of one of several engines.

    Args:
        workers: the ids of the processes that run its steps; none where there is one engine alone.

    >>> client_process(["22", "23"])
    'gemma_trace::clients 22 23'
    """
    return " ".join((CLIENT_PROCESS, *workers))


def client_tracks(trace: Trace) -> BoolArray:
    """bool [tracks], which threads stand for requests of clients."""
    return np.array([track.pid.split(" ")[0] == CLIENT_PROCESS for track in trace.spans.tracks], dtype=bool)


def engines(trace: Trace) -> IntArray:
    """int64 [tracks], a number for the engine that each thread belongs to; `NONE` where it is no single one's."""
    processes = [track.pid for track in trace.spans.tracks]
    engine = np.full(len(processes), NONE, dtype=np.int64)
    for number, clients in enumerate(sorted({pid for pid in processes if pid.startswith(f"{CLIENT_PROCESS} ")})):
        pids = {clients, *clients.split(" ")[1:]}
        engine[[place for place, pid in enumerate(processes) if pid in pids]] = number
    return engine


def engine_stages(trace: Trace) -> BoolArray:
    """bool [stages], which stages are an engine's."""
    return np.array([name in DEVICE_STAGES for name in trace.stage_names], dtype=bool)


def works_for(trace: Trace, waits_in: IntArray, client: IntArray, works_in: IntArray, track: Codes) -> BoolArray:
    """bool, whether work is for the request of a client, by the stages that both are in when it is asked for.

    The request is in the stage of the work; or it is given a token by a step that reads other requests' prompts, which
    is of its `decode`. Work of which no stage is known is for every request that is in a stage of the engine.

    Args:
        waits_in: int64, the stage code of the client's thread at that time.
        client: int64, that thread.
        works_in: int64, the stage code of the work; the number of stages stands for `unlinked`.
        track: int64, the thread that it was asked for on.
    """
    of_client, of_work = trace.engines[client], trace.engines[track]
    reads = (waits_in == _DECODE) & np.isin(works_in, _READING)
    unknown = (works_in == len(trace.stage_names)) & engine_stages(trace)[waits_in]
    answers: BoolArray = ((of_client == of_work) | (of_client == NONE) | (of_work == NONE)) & (
        (waits_in == works_in) | reads | unknown
    )
    return answers


def client_tokens_ns(trace: Trace, request: Request) -> IntArray:
    """int64 [tokens], when the client had each piece of text of its request; ascending."""
    spans = trace.spans
    if TOKEN not in spans.names:
        return np.zeros(0, dtype=np.int64)
    code = spans.names.index(TOKEN)
    marks = np.flatnonzero((spans.name == code) & (spans.track == request.track))
    return np.sort(spans.ts_ns[marks])
