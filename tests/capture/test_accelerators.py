"""Devices that are neither a CPU nor CUDA's, faked: torch.accelerator is what is asked."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from gemma_trace.capture import accelerators, models
from gemma_trace.capture.accelerators import DeviceClock, activity_of, can_wait_for, name_of, wait_for
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.device_watch import watched_devices
from gemma_trace.capture.distributed import Rank
from gemma_trace.capture.models import LoadedModel, images_elsewhere
from gemma_trace.capture.ranges import SynchronizedRanges
from gemma_trace.capture.sending import Sender
from gemma_trace.capture.session import _warnings
from gemma_trace.capture.timers import StageTimer
from gemma_trace.metadata import StageSample
from gemma_trace.requests_file import ChatRequest, Text, Turn
from gemma_trace.stages import Stage

XPU, MPS, CPU = torch.device("xpu", 1), torch.device("mps"), torch.device("cpu")


class Event:
    """In the place of torch.Event: recorded on a stream, at the time that the host's clock says."""

    def __init__(self, device: torch.device, enable_timing: bool) -> None:
        assert enable_timing
        self.device = device

    def record(self, stream: str) -> None:
        self.stream, self.at_ns = stream, time.perf_counter_ns()

    def elapsed_time(self, end: Event) -> float:
        return (end.at_ns - self.at_ns) / 1e6


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A machine with an XPU that the profiler sees; what is waited for."""
    waited: list[Any] = []
    clock = itertools.count(0, 10)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    monkeypatch.setattr(torch, "Event", Event)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    monkeypatch.setattr(accelerators, "supported_activities", lambda: {ProfilerActivity.CPU, ProfilerActivity.XPU})
    return waited


def test_torchs_accelerator_is_waited_for(calls: list[Any]) -> None:
    wait_for(XPU)
    wait_for(CPU)
    assert calls == [XPU]
    assert [can_wait_for(device) for device in (XPU, CPU, MPS, torch.device("cuda"))] == [True, True, False, True]
    assert [activity_of(device) for device in (XPU, MPS, CPU)] == [ProfilerActivity.XPU, None, ProfilerActivity.CPU]
    assert [DeviceClock(*devices).now() for devices in ([CPU], [MPS], [XPU, torch.device("cuda")])] == [None] * 3
    assert (name_of(MPS), name_of(CPU)) == ("mps", None)


def test_stages_are_timed_by_the_devices_own_events(calls: list[Any]) -> None:
    timer = StageTimer(XPU)
    timer.begin(Stage.REQUEST.range_name)  # event 0, host 10
    timer.begin(Stage.PREFILL.range_name)  # event 20, host 30
    timer.end()  # host 40, event 50
    timer.tokens_on_host()
    timer.end()
    assert timer.finish_request("").stages["prefill"] == StageSample(10, 30, 1)
    assert calls == [XPU]


def test_synchronised_stages_wait_for_what_the_profiler_does_not_see(calls: list[Any]) -> None:
    timer = StageTimer(MPS)
    ranges = SynchronizedRanges(timer, MPS, CPU)
    ranges.begin(Stage.REQUEST.range_name)
    ranges.begin("gemma_trace::layer::x")
    ranges.end()
    timer.tokens_on_host()
    ranges.end()
    assert calls == [MPS, MPS], "at both ends of the stage"
    assert timer.finish_request("").wall_ns > 0


def test_images_on_another_device_than_the_models_are_waited_for(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the clock of the host, or of the model's device, would time their launches alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    for option, model_on, waited in (
        (None, CPU, None),
        ("cpu", first, None),
        ("cuda", first, None),
        ("cuda:1", second, None),
        ("cuda", CPU, first),
        ("cuda:1", first, second),
        ("cuda", second, None),  # its own
        ("cuda:0", second, first),
        ("cpu", CPU, None),
    ):
        assert images_elsewhere(CaptureConfig(image_device=option), model_on) == waited, (option, model_on)
    timer = StageTimer(CPU)
    ranges = SynchronizedRanges(timer, XPU, only=Stage.IMAGE_PROCESSING)
    for stage in (Stage.REQUEST, Stage.IMAGE_PROCESSING):
        ranges.begin(stage.range_name)
    assert calls == [XPU]
    ranges.end()
    ranges.end()
    assert calls == [XPU, XPU], "at both ends of that stage, and at no other"


@pytest.mark.parametrize(
    ("option", "model_on", "asked"),
    [("cuda", "cuda:1", "cuda:1"), ("cuda", "cpu", "cuda:1"), ("cuda:0", "cuda:1", "cuda:0"), ("cpu", "cuda:1", "cpu")],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_processor_is_asked_for_the_very_device_that_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, option: str, model_on: str, asked: str, batch: int
) -> None:
    """On the second rank of a machine `cuda` is the second device, whichever one is torch's current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(models, "this_rank", lambda: Rank(1, 1, 2, 2))
    given: dict[str, Any] = {}

    def processor(**options: Any) -> dict[str, Any]:
        given.update(options)
        return {}

    part: Any = processor
    part.tokenizer = SimpleNamespace(bos_token=None)
    config = CaptureConfig(image_device=option, cold=True, batch=batch)
    loaded = LoadedModel(torch.nn.Linear(1, 1), part, torch.device(model_on), "random")
    request = ChatRequest("text alone", (Turn("user", (Text("Why?"),)),))
    Sender(config, loaded, None, [request])._inputs(request, [], batch)
    assert (given["device"], given["images"], len(given["text"])) == (asked, None, batch)
    elsewhere = images_elsewhere(config, loaded.device)
    assert elsewhere in (None, torch.device(asked))


@pytest.mark.usefixtures("calls")
def test_what_is_not_known_of_a_device_is_said(tmp_path: Path) -> None:
    empty, exported = tmp_path / "empty.json", tmp_path / "exported.json"
    empty.touch()
    exported.write_bytes(b'"cat": "kernel"')
    assert _warnings(MPS, [empty]) == (
        "this torch's profiler records no activity of mps: the stages waited for it, but no kernel is known",
    )
    assert "no device activity" in _warnings(XPU, [empty])[0]
    assert _warnings(XPU, [empty, exported]) == _warnings(CPU, [empty]) == ()
    with watched_devices([XPU]) as watch:
        watch.start()
        watch.finish(1, 1)
    assert (watch.records, watch.energy) == ((), None)
    assert watch.no_energy == "energy can't be read for this kind of device"
