"""Which steps of an engine each of several requests was in, where nothing names them: by what must have been before.

A token came out of the last step with room for it that had ended before its client had it. What a step read of prompts
beyond that was an earlier part of one that was still being read: an engine goes on with those first that it has begun.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from gemma_trace.served.record import ClientRequest
from gemma_trace.served.stretch import ServedStep

Chosen = tuple[tuple[ServedStep, ...], tuple[int | None, ...]]
"""A request's steps, by start, and the place among them of each token's; None where none is known."""


def by_causality(requests: Sequence[ClientRequest], steps: Sequence[ServedStep]) -> list[Chosen]:
    """The steps of each request, in the requests' order."""
    ordered = sorted(steps, key=attrgetter("end_ns"))
    tokens = _of_tokens(requests, ordered)
    parts = _of_earlier_parts(requests, ordered, [had[0] if had else None for had in tokens])
    chosen: list[Chosen] = []
    for had, read in zip(tokens, parts, strict=True):
        instants = sorted({at for at in had if at is not None} | set(read))
        places = {at: place for place, at in enumerate(instants)}
        chosen.append((tuple(ordered[at] for at in instants), tuple(None if at is None else places[at] for at in had)))
    return chosen


def _of_tokens(requests: Sequence[ClientRequest], steps: Sequence[ServedStep]) -> list[list[int | None]]:
    """Of each token the step that it came out of, token by token in the order in which clients had them."""
    reading = [step.counts.context_requests for step in steps]
    generating = [step.counts.generation_requests for step in steps]
    ends = [step.end_ns for step in steps]
    places: list[list[int | None]] = [[None] * len(request.token_ns) for request in requests]
    last: list[int | None] = [None] * len(requests)
    order = sorted(
        (request.sent_unix_ns + ns, which, number)
        for which, request in enumerate(requests)
        for number, ns in enumerate(request.token_ns)
    )
    for had_ns, which, number in order:
        room, before = generating if number else reading, last[which]
        for at in range(bisect_right(ends, had_ns) - 1, -1 if before is None else before, -1):
            free = room[at]
            if steps[at].start_ns < requests[which].sent_unix_ns:
                break
            if free != 0 and (before is None or steps[at].engine == steps[before].engine):
                places[which][number] = last[which] = at
                room[at] = None if free is None else free - 1
                break
    return places


def _of_earlier_parts(
    requests: Sequence[ClientRequest], steps: Sequence[ServedStep], firsts: Sequence[int | None]
) -> list[list[int]]:
    """Of each request the steps that read a part of its prompt before the last.

    Args:
        firsts: of each request the step that its first token came out of.
    """
    taken = [sum(first == at for first in firsts) for at in range(len(steps))]
    places: list[list[int]] = [[] for _ in requests]
    known = [(first, which) for which, first in enumerate(firsts) if first is not None]
    waiting = sorted((first, requests[which].sent_unix_ns, which) for first, which in known)
    left = [_unread(request, first, steps) for request, first in zip(requests, firsts, strict=True)]
    for at in range(len(steps) - 1, -1, -1):
        step = steps[at]
        free = (step.counts.context_requests or 0) - taken[at]
        for first, sent_ns, which in waiting:
            if free <= 0:
                break
            rest = left[which]
            if first <= at or sent_ns > step.start_ns or rest == 0 or step.engine != steps[first].engine:
                continue
            places[which].append(at)
            free -= 1
            if rest is not None:
                alone = step.counts.context_requests == 1
                left[which] = max(0, rest - (step.counts.context_tokens or 0)) if alone else None
    return places


def _unread(request: ClientRequest, first: int | None, steps: Sequence[ServedStep]) -> int | None:
    """How many tokens of a prompt the step of its first token didn't read; None where that isn't known."""
    if first is None or not request.prompt_tokens:
        return None
    counts = steps[first].counts
    if counts.context_requests != 1 or counts.context_tokens is None:
        return None
    return max(0, request.prompt_tokens - counts.context_tokens)
