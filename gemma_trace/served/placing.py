"""Which steps of an engine, and which work of a front end, each request of a client was in.

While one request is open at a time, all that the server does is for it. Where several are, the engine's own ids tell,
if our plugin wrote them; else a token came out of the last step with room that ended before its client had it, and the
front end works on requests in the order in which they were sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

from gemma_trace.served.causality import Chosen, by_causality
from gemma_trace.served.record import ClientRequest
from gemma_trace.served.scene import Scene
from gemma_trace.served.stretch import ServedStep, Stretch


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
        chosen = by_causality(requests, scene.steps)
    fronts = _in_order(requests, scene)
    return [
        Placed(request, steps, token_steps, front)
        for request, (steps, token_steps), front in zip(requests, chosen, fronts, strict=True)
    ]


def clocks_apart_ns(placed: Placed) -> int:
    """By how much the client's and the server's clocks disagree at least; 0 where nothing shows it.

    The front end can't work for a request before it is sent, nor the client have a token before its step is over.
    """
    request, steps = placed.request, placed.steps
    early = [request.sent_unix_ns - each.start_ns for each in placed.front]
    reads = [step.end_ns for step in steps if step.reads and not step.generates]
    late = [reads[-1] - request.sent_unix_ns - request.token_ns[0]] if reads and request.token_ns else []
    return max([0, *early, *late])


def _alone(request: ClientRequest, scene: Scene) -> Placed:
    sent, over = request.sent_unix_ns, request.end_unix_ns
    low, high = (bisect_left(scene.steps, at, key=attrgetter("start_ns")) for at in (sent, over))
    steps = scene.steps[low:high]
    first = steps[0].start_ns if steps else over
    front = tuple(each for each in scene.front if each.end_ns > sent and each.start_ns < first)
    return Placed(request, steps, _token_steps(request, steps), front)


def _by_id(request: ClientRequest, steps: Sequence[ServedStep]) -> Chosen:
    named = tuple(step for step in steps if any(request.id in name for name in step.request_ids))
    return named, _token_steps(request, named)


def _token_steps(request: ClientRequest, steps: Sequence[ServedStep]) -> tuple[int | None, ...]:
    """Of each token the place of the step that it came out of.

    In order, where every step had ended by the time the client had its token: the last that read the prompt, then those
    that generate. Else the last step that had.
    """
    if any(step.reading_ids for step in steps):
        reads = [at for at, step in enumerate(steps) if any(request.id in name for name in step.reading_ids)]
    else:
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
    stretches: list[list[Stretch]] = [[] for _ in requests]
    for calls in kinds.values():
        if len(calls) != len(requests):
            continue
        for which, call in zip(order, calls, strict=True):
            inside = [each for each in scene.front if call.start_ns <= each.start_ns and each.end_ns <= call.end_ns]
            alone = sum(other.start_ns < call.end_ns and call.start_ns < other.end_ns for other in calls) == 1
            stretches[which] += inside if alone else [call]
    return [tuple(sorted(set(each))) for each in stretches]
