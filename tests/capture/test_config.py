from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int3"}, "no dtype 'int3'; give one of float32, bfloat16, float16"),
        ({"image_backend": "cv2"}, "no image backend 'cv2'"),
        ({"detail": "kernel"}, "no detail 'kernel'"),
        ({"device": "tpu"}, "no device 'tpu'; give auto, cpu, cuda or cuda:N"),
        ({"new_tokens": 0}, "new_tokens is 0; it must be 1 or more"),
        ({"profile_runs": 0}, "profile_runs is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"name": "../up"}, "can't be a folder's"),
        ({"prompt": "  "}, "the prompt is empty"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        CaptureConfig(**options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "tiny-float32-cpu-torchvision"),
        ({"attn": "eager", "sync_stages": True}, "tiny-float32-cpu-torchvision-eager-sync"),
        ({"model": "/some/where/my model", "dtype": "bfloat16"}, "my-model-bfloat16-cpu-torchvision"),
        ({"name": "mine"}, "mine"),
    ],
)
def test_the_run_name_tells_runs_apart(options: dict[str, Any], name: str) -> None:
    assert CaptureConfig(**options).run_name("cpu") == name


def test_the_record_names_files_without_their_folders() -> None:
    config = CaptureConfig(model="/home/someone/models/gemma", images=(Path("/home/someone/cat.jpg"),))
    record = config.record()
    assert record["model"] == "gemma"
    assert record["images"] == ["cat.jpg"]
    assert "someone" not in str(record)
