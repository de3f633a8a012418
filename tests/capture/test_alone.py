"""A capture beside whatever else its process does: it is right, or refused in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_trace.capture.alone import alone_in_process
from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.session import CaptureResult, profile
from gemma_trace.errors import CaptureError, ConfigError, GemmaTraceError
from gemma_trace.stages import Stage

LEAST: dict[str, Any] = {
    "runs": 1,
    "warmup": 0,
    "profile_runs": 1,
    "detail": "stage",
    "image_sizes": "8x6",
    "threads": 1,
}


def captured(quick: LoadedModel, folder: Path, **options: Any) -> CaptureResult:
    return profile(model=quick.model, processor=quick.processor, output=folder, **LEAST | options)


@contextmanager
def training(model: torch.nn.Module) -> Iterator[None]:
    model.train()
    try:
        yield
    finally:
        model.eval()


@pytest.mark.parametrize(
    ("around", "warnings"),
    [
        (lambda _: nullcontext(), ()),
        (training, ("the model is in training mode, so that dropout ran; call model.eval() before the capture",)),
        (
            lambda _: torch.autocast("cpu", torch.bfloat16),
            ("torch.autocast was on, so that ops ran in bfloat16, whatever the weights' dtype is",),
        ),
    ],
    ids=["plain", "training", "autocast"],
)
def test_what_a_program_has_set_is_said(
    quick: LoadedModel, tmp_path: Path, around: Callable[[Any], AbstractContextManager[Any]], warnings: tuple[str, ...]
) -> None:
    with around(quick.model):
        metadata = captured(quick, tmp_path).metadata
    assert metadata.warnings == warnings
    (sample,) = metadata.timed_requests
    assert {"image_processing", "vision_tower", "projector", "prefill", "sampling"} <= set(sample.stages)


def test_one_capture_runs_at_a_time_in_a_process(quick: LoadedModel, tmp_path: Path) -> None:
    with alone_in_process():
        refused: list[str] = []

        def second() -> None:
            try:
                captured(quick, tmp_path)
            except CaptureError as error:
                refused.append(str(error))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        second()
    assert len(refused) == 2
    assert all(text.startswith("another capture runs in this process; wait") for text in refused)
    assert list(tmp_path.iterdir()) == []


def test_a_profiler_that_runs_keeps_its_session(quick: LoadedModel, tmp_path: Path) -> None:
    with torch.profiler.profile() as profiler:
        with pytest.raises(CaptureError, match="a profiler is running in this process; stop it first"):
            captured(quick, tmp_path)
        torch.ones(3).sum()
    assert "aten::sum" in {event.name for event in profiler.events()}


def test_what_a_hook_of_the_models_raises_is_the_cause(quick: LoadedModel, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("no such layer\nand more")

    handle = quick.model.model.vision_tower.register_forward_pre_hook(fail)
    try:
        with pytest.raises(CaptureError, match=r"^the capture failed: LookupError: no such layer$") as caught:
            captured(quick, tmp_path)
    finally:
        handle.remove()
    assert isinstance(caught.value.__cause__, LookupError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": "tiny"}, "config is 'tiny'; it requires a CaptureConfig"),
        ({"config": {"model": "tiny"}}, "it requires a CaptureConfig"),
        ({"run": 3}, "a capture has no option 'run'; give runs"),
        ({"image": "a.jpg"}, "a capture has no option 'image'; give images"),
        ({"processor": print}, "give a model and its processor together"),
        ({"model": 3, "processor": print}, "has no generate"),
        ({"model": torch.nn.Linear(2, 2), "processor": print}, "has no generate"),
        ({"images": [None]}, r"images is \[None\]; it requires a list of paths"),
        ({"images": "/dev/null", "device": "cpu"}, "is a folder or a device, not an image"),
    ],
)
def test_what_cannot_be_captured_is_one_line(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(GemmaTraceError, match=message) as caught:
        profile(**given | {"output": tmp_path / "out"})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": None}, "annotate requires a model of transformers, and this is a NoneType"),
        ({"model": torch.jit.script(torch.nn.Linear(2, 2))}, "and this is a RecursiveScriptModule"),
        ({"detail": ["stage"]}, r"no detail \['stage'\]; give stage, layer or module"),
        ({"processor": dict}, "the processor is <class 'dict'>; give the model's own, or none"),
        ({"processor": torch.nn.Linear(2, 2)}, r"the processor is Linear\(.*\); give the model's own, or none"),
        ({"sink": 3}, r"the sink is 3; give an object with begin\(name\) and end\(\), or none"),
        ({"stage_modules": 3}, "stage_modules is 3; it requires a list of texts"),
        ({"stage_modules": {"tower": "0"}}, "stage_modules='tower=0' is not one of vision=PATH"),
        ({"stage_modules": {"vision": ""}}, "stage_modules='vision=' is not one of vision=PATH"),
    ],
)
def test_what_cannot_be_annotated_is_one_line(given: dict[str, Any], message: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=message) as caught, annotate(**{"model": model} | given):
        pass
    assert "\n" not in str(caught.value)


def test_a_stage_has_a_name_that_is_known() -> None:
    with annotate(torch.nn.Linear(2, 2)) as ranges:
        for stage in ("nothing", 3, None, Stage.UNATTRIBUTED):
            with pytest.raises(ConfigError, match=r"no stage .*; give one of request, "), ranges.stage(stage):  # type: ignore[arg-type]
                pass
        with ranges.stage("transfer"):
            assert ranges.is_open("gemma_trace::transfer")
