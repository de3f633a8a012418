from __future__ import annotations

import itertools
import time

import pytest
import torch

from gemma_trace.capture.timers import StageTimer
from gemma_trace.metadata import StageSample
from gemma_trace.stages import Stage


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> StageTimer:
    """A timer whose clock advances by 10 ns at every reading."""
    clock = itertools.count(0, 10)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    return StageTimer(torch.device("cpu"))


def test_times_are_exclusive_and_ttft_leaves_the_image_load_out(timer: StageTimer) -> None:
    timer.begin(Stage.REQUEST.range_name)  # 0
    timer.begin(Stage.IMAGE_LOAD.range_name)  # 10
    timer.end()  # 20
    timer.begin(Stage.PREPROCESSING.range_name)  # 30
    timer.begin(Stage.TOKENIZATION.range_name)  # 40
    timer.end()  # 50
    timer.end()  # 60
    timer.begin(Stage.PREFILL.range_name)  # 70
    timer.begin("gemma_trace::layer::x")
    timer.end()  # 80: the end of any range reads the clock
    timer.end()  # 90
    timer.begin(Stage.SAMPLING.range_name)  # 100
    timer.end()  # 110
    timer.tokens_on_host()  # 120
    timer.begin(Stage.DECODE.range_name)  # 130
    timer.end()  # 140
    timer.tokens_on_host()  # 150
    timer.end()  # 160
    sample = timer.finish_request("photo.jpg")
    assert sample.wall_ns == 160
    assert sample.token_ns == (120, 150)
    assert sample.ttft_ns == 120 - 10
    assert sample.image == "photo.jpg"
    assert sample.stages == {
        "image_load": StageSample(10, None, 1),
        "preprocessing": StageSample(30 - 10, None, 1),
        "tokenization": StageSample(10, None, 1),
        "prefill": StageSample(20, None, 1),
        "sampling": StageSample(10, None, 1),
        "decode": StageSample(10, None, 1),
    }
    assert set(sample.ttft_stages) == set(sample.stages) - {"decode"}


def test_a_stage_that_comes_twice_is_summed(timer: StageTimer) -> None:
    timer.begin(Stage.REQUEST.range_name)
    for _ in range(3):
        timer.begin(Stage.DECODE.range_name)
        timer.end()
    timer.tokens_on_host()
    timer.end()
    assert timer.finish_request("").stages["decode"] == StageSample(30, None, 3)


def test_a_request_without_token_or_range_is_refused(timer: StageTimer) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        timer.finish_request("")


def test_a_new_request_forgets_the_one_before(timer: StageTimer) -> None:
    for _ in range(2):
        timer.start_request()
        timer.begin(Stage.REQUEST.range_name)
        timer.tokens_on_host()
        timer.end()
    assert len(timer.finish_request("").token_ns) == 1


class Events:
    """In the place of CUDA's events: each is recorded on a stream, at the time that the host's clock says."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        self.stream, self.at_ns = stream, time.perf_counter_ns()

    def elapsed_time(self, end: Events) -> float:
        return (end.at_ns - self.at_ns) / 1e6


def test_events_are_recorded_on_the_models_own_device(timer: StageTimer, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "Event", Events)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    timer = StageTimer(torch.device("cuda", 1))
    timer.begin(Stage.REQUEST.range_name)  # event 0, host 10
    timer.begin(Stage.PREFILL.range_name)  # event 20, host 30
    timer.end()  # host 40, event 50
    timer.tokens_on_host()
    timer.end()
    events = [event for span in timer._spans for event in (span.begin_event, span.end_event)]
    assert {getattr(event, "stream", None) for event in events} == {"stream of cuda:1"}
    assert timer.finish_request("").stages["prefill"] == StageSample(10, 30, 1)
    assert waited == [torch.device("cuda", 1)]
