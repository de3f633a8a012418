"""A model over several devices: what its stages are said to take, against durations by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace import load
from gemma_trace.analysis.summary import RunSummary, summarize
from gemma_trace.capture import given, models, session
from gemma_trace.capture.accelerators import DeviceClock
from gemma_trace.capture.generation import TokenClock
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.ranges import RangeSink, SynchronizedRanges
from gemma_trace.capture.session import profile
from gemma_trace.capture.timers import StageTimer
from gemma_trace.errors import CaptureError
from gemma_trace.metadata import RequestSample
from gemma_trace.stages import Stage
from tests.capture.fake_gpus import MS, Gpus, fake_gpus
from tests.conftest import thorough

Program = Callable[[Gpus], None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return fake_gpus(monkeypatch, 3)


def timed(gpus: Gpus, stages: list[tuple[Stage, Program]], *, wait: bool = False) -> RequestSample:
    """A request of these stages, over all GPUs; the last token is on the host once all of them are done.

    Args:
        wait: whether stages wait for the devices.
    """
    timer = StageTimer(*gpus.devices)
    sink: RangeSink = SynchronizedRanges(timer, *gpus.devices) if wait else timer
    sink.begin(Stage.REQUEST.range_name)
    for stage, program in stages:
        sink.begin(stage.range_name)
        program(gpus)
        sink.end()
    for device in gpus.devices:
        gpus.synchronize(device)
    timer.tokens_on_host()
    sink.end()
    return timer.finish_request("")


def split(*parts: tuple[int, float], after: int | None = None) -> Program:
    """Work of so many ms on one GPU after the other, each of which takes over what the one before made.

    Args:
        after: the GPU that the first one takes over from; None is nothing to wait for.
    """

    def program(gpus: Gpus) -> None:
        before = after
        for index, ms in parts:
            if before is not None:
                gpus.hand_over(before, index)
            gpus.work(index, ms)
            before = index

    return program


SPLIT = [
    (Stage.VISION_TOWER, split((0, 50))),
    (Stage.PROJECTOR, split((0, 1))),
    (Stage.PREFILL, split((0, 20), (1, 30))),
    (Stage.DECODE, split((0, 2), (1, 3), after=1)),
    (Stage.DECODE, split((0, 2), (1, 4), after=1)),
]
"""The tower on one GPU, the decoder's layers over two of them. The host asks for all of it at once."""


def device_ms(sample: RequestSample) -> dict[str, float]:
    return {name: (stage.device_ns or 0) / MS for name, stage in sample.stages.items()}


def host_ms(sample: RequestSample) -> dict[str, float]:
    return {name: stage.host_ns / MS for name, stage in sample.stages.items()}


def test_a_stage_over_two_gpus_takes_the_time_of_both(gpus: Gpus) -> None:
    """Each one's own events would give prefill 20 ms, or 101: the second waits from the request's start."""
    sample = timed(gpus, SPLIT)
    assert device_ms(sample) == {"vision_tower": 50, "projector": 1, "prefill": 50, "decode": 11}
    assert set(host_ms(sample).values()) == {0}, "of which the host's clock sees nothing"


@pytest.mark.parametrize(
    "stages",
    [
        SPLIT,
        [(Stage.VISION_TOWER, split((1, 50))), (Stage.PREFILL, split((1, 5), (0, 20), (1, 30), (2, 7)))],
        [(Stage.PREFILL, split((2, 7))), (Stage.DECODE, split((1, 1), (2, 2), (0, 3), after=2))],
    ],
)
def test_they_are_the_times_that_stages_have_which_wait(gpus: Gpus, stages: list[tuple[Stage, Program]]) -> None:
    assert device_ms(timed(gpus, stages)) == host_ms(timed(gpus, stages, wait=True))


def test_what_overlaps_counts_once_and_nothing_waits_for_it(gpus: Gpus) -> None:
    """A tower on one GPU, and text that another one can begin with meanwhile."""
    gpus.now_ns = 7 * MS

    def text(gpus: Gpus) -> None:
        gpus.work(0, 30)
        gpus.hand_over(1, 0)
        gpus.work(0, 20)

    sample = timed(gpus, [(Stage.VISION_TOWER, split((1, 50))), (Stage.PREFILL, text)])
    assert device_ms(sample) == {"vision_tower": 50, "prefill": 20}
    assert sample.wall_ns == 70 * MS, "as without events: the streams of the model's work never waited for each other"


