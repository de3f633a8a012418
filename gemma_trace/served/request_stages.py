"""One request of a client from its sending to its end, cut into stages: each instant is in exactly one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter

import numpy as np

from gemma_trace.served.placing import Placed
from gemma_trace.served.stretch import ServedStep, Stretch
from gemma_trace.stages import FRONT_END, HTTP, QUEUE, READING_STAGES, RETURN, Stage


def request_stages(placed: Placed, detokenization: Sequence[Stretch] = ()) -> list[Stretch]:
    """The stages of a request, by start; disjoint, and together the whole time from its sending to its end.

    What lies later in the list below covers what is before it:

    * `http` up to the end of the front end's last work for it, or `front_end` where none is known; `queue` between that
      and the first step, and between steps; `return` behind the last step, and from a token's step until the client has
      the token, with `detokenization` in it;
    * the steps that it was in, by the stages of the engine;
    * until the client has its first token, again the return of it: the engine may be at the next step by then;
    * the front end's work for it, up to the first step.
    """
    request, steps = placed.request, placed.steps
    sent, over = request.sent_unix_ns, request.end_unix_ns
    first = steps[0].start_ns if steps else over
    returns = _returns(placed)
    painted = [*_waiting(placed, first), *returns, *_within(returns, detokenization)]
    prompt_is_read = placed.token_steps[0] if placed.token_steps else None
    for place, step in enumerate(steps):
        painted += _stages_of(step, reads=step.reads if prompt_is_read is None else place <= prompt_is_read)
    painted += [*returns[:1], *_within(returns[:1], detokenization)]
    shortest_last = sorted(placed.front, key=lambda each: each.start_ns - each.end_ns)
    painted += [Stretch(each.start_ns, min(each.end_ns, first), each.stage) for each in shortest_last]
    return _cut(painted, sent, over)


def _waiting(placed: Placed, first: int) -> list[Stretch]:
    """What a request is in while nobody is known to work for it."""
    request, steps = placed.request, placed.steps
    worked = max((min(each.end_ns, first) for each in placed.front), default=None)
    if worked is None:
        before = [Stretch(request.sent_unix_ns, first, FRONT_END)]
    else:
        before = [Stretch(request.sent_unix_ns, worked, HTTP), Stretch(worked, first, QUEUE)]
    between = [Stretch(step.end_ns, following.start_ns, QUEUE) for step, following in pairwise(steps)]
    behind = [Stretch(steps[-1].end_ns, request.end_unix_ns, RETURN)] if steps else []
    return [*before, *between, *behind]


def _returns(placed: Placed) -> list[Stretch]:
    """Of each token whose step is known the way from there to the client."""
    sent = placed.request.sent_unix_ns
    return [
        Stretch(placed.steps[at].end_ns, sent + ns, RETURN)
        for ns, at in zip(placed.request.token_ns, placed.token_steps, strict=True)
        if at is not None
    ]


def _within(outer: Sequence[Stretch], inner: Sequence[Stretch]) -> list[Stretch]:
    """The parts of `inner`, by start, that lie in one of `outer`, but for those that begin before it."""
    inside: list[Stretch] = []
    for around in outer:
        low, high = (bisect_left(inner, at, key=attrgetter("start_ns")) for at in (around.start_ns, around.end_ns))
        inside += [each._replace(end_ns=min(each.end_ns, around.end_ns)) for each in inner[low:high]]
    return inside


def _stages_of(step: ServedStep, *, reads: bool) -> list[Stretch]:
    """A step's stages. For a request that generates in it, what others' prompts take in it is of its `decode`.

    Args:
        reads: whether it is the request's prompt that the step reads.
    """
    whole = Stage.PREFILL.value if reads else Stage.DECODE.value
    parts = [part if reads or part.stage not in READING_STAGES else part._replace(stage=whole) for part in step.parts]
    return [Stretch(step.start_ns, step.end_ns, whole), *parts]


def _cut(painted: Sequence[Stretch], low: int, high: int) -> list[Stretch]:
    """What is on top at each instant of a window, cut where that changes; what nothing covers is left out."""
    starts = np.clip(np.array([each.start_ns for each in painted], dtype=np.int64), low, high)
    ends = np.clip(np.array([each.end_ns for each in painted], dtype=np.int64), low, high)
    edges = np.unique(np.concatenate((starts, ends)))
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    top = np.full(max(len(edges) - 1, 0), -1, dtype=np.int64)
    for place, (begin, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        top[begin:stop] = place  # nothing, where it ends before it starts
    pieces: list[Stretch] = []
    previous = -1
    for place, start, end in zip(top.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if place == previous >= 0:
            pieces[-1] = pieces[-1]._replace(end_ns=end)
        elif place >= 0:
            pieces.append(Stretch(start, end, painted[place].stage))
        previous = place
    return pieces
