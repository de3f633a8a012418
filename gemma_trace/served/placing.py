"""Which steps of an engine, and which work of a front end, each request of a client was in.

While one request is open at a time, all that the server does is for it. Where several are, the engine's own ids tell,
if our plugin wrote them; else a token came out of the last step with room that ended before its client had it, and the
front end works on requests in the order in which they were sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gemma_trace.served.record import ClientRequest
from gemma_trace.served.scene import Scene, ServedStep, Stretch


@dataclass(frozen=True)
class Placed:
    """A request among what the server did.

    Attributes:
        steps: those that it was in, by start.
        token_steps: of each token that the client got the place, among those, of the step that it came out of; None
            where none is known.
        front: what the front end did for it.
    """

    request: ClientRequest
    steps: tuple[ServedStep, ...]
    token_steps: tuple[int | None, ...]
    front: tuple[Stretch, ...]


def overlapping(requests: Sequence[ClientRequest]) -> bool:
    """Whether several were open at once."""
    ordered = sorted(requests, key=lambda request: request.sent_unix_ns)
    return any(after.sent_unix_ns < before.end_unix_ns for before, after in pairwise(ordered))


def place(requests: Sequence[ClientRequest], scene: Scene) -> list[Placed]:
    """Find each request's steps and front-end work; in the requests' order."""
    if not overlapping(requests):
        return [_alone(request, scene) for request in requests]
    if any(step.request_ids for step in scene.steps):
        chosen = [_by_id(request, scene.steps) for request in requests]
    else:
        chosen = _by_causality(requests, scene.steps)
    fronts = _in_order(requests, scene)
    return [
        Placed(request, steps, _token_steps(request, steps), front)
        for request, steps, front in zip(requests, chosen, fronts, strict=True)
    ]


def _alone(request: ClientRequest, scene: Scene) -> Placed:
    sent, over = request.sent_unix_ns, request.end_unix_ns
    steps = tuple(step for step in scene.steps if sent <= step.start_ns < over)
    first = steps[0].start_ns if steps else over
    front = tuple(each for each in scene.front if each.end_ns > sent and each.start_ns < first)
    return Placed(request, steps, _token_steps(request, steps), front)


def _by_id(request: ClientRequest, steps: Sequence[ServedStep]) -> tuple[ServedStep, ...]:
    return tuple(step for step in steps if any(request.id in name for name in step.request_ids))


def _by_causality(requests: Sequence[ClientRequest], steps: Sequence[ServedStep]) -> list[tuple[ServedStep, ...]]:
    """Token by token in the order in which clients had them: the last step with room that had ended by then."""
    reading = [step.counts.context_requests for step in steps]
    generating = [step.counts.generation_requests for step in steps]
    taken: list[list[int]] = [[] for _ in requests]
    tokens = sorted(
        (request.sent_unix_ns + ns, which, number)
        for which, request in enumerate(requests)
        for number, ns in enumerate(request.token_ns)
    )
    for had_ns, which, number in tokens:
        room = generating if number else reading
        earliest = taken[which][-1] + 1 if taken[which] else 0
        for at in range(len(steps) - 1, earliest - 1, -1):
            free = room[at]
            if requests[which].sent_unix_ns <= steps[at].start_ns and steps[at].end_ns <= had_ns and free != 0:
                taken[which].append(at)
                room[at] = None if free is None else free - 1
                break
    return [tuple(steps[at] for at in each) for each in taken]


def _token_steps(request: ClientRequest, steps: Sequence[ServedStep]) -> tuple[int | None, ...]:
    """Of each token the place of the step that it came out of.

    In order, where every step had ended by the time the client had its token: the last that read the prompt, then those
    that generate. Else the last step that had.
    """
    reads = [at for at, step in enumerate(steps) if step.reads and not (step.generates and at)]
    producing = [*reads[-1:], *(at for at, step in enumerate(steps) if not reads or at > reads[-1])]
    had_ns = [request.sent_unix_ns + ns for ns in request.token_ns]
    in_order = len(producing) >= len(had_ns) and all(
        steps[at].end_ns <= had for at, had in zip(producing, had_ns, strict=False)
    )
    if in_order:
        return tuple(producing[: len(had_ns)])
    return tuple(max((at for at in producing if steps[at].end_ns <= had), default=None) for had in had_ns)


def _in_order(requests: Sequence[ClientRequest], scene: Scene) -> list[tuple[Stretch, ...]]:
    """What the front end did for each: its calls of a kind in the order in which they began, if there is one a request.

    Where there are more or fewer of a kind, whose they are isn't known.
    """
    order = sorted(range(len(requests)), key=lambda which: requests[which].sent_unix_ns)
    kinds: dict[str, list[Stretch]] = {}
    for call in scene.calls:
        kinds.setdefault(call.stage, []).append(call)
    found: list[list[Stretch]] = [[] for _ in requests]
    for calls in kinds.values():
        if len(calls) != len(requests):
            continue
        for which, call in zip(order, calls, strict=True):
            inside = [each for each in scene.front if call.start_ns <= each.start_ns and each.end_ns <= call.end_ns]
            alone = sum(other.start_ns < call.end_ns and call.start_ns < other.end_ns for other in calls) == 1
            found[which] += inside if alone else [call]
    return [tuple(sorted(set(each))) for each in found]
