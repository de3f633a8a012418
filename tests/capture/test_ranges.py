from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import Any

import pytest
import torch

from gemma_trace.capture import ranges as ranges_module
from gemma_trace.capture.ranges import ProfilerRanges, RangeStack, SynchronizedRanges, profiler_is_running
from gemma_trace.stages import INTERLEAVED, Stage


class Heard:
    def __init__(self) -> None:
        self.log: list[str] = []

    def begin(self, name: str) -> None:
        self.log.append(f"+{name}")

    def end(self) -> None:
        self.log.append("-")


def test_closing_a_range_closes_what_is_open_inside_it() -> None:
    heard = Heard()
    ranges = RangeStack(heard)
    for name in ("a", "b", "c"):
        ranges.open(name)
    ranges.close("a")
    assert heard.log == ["+a", "+b", "+c", "-", "-", "-"]
    assert not ranges.is_open("a")


def test_closing_what_is_not_open_does_nothing() -> None:
    heard = Heard()
    RangeStack(heard).close("a")
    assert heard.log == []


def test_a_stage_inside_itself_is_one_range() -> None:
    heard = Heard()
    ranges = RangeStack(heard)
    with ranges.stage(Stage.PREPROCESSING), ranges.stage(Stage.PREPROCESSING):
        pass
    assert heard.log == ["+gemma_trace::preprocessing", "-"]


class Broken:
    def begin(self, name: str) -> None:
        raise KeyError(name)

    def end(self) -> None:
        raise KeyError


def test_a_sink_that_fails_is_logged_and_nothing_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    ranges = RangeStack(Broken())
    with ranges.stage(Stage.REQUEST):
        assert ranges.depth == 0, "what was never begun isn't open"
    assert caplog.messages == ["gemma-trace could not record a range: KeyError: 'gemma_trace::request'"]


def test_a_range_that_an_interrupt_left_ends_before_the_next_of_its_name() -> None:
    heard = Heard()
    ranges = RangeStack(heard)
    for name in ("a", "b", "a"):
        ranges.open(name)
    assert heard.log == ["+a", "+b", "-", "-", "+a"]


def test_only_stages_are_synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: heard.log.append(f"wait {device}"))
    sink = SynchronizedRanges(heard, torch.device("cuda", 1))
    layer = "gemma_trace::layer::model.layers.0"
    for name in (Stage.PREFILL.range_name, layer):
        sink.begin(name)
    for _ in range(2):
        sink.end()
    wait = "wait cuda:1"
    assert heard.log == [wait, "+gemma_trace::prefill", f"+{layer}", "-", wait, "-"]


def test_each_of_several_devices_is_waited_for_at_both_ends_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: heard.log.append(f"wait {device}"))
    sink = SynchronizedRanges(heard, torch.device("cuda", 0), torch.device("cpu"), torch.device("cuda", 2))
    sink.begin(Stage.VISION_TOWER.range_name)
    sink.end()
    waits = ["wait cuda:0", "wait cuda:2"]
    assert heard.log == [*waits, "+gemma_trace::vision_tower", *waits, "-"]


def test_without_a_profiler_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    def noted(name: str) -> Any:
        entered.append(name)
        return torch.profiler.record_function(name)

    monkeypatch.setattr(ranges_module, "record_function", noted)
    ranges = RangeStack(ProfilerRanges())
    with ranges.stage(Stage.REQUEST):
        pass
    assert entered == []
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        with ranges.stage(Stage.REQUEST):
            pass
        seen: list[bool] = []
        thread = threading.Thread(target=lambda: seen.append(profiler_is_running()))
        thread.start()
        thread.join()
    assert (entered, seen) == (["gemma_trace::request"], [True])


def test_two_annotations_of_one_thing_are_one_range() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        outer, inner = RangeStack(ProfilerRanges()), RangeStack(ProfilerRanges())
        for _ in range(2):
            with outer.stage(Stage.REQUEST), inner.stage(Stage.REQUEST), inner.stage(Stage.PREFILL):
                pass
    names = [event.name for event in profiler.events()]
    assert (names.count("gemma_trace::request"), names.count("gemma_trace::prefill")) == (2, 2)


