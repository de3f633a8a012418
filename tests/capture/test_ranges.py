from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from gemma_trace.capture import ranges as ranges_module
from gemma_trace.capture.ranges import ProfilerRanges, RangeStack, SynchronizedRanges, profiler_is_running
from gemma_trace.stages import Stage


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
