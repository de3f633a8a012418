"""Several workers of one engine, and several engines: whose steps are the same, and how long each took.

Workers of one engine run each step together (a part of each layer, or some of the layers each), and whoever is slowest
is whom the others wait for. Engines run steps of their own.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from gemma_trace.served.stretch import ServedStep

_SAME: Final = 0.9
"""So much of the steps of two workers of an engine are the same; the profiler may have missed some at either end."""

_NEAR: Final = 8
_ENGINE: Final = re.compile(r"(?:^|[_.-])dp-?(\d{1,6})(?=[_.-])", re.IGNORECASE)
_PART: Final = re.compile(r"(?:^|[_.-])pp-?(\d{1,6})(?=[_.-])", re.IGNORECASE)


@dataclass(frozen=True)
class Worker:
    """A process that runs an engine's steps.

    Attributes:
        name: its trace's file, which may tell its ranks: `dp0_pp0_tp1` is vLLM's form, `TP-1-DP-0` SGLang's.
        steps: by start.
    """

    name: str
    steps: tuple[ServedStep, ...]


def engines_of(workers: Sequence[Worker]) -> list[list[Worker]]:
    """The workers of each engine, those with most steps first."""
    engines: list[list[Worker]] = []
    for worker in sorted(workers, key=lambda worker: -len(worker.steps)):
        engine = next((engine for engine in engines if _together(engine[0], worker)), None)
        if engine is None:
            engines.append([worker])
        else:
            engine.append(worker)
    return engines


def steps_of(engine: Sequence[Worker]) -> tuple[ServedStep, ...]:
    """An engine's steps: each from the first worker's start to the last one's end, with the stages of that one."""
    lead, *others = engine
    steps: list[ServedStep] = []
    for place, step in enumerate(lead.steps):
        same = [step]
        for other in others:
            in_turn = _rank(_PART, other.name) != _rank(_PART, lead.name)
            match = _at(other, place, step) if in_turn else _overlapping(step, other.steps)
            same += [match] if match is not None else []
        last = max(same, key=attrgetter("end_ns"))
        steps.append(
            replace(
                last,
                start_ns=min(each.start_ns for each in same),
                request_ids=next((each.request_ids for each in same if each.request_ids), ()),
                reading_ids=next((each.reading_ids for each in same if each.reading_ids), ()),
            )
        )
    return tuple(steps)


def _together(first: Worker, second: Worker) -> bool:
    if _rank(_ENGINE, first.name) != _rank(_ENGINE, second.name):
        return False
    if _rank(_PART, first.name) != _rank(_PART, second.name):
        return True
    same = sum(_overlapping(step, first.steps) is not None for step in second.steps)
    return same >= _SAME * len(second.steps)


def _rank(pattern: re.Pattern[str], name: str) -> int | None:
    match = pattern.search(name)
    return int(match[1]) if match else None


def _at(worker: Worker, place: int, step: ServedStep) -> ServedStep | None:
    """The step of a worker with other layers, which has its turn later or earlier."""
    match = worker.steps[place] if place < len(worker.steps) else None
    return match if match is not None and match.counts == step.counts else None


def _overlapping(step: ServedStep, steps: Sequence[ServedStep]) -> ServedStep | None:
    """The step of another worker that is of the same tokens at the same time, for the same requests."""
    behind = bisect_left(steps, step.end_ns, key=attrgetter("start_ns"))
    near = steps[max(behind - _NEAR, 0) : behind]
    return next(
        (
            each
            for each in reversed(near)
            if each.end_ns > step.start_ns
            and each.counts == step.counts
            and (not each.request_ids or not step.request_ids or each.request_ids == step.request_ids)
        ),
        None,
    )