def test_stages_inside_of_others_are_taken_off(gpus: Gpus) -> None:
    timer = StageTimer(*gpus.devices)
    for stage, index, ms in ((Stage.REQUEST, 2, 5.0), (Stage.PREFILL, 0, 10.0), (Stage.VISION_TOWER, 1, 20.0)):
        timer.begin(stage.range_name)
        gpus.work(index, ms)
    timer.end()
    gpus.hand_over(1, 0)
    gpus.work(0, 30)
    timer.end()
    timer.tokens_on_host()
    timer.end()
    found = device_ms(timer.finish_request(""))
    assert found == {"vision_tower": 20 - 10, "prefill": 50 - 5 - 10}, (
        "from 5 to 50 ms, of which from 10 to 20 the tower"
    )


def test_all_devices_are_waited_for(gpus: Gpus) -> None:
    gpus.work(1, 5)
    DeviceClock(*gpus.devices).wait()
    assert gpus.now_ns == 5 * MS


@pytest.fixture
def spread(quick: LoadedModel, gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model in hand of which each part works for as long as is said here, on one GPU or the other."""
    for module in (given, models):
        monkeypatch.setattr(module, "devices_of", lambda model: tuple(gpus.devices[:2]))
    model: Any = quick.model
    layers = model.model.language_model.layers
    parts = {model.model.vision_tower: (0, 50), model.model.multi_modal_projector: (0, 1), model.lm_head: (1, 0.5)}
    parts |= {layer: (2 * place // len(layers), 4) for place, layer in enumerate(layers)}

    def working(module: nn.Module, index: int, ms: float) -> Callable[..., Any]:
        forward = module.forward

        @functools.wraps(forward)
        def worked(*args: Any, **kwargs: Any) -> Any:
            gpus.hand_over(1 - index, index)
            gpus.work(index, ms)
            return forward(*args, **kwargs)

        return worked

    for module, part in parts.items():
        monkeypatch.setitem(vars(module), "forward", working(module, *part))  # the model is other tests' too
    monkeypatch.setattr(TokenClock, "put", waiting(gpus, TokenClock.put))
    return quick


def waiting(gpus: Gpus, put: Callable[..., None]) -> Callable[..., None]:
    """Tokens come to the host from the last GPU."""

    def waited(self: TokenClock, tokens: torch.Tensor) -> None:
        gpus.synchronize(gpus.devices[1])
        put(self, tokens)

    return waited


def captured(spread: LoadedModel, folder: Path, **options: Any) -> RunSummary:
    least: dict[str, Any] = {
        "warmup": 0,
        "runs": 1,
        "profile_runs": 1,
        "new_tokens": 2,
        "output": folder,
        "image_sizes": "32x24",
    }
    result = profile(model=spread.model, processor=spread.processor, **least | options)
    assert result.metadata.config["devices"] == ["cuda:0", "cuda:1"]
    return summarize(load(result.path))


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("options", [{}, *thorough([{"sync_stages": True, "device": "cuda"}])])
def test_a_model_over_two_gpus_is_captured(spread: LoadedModel, tmp_path: Path, options: dict[str, Any]) -> None:
    layers = len(spread.model.model.language_model.layers)
    summary = captured(spread, tmp_path, **options)
    found = {name: summary.measures[f"{name}_ms"] for name in ("vision_tower", "projector", "prefill", "decode")}
    assert {name: each.values for name, each in found.items() if each} == {
        "vision_tower": (50,),
        "projector": (1,),
        "prefill": (4 * layers + 0.5,),
        "decode": (4 * layers + 0.5,),
    }
    assert (summary.device, summary.timing) == ("cuda", "timed")


@pytest.mark.parametrize(("images_on", "waited_for"), [("cuda:1", []), ("cuda:2", ["cuda:2"])])
def test_images_are_waited_for_on_a_device_that_has_no_part_of_the_model(
    spread: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_on: str, waited_for: list[str]
) -> None:
    """Work on the model's own devices is in the events' times. The profiler waits for all of them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    asked: list[tuple[str, ...]] = []

    class AskedError(Exception):
        """Nothing is recorded."""

    def profiled_pass(config: object, devices: tuple[torch.device, ...], *_: object) -> None:
        asked.append(tuple(map(str, devices)))
        raise AskedError

    monkeypatch.setattr(session, "profiled_pass", profiled_pass)
    monkeypatch.setattr(session, "Sender", lambda *_: SimpleNamespace(requests=[]))
    with pytest.raises(CaptureError, match="AskedError"):
        captured(spread, tmp_path, image_device=images_on, runs=0)
    assert asked == [("cuda:0", "cuda:1", *waited_for)]
