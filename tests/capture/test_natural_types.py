from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
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


class Raising:
    """Raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError

    def __repr__(self) -> str:
        raise RuntimeError

    def __index__(self) -> int:
        raise RuntimeError

    def __fspath__(self) -> str:
        raise RuntimeError

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError


class Named(str):
    """Text of another type, as numpy's is."""


def test_lists_are_taken_as_programs_have_them() -> None:
    one, two = Path("a.jpg"), Path("b.jpg")
    for images in (
        b"a.jpg",
        (each for each in ("a.jpg",)),
        {"a.jpg"},
        deque([one]),
        np.array(["a.jpg"]),
        {one: 1}.keys(),
    ):
        assert CaptureConfig(images=images).images == (one,)  # type: ignore[arg-type]
    assert CaptureConfig(images={"b.jpg", "a.jpg"}).images == (one, two), "in the order of their text"  # type: ignore[arg-type]
    for sizes in ((640, 480), [(640, 480)], "640X480", np.array([640, 480]), [[np.int64(640), 480]], "0640x480"):
        assert CaptureConfig(image_sizes=sizes).image_sizes == ("640x480",)  # type: ignore[arg-type]
    assert CaptureConfig(stacks=np.True_, memory=torch.tensor(True)).stacks is True  # type: ignore[arg-type]
    assert CaptureConfig(output=".").output == Path(), "the current folder"  # type: ignore[arg-type]
    assert type(CaptureConfig(model=Named("tiny")).model) is str


@pytest.mark.parametrize("option", [each.name for each in fields(CaptureConfig)])
def test_an_object_that_raises_is_one_line(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is a Raising; it requires "):
        CaptureConfig(**dict[str, Any]({option: Raising()}))


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
        ("runs", np.True_, r"runs is np.True_; it requires a whole number"),
        ("runs", torch.tensor(True), r"runs is tensor\(True\); it requires a whole number"),
        ("runs", np.array([3, 4]), r"runs is array\(\[3, 4\]\); it requires a whole number"),
        ("runs", torch.tensor(2.0), r"runs is tensor\(2.\); it requires a whole number"),
        ("runs", int, "runs is <class 'int'>; it requires a whole number"),
        ("runs", float("nan"), "runs is nan; it requires a whole number"),
        ("runs", 2**63, "runs is 9223372036854775808; it must be from 0 to 9,223,372,036,854,775,807"),
        ("batch", 10**30, r"batch is 1000+; it must be from 1 to 2,147,483,647"),
        ("images_per_request", 10**9, "images_per_request is 1000000000; it must be from 1 to 10,000"),
        ("threads", 4096, "threads is 4096; it must be from 1 to 1,024"),
        ("shuffle", -1, "shuffle is -1; it must be 0 or more"),
        ("images", 4, "images is 4; it requires a list of paths"),
        ("images", [4], r"images is \[4\]; it requires a list of paths"),
        ("images", {"vision": "a.jpg"}, "it requires a list of paths"),
        ("images", [np.zeros((90, 90))], r"images is \[array\(\[\[0., .*…; it requires a list of paths"),
        ("images", torch.zeros(3, 8, 8), r"images is tensor\(.*; it requires a list of paths"),
        ("images", itertools.repeat("a.jpg"), r"images is repeat\('a.jpg'\); it requires a list of paths"),
        ("images", io.BytesIO(b"a.jpg\n"), "it requires a list of paths"),
        ("images", "", "images is ''; it requires a list of paths"),
        ("images", ["a.jpg", "b\0.jpg"], r"images is 'b\\x00.jpg', with a zero byte in it"),
        ("output", "", "output is ''; it requires a path"),
        ("model", "x" * 300, "model is 'xxx.*…, in which a name has over 255 bytes; shorten it"),
        ("dtype", "x" * 300, "no dtype 'xxx.*…; give one of"),
        ("prompt", "a\udcff", r"prompt is 'a\\udcff', which is no Unicode text"),
        ("attn", " ", "the attn is empty; give attn= eager"),
        ("stage_modules", {"vision": 3}, "stage_modules is {'vision': 3}; it requires a list of texts"),
        ("stage_modules", ["vision=a", "vision=b"], "stage_modules= says twice what vision is"),
        ("image_sizes", (640.0, 480), r"image_sizes is \(640.0, 480\); it requires a list of texts"),
    ],
)
def test_what_cannot_be_meant_is_one_line(option: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        CaptureConfig(**{option: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
