from __future__ import annotations

from gemma_trace.capture.ranges import RangeStack
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
