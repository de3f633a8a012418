from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemma_trace.capture.config import CaptureConfig, Detail
from gemma_trace.errors import ConfigError


def test_what_programs_have_is_taken() -> None:
    config = CaptureConfig(
        **dict[str, Any](
            model=Path("models/gemma"),
            device=torch.device("cuda", 1),
            dtype=torch.bfloat16,
            detail=Detail.MODULE,
            images="a.jpg",
            stage_modules={"vision": "model.tower"},
            runs=np.int64(3),
            output="traces/mine",
        )
    )
    assert config == CaptureConfig(
        model="models/gemma",
        device="cuda:1",
        dtype="bfloat16",
        detail="module",
        images=(Path("a.jpg"),),
        stage_modules=("vision=model.tower",),
        runs=3,
        output=Path("traces/mine"),
    )
    assert CaptureConfig(image_sizes="8x6").image_sizes == ("8x6",)  # type: ignore[arg-type]
    assert type(config.runs) is int
    assert type(config.detail) is str
    assert CaptureConfig(images=["a.jpg", Path("b.jpg")]).images == (Path("a.jpg"), Path("b.jpg"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("runs", "3", "runs is '3'; it requires a whole number"),
        ("runs", True, "runs is True; it requires a whole number"),
        ("runs", 2.5, "runs is 2.5; it requires a whole number"),
        ("runs", None, "runs is None; it requires a whole number"),
        ("stacks", 1, "stacks is 1; it requires true or false"),
        ("model", 4, "model is 4; it requires text"),
        ("output", 4, "output is 4; it requires a path"),
        ("images", 4, "images is 4; it requires a list of texts"),
        ("images", [4], r"images is \[4\]; it requires a list of texts"),
        ("images", [np.zeros((90, 90))], r"images is \[array\(\[\[0., .*…; it requires a list of texts"),
    ],
)
def test_what_cannot_be_meant_is_one_line(option: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        CaptureConfig(**{option: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
