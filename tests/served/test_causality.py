"""Which steps several requests at once were in, where nothing names them; and whose workers' steps are the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_trace.served.causality import by_causality
from gemma_trace.served.record import ClientRequest
from gemma_trace.served.steps import StepCounts
from gemma_trace.served.stretch import ServedStep, Stretch
from gemma_trace.served.workers import Worker, engines_of, steps_of


def step(start: int, end: int, *counts: int, engine: int = 0) -> ServedStep:
    return ServedStep(start, end, StepCounts(*counts), (Stretch(start, end, "prefill"),), engine=engine)


def client(sent: int, *had: int, prompt: int = 304) -> ClientRequest:
    tokens = tuple(at - sent for at in had)
    return ClientRequest("request", "", 1000 + sent, tokens, tokens[-1] + 1, prompt)


def shifted(*steps: ServedStep) -> list[ServedStep]:
    return [replace(each, start_ns=each.start_ns + 1000, end_ns=each.end_ns + 1000) for each in steps]


def chosen(requests: list[ClientRequest], *steps: ServedStep) -> list[tuple[list[int], tuple[int | None, ...]]]:
    """Of each request the starts of its steps, and of its tokens' steps the places."""
    found = by_causality(requests, shifted(*steps))
    return [([each.start_ns - 1000 for each in own], places) for own, places in found]


def test_prompts_in_parts() -> None:
    """Three requests at once of vLLM 0.32 with 160 tokens a step; the engine's own ids say the same, in ms."""
    steps = (
        *(step(0, 909, 1, 160, 0, 0), step(920, 958, 3, 156, 0, 0), step(959, 1830, 1, 159, 1, 1)),
        *(step(1831, 1866, 1, 139, 1, 1), step(1868, 2751, 1, 158, 2, 2), step(2753, 2789, 1, 140, 1, 1)),
        *(step(2791, 2804, 0, 0, 2, 2), step(2805, 2818, 0, 0, 1, 1), step(2819, 2832, 0, 0, 1, 1)),
    )
    requests = [
        client(-87, 2793, 2809, 2821, 2835),
        client(-84, 1870, 2757, 2792, 2807),
        client(-83, 961, 1833, 1869, 2755),
    ]
    assert chosen(requests, *steps) == [
        ([920, 1868, 2753, 2791, 2805, 2819], (2, 3, 4, 5)),
        ([920, 959, 1831, 1868, 2753, 2791], (2, 3, 4, 5)),
        ([0, 920, 959, 1831, 1868], (1, 2, 3, 4)),
    ]


def test_a_prompt_that_was_read_at_once_has_no_earlier_part() -> None:
    """The first step is of a request that nobody asked for here, e.g. another client's."""
    steps = (step(0, 10, 1, 50, 0, 0), step(20, 30, 1, 304, 0, 0), step(40, 50, 1, 200, 0, 0))
    assert chosen([client(-5, 35), client(-4, 55, prompt=200)], *steps) == [([20], (0,)), ([40], (0,))]


def test_a_part_is_of_a_request_that_was_there() -> None:
    steps = (step(0, 10, 1, 160, 0, 0), step(20, 30, 1, 144, 0, 0))
    assert chosen([client(5, 35), client(6, 100)], *steps) == [([20], (0,)), ([], (None,))]


def test_a_request_stays_with_its_engine() -> None:
    steps = (
        *(step(0, 10, 1, 300, 0, 0), step(1, 12, 1, 300, 0, 0, engine=1)),
        *(step(13, 20, 0, 0, 1, 1), step(13, 24, 0, 0, 1, 1, engine=1)),
    )
    requests = [client(-5, 11, 30, prompt=300), client(-4, 13, 31, prompt=300)]
    assert chosen(requests, *steps) == [([0, 13], (0, 1)), ([1, 13], (0, 1))]
    found = by_causality(requests, shifted(*steps))
    assert [[each.engine for each in own] for own, _ in found] == [[0, 0], [1, 1]]


def test_workers_of_one_engine_are_as_long_as_the_slowest() -> None:
    first = Worker("a_tp0_rank0.json", (step(0, 10, 1, 300, 0, 0), step(12, 20, 0, 0, 1, 1)))
    second = Worker("a_tp1_rank1.json", (step(1, 14, 1, 300, 0, 0), step(14, 19, 0, 0, 1, 1)))
    (engine,) = engines_of([first, second])
    found = steps_of(engine)
    assert [(each.start_ns, each.end_ns) for each in found] == [(0, 14), (12, 20)]
    assert found[0].parts == (Stretch(1, 14, "prefill"),), "the stages of the one that was waited for"


def test_workers_with_other_layers_have_their_turn() -> None:
    first = Worker("a_dp0_pp0_tp0_rank0.json", (step(0, 10, 1, 300, 0, 0), step(22, 24, 0, 0, 1, 1)))
    second = Worker("a_dp0_pp1_tp0_rank1.json", (step(11, 20, 1, 300, 0, 0), step(25, 27, 0, 0, 1, 1)))
    (engine,) = engines_of([first, second])
    assert [(each.start_ns, each.end_ns) for each in steps_of(engine)] == [(0, 20), (22, 27)]


@pytest.mark.parametrize(
    "names", [("a_dp0_pp0_tp0_rank0.json", "a_dp1_pp0_tp0_rank1.json"), ("1-TP-0-DP-0.trace", "1-TP-0-DP-1.trace")]
)
def test_engines_that_do_the_same_at_once_are_told_by_their_names(names: tuple[str, str]) -> None:
    same = (step(0, 10, 1, 300, 0, 0),)
    assert len(engines_of([Worker(name, same) for name in names])) == 2


def test_engines_without_names_are_told_by_their_steps() -> None:
    one = Worker("one.json", (step(0, 10, 1, 300, 0, 0), step(12, 20, 0, 0, 1, 1)))
    other = Worker("other.json", (step(5, 15, 1, 280, 0, 0), step(17, 22, 0, 0, 1, 1)))
    assert len(engines_of([one, other])) == 2
    named = [
        replace(worker, steps=tuple(replace(each, request_ids=(worker.name,)) for each in one.steps))
        for worker in (one, other)
    ]
    assert len(engines_of(named)) == 2, "the same steps, for other requests"
