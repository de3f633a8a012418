"""A model in hand: what is recorded of it is read off it, and what it can't be is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity

from gemma_trace.capture import accelerators
from gemma_trace.capture.accelerators import devices_of
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.given import GivenModel, check_applies, check_devices, read_given
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.session import profile
from gemma_trace.errors import ConfigError, DeviceError

GIVEN = GivenModel("Gemma3", (), (torch.device("cpu"),), ("bfloat16",), "eager", "pil")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtype": "float32"}, "dtype='float32' does not apply to a model in hand, whose dtype is bfloat16"),
        ({"attn": "sdpa"}, "attn='sdpa' .*, whose attention implementation is eager"),
        ({"device": "cuda:1"}, "device='cuda:1' .*, whose device is cpu"),
        ({"weights": "random"}, "weights='random' .*, whose weights are given"),
        ({"image_backend": "torchvision"}, "image_backend='torchvision' .*, whose image processor's backend is pil"),
        ({"seed": 3}, "seed=3 .*, whose weights are drawn already"),
        ({"model": "4b"}, "model='4b' .*, whose class is Gemma3"),
        ({"quantize": "int8"}, "quantize='int8' .*, whose weights are what they are"),
        ({"adapter": "a/b"}, "adapter='a/b' .*, whose adapters are what they are"),
    ],
)
def test_an_option_that_a_model_in_hand_cannot_follow_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        check_applies(CaptureConfig(**options), GIVEN, options)
    assert "\n" not in str(caught.value)


def test_options_that_say_what_it_is_anyway_are_fine() -> None:
    agreeing: dict[str, Any] = {"dtype": "bfloat16", "attn": "eager", "device": "cpu", "image_backend": "pil"}
    check_applies(CaptureConfig(**agreeing), GIVEN, agreeing)
    check_applies(CaptureConfig(), GIVEN, ())
    check_applies(CaptureConfig(device="cuda"), replace(GIVEN, devices=(torch.device("cuda", 1),)), ("device",))
    with pytest.raises(ConfigError, match="dtype='float16'"):
        check_applies(CaptureConfig(dtype="float16"), GIVEN, ())


def test_what_is_recorded_is_what_the_objects_are(quick: LoadedModel, quick_gemma: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor

    model = torch.compile(quick.model, backend="eager")
    processor = AutoProcessor.from_pretrained(quick_gemma, backend="pil")
    metadata = profile(
        model=model, processor=processor, output=tmp_path, warmup=0, runs=1, profile_runs=1, new_tokens=2
    ).metadata
    run = metadata.run
    assert (run.model, run.weights, run.dtype) == ("Gemma3ForConditionalGeneration", "given", "float32")
    assert (run.device, run.image_backend) == ("cpu", "pil")
    assert run.name == "Gemma3ForConditionalGeneration-float32-cpu-pil"
    recorded = {name: metadata.config[name] for name in ("model", "wrappers", "weights", "dtype", "attn", "seed")}
    assert recorded == {
        "model": "Gemma3ForConditionalGeneration",
        "wrappers": ["OptimizedModule"],
        "weights": "given",
        "dtype": "float32",
        "attn": "sdpa",
        "seed": None,
    }
    assert (metadata.config["image_backend"], metadata.config["decode_mode"]) == ("pil", "eager")
    assert metadata.timed_requests[0].stages["decode"].count == 1, "the wrapper's generate is the model's own"


def test_parts_that_are_not_alike_are_told(quick: LoadedModel) -> None:
    model: Any = copy.deepcopy(quick.model)
    plain = read_given(model, quick.processor)
    assert (plain.attn, plain.dtypes, "dtypes" in plain.record()) == ("sdpa", ("float32",), False)
    model.set_attn_implementation({"text_config": "eager"})
    model.model.multi_modal_projector.to(torch.bfloat16)
    found = read_given(model, quick.processor)
    assert (found.attn, found.dtype) == ("text-eager+vision-sdpa", "float32")
    assert found.record()["dtypes"] == ["float32", "bfloat16"], "the most first, whichever part is in front"
    asked: list[dict[str, Any]] = [{"attn": "sdpa"}, {"dtype": "bfloat16"}]
    for options in asked:
        with pytest.raises(ConfigError, match="does not apply to a model in hand"):
            check_applies(CaptureConfig(**options), found, options)
    model.set_attn_implementation({"vision_config": "eager"})
    assert read_given(model, quick.processor).attn == "eager", "whatever stands over both"
    model.model.language_model.to(torch.bfloat16)
    assert read_given(model, quick.processor).dtypes == ("bfloat16", "float32")


def test_what_is_no_model_or_no_processor_is_refused(quick: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="the model is a Linear, which has no generate"):
        read_given(nn.Linear(2, 2), quick.processor)
    with pytest.raises(ConfigError, match="without image_processor and tokenizer; give the model's own"):
        read_given(quick.model, quick.processor.tokenizer)
    with torch.device("meta"):
        empty = type(quick.model)(quick.model.config)
    with pytest.raises(ConfigError, match=r"the model has no weights, or not all: some are on the device meta"):
        read_given(empty, quick.processor)
    with pytest.raises(ConfigError, match=r"the model has no weights$"):
        read_given(nothing := Hollow(), quick.processor)
    nothing.layer = nn.Linear(2, 2)
    read_given(nothing, quick.processor)


class Hollow(nn.Module):  # type: ignore[misc]
    def generate(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("part", ["first", "last"])
def test_a_model_that_is_offloaded_is_refused_whichever_part_of_it(
    quick: LoadedModel, part: str, tmp_path: Path
) -> None:
    """By accelerate's own means, onto a disk: its weights are on no device until a call fetches them."""
    from accelerate import disk_offload  # type: ignore[import-untyped]

    model: Any = Hollow()
    model.first, model.last = nn.Linear(2, 2), nn.Linear(2, 2)
    disk_offload(getattr(model, part), str(tmp_path), execution_device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"parts of the model are offloaded, .*; load all of it onto its devices"):
        read_given(model, quick.processor)