def overlapping(ranges: RangeStack, number: int) -> Iterator[None]:
    """A request that gives way to others after each of its parts."""
    with ranges.stage(Stage.REQUEST):
        yield
        with ranges.stage(Stage.PREPROCESSING):
            ranges.open(f"part of {number}")
            ranges.close(f"part of {number}")
        yield
        ranges.open(f"rest of {number}")
        ranges.close(f"rest of {number}")


async def awaited(requests: Iterable[Iterator[None]]) -> None:
    async def run(request: Iterator[None]) -> None:
        for _ in request:
            await asyncio.sleep(0)

    await asyncio.gather(*map(run, requests))


def by_asyncio(requests: Iterable[Iterator[None]]) -> None:
    asyncio.run(awaited(requests))


def by_turns(requests: Iterable[Iterator[None]]) -> None:
    for _ in zip_longest(*requests):
        pass


REQUEST, PREPROCESSING = "+gemma_trace::request", "+gemma_trace::preprocessing"
OVERLAP = [f"+{INTERLEAVED}", "-"]


@pytest.mark.parametrize(("run", "at_begin", "at_end"), [(by_asyncio, OVERLAP * 2, {0}), (by_turns, [], {0, 1})])
def test_requests_that_overlap_on_one_thread_have_one_range_and_that_is_said(
    caplog: pytest.LogCaptureFixture, run: Callable[[Any], None], at_begin: list[str], at_end: set[int]
) -> None:
    heard = Heard()
    ranges = RangeStack(heard)
    run(overlapping(ranges, number) for number in range(3))
    parts = [each for number in range(3) for each in (PREPROCESSING, f"+part of {number}", "-", "-")]
    rests = [each for number in range(3) for each in (f"+rest of {number}", "-", *OVERLAP * (number in at_end))]
    assert heard.log == [REQUEST, *at_begin, *parts, *rests, "-"]
    assert ranges.depth == 0
    (said,) = caplog.messages
    assert "run one at a time, or each on a thread of its own" in said


def test_requests_one_after_the_other_and_tasks_of_one_request_are_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    ranges = RangeStack(heard)

    async def load() -> None:
        with ranges.stage(Stage.REQUEST), ranges.stage(Stage.IMAGE_LOAD):
            await asyncio.sleep(0)

    async def one_by_one() -> None:
        for _ in range(2):
            with ranges.stage(Stage.REQUEST):
                await asyncio.create_task(load())

    asyncio.run(one_by_one())
    assert heard.log == [REQUEST, "+gemma_trace::image_load", "-", "-"] * 2
    assert caplog.messages == []


def test_a_stage_that_ends_first_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    ranges = RangeStack(heard)

    def in_stage(stage: Stage, steps: int) -> Iterator[None]:
        with ranges.stage(stage):
            yield from [None] * steps

    with ranges.stage(Stage.REQUEST):
        by_turns([in_stage(Stage.IMAGE_LOAD, 1), in_stage(Stage.TRANSFER, 2)])
    load, transfer = "+gemma_trace::image_load", "+gemma_trace::transfer"
    assert heard.log == [REQUEST, load, transfer, *OVERLAP, "-", "-", transfer, "-", "-"]
    assert len(caplog.messages) == 1


def test_a_block_that_another_thread_leaves_ends_with_what_comes_next(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    ranges = RangeStack(heard)
    request = overlapping(ranges, 0)
    next(request)
    thread = threading.Thread(target=lambda: [None for _ in request])  # as a server's pool takes it on
    thread.start()
    thread.join()
    with ranges.stage(Stage.REQUEST):
        pass
    elsewhere = [PREPROCESSING, "+part of 0", "-", "-", "+rest of 0", "-"]
    assert heard.log == [REQUEST, *elsewhere, *OVERLAP, "-", REQUEST, "-"]
    assert "left on another" in caplog.text


def test_a_cancelled_task_leaves_nothing_open() -> None:
    heard = Heard()
    ranges = RangeStack(heard)

    async def cancelled() -> None:
        async def wait() -> None:
            with ranges.stage(Stage.REQUEST), ranges.stage(Stage.TRANSFER):
                await asyncio.Event().wait()

        tasks = [asyncio.create_task(wait()) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(cancelled())
    assert ranges.depth == 0
    assert heard.log.count("-") == len(heard.log) / 2
    assert heard.log.count(REQUEST) == 1