@pytest.mark.parametrize("chained", [False, True])
def test_a_model_that_is_moved_to_its_device_for_each_call_is_refused(quick: LoadedModel, chained: bool) -> None:
    """It is on the CPU until then, whose clock would time launches."""
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module  # type: ignore[import-untyped]

    model: Any = Hollow()
    model.layer = nn.Linear(2, 2)
    cpu_offload_with_hook(model.layer, execution_device="cuda:0")
    if chained:
        add_hook_to_module(model.layer, AlignDevicesHook(), append=True)
    with pytest.raises(ConfigError, match=r"parts of the model are offloaded, .*; load all of it onto its devices"):
        read_given(model, quick.processor)


def spread(*names: str) -> Any:
    """What has weights on these devices, and its last buffer on the last one."""
    *weights, buffer = [SimpleNamespace(device=torch.device(name)) for name in (*names, names[-1])]
    return SimpleNamespace(parameters=lambda: iter(weights), buffers=lambda: iter([buffer]))


def test_what_no_clock_tells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_devices(spread("cpu", "cuda:1", "cuda:1"), CaptureConfig())
    check_devices(spread("cuda:0", "cuda:1"), CaptureConfig())
    with pytest.raises(DeviceError, match=r"the work of mps, xpu:0 can't be timed; move the model"):
        check_devices(spread("xpu:0", "mps"), CaptureConfig(sync_stages=True))
    monkeypatch.setattr(accelerators, "supported_activities", lambda: {ProfilerActivity.CPU, ProfilerActivity.XPU})
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("xpu"))
    check_devices(spread("xpu:0", "xpu:1", "cpu"), CaptureConfig())
    check_devices(spread("xpu:0", "cuda:0"), CaptureConfig(sync_stages=True))
    with pytest.raises(ConfigError, match=r"over xpu:0, cuda:0, which are of different kinds, .*; give sync_stages=Tr"):
        check_devices(spread("xpu:0", "cuda:0"), CaptureConfig())


@pytest.mark.parametrize(
    ("devices", "one", "recorded"),
    [
        (("cuda:1",), "cuda:1", None),
        (("cuda:1", "cuda:0"), "cuda:1", ["cuda:1", "cuda:0"]),
        (("cpu", "cuda:0"), "cuda:0", ["cpu", "cuda:0"]),
        (("cpu",), "cpu", None),
    ],
)
def test_a_model_is_on_the_accelerators_that_have_parts_of_it(
    devices: tuple[str, ...], one: str, recorded: list[str] | None
) -> None:
    found = devices_of(spread(*devices, "meta"))
    assert tuple(map(str, found)) == devices
    given = replace(GIVEN, devices=found)
    assert (str(given.device), given.record()["device"], given.record().get("devices")) == (one, one, recorded)
    check_applies(CaptureConfig(device=one.partition(":")[0]), given, ("device",))
    if devices == ("cuda:1", "cuda:0"):
        with pytest.raises(ConfigError, match=r"device='cuda:1' .* whose device is cuda:1, cuda:0"):
            check_applies(CaptureConfig(device="cuda:1"), given, ("device",))


@pytest.mark.parametrize(("name", "is_seen"), [("xpu:0", True), ("xpu:0", False), ("mps", False)])
def test_an_accelerator_is_timed_by_events_where_the_profiler_sees_it_and_else_by_waiting(
    monkeypatch: pytest.MonkeyPatch, name: str, is_seen: bool
) -> None:
    device = torch.device(name)
    model = spread(name)
    seen = {ProfilerActivity.CPU, *([ProfilerActivity.XPU] if is_seen else [])}
    monkeypatch.setattr(accelerators, "supported_activities", lambda: seen)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: device)
    check_devices(model, CaptureConfig(sync_stages=True))
    if is_seen:
        check_devices(model, CaptureConfig())
        return
    with pytest.raises(ConfigError, match=f"profiler of this torch sees no work of {name}; give sync_stages=True"):
        check_devices(model, CaptureConfig())
