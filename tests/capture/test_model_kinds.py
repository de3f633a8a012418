from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.model_kinds import refuse_unfit
from gemma_trace.capture.models import load_model
from gemma_trace.errors import ModelError


def folder_with(folder: Path, files: dict[str, Any]) -> Path:
    for name, value in files.items():
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": {"model_type": "llama"}}, "is a llama model, which reads only text; give model= a vision-"),
        ({"config.json": {"model_type": "gemma3_text"}}, "is a gemma3_text model, which reads only text"),
        ({"config.json": {"model_type": "t5"}}, "is a t5 model, which reads only text"),
        ({"config.json": {"model_type": "whisper"}}, "is a whisper model, which reads sound instead of images"),
        ({"config.json": {"model_type": "voxtral"}}, "is a voxtral model, which reads sound instead of images"),
        ({"config.json": {"model_type": "clip"}}, "is a clip model, which writes no text about an image"),
        (
            {"adapter_config.json": {"base_model_name_or_path": "/home/me/google/gemma-3-4b-it"}},
            "is an adapter of gemma-3-4b-it, which is not a complete model; give adapter= this folder",
        ),
        ({"adapter_config.json": "{"}, "is an adapter, which is not a complete model"),
        ({"q4.gguf": "GGUF"}, "holds GGUF files, which llama.cpp runs but torch does not"),
        ({"model_index.json": {}}, "is a pipeline of diffusers"),
    ],
)
def test_what_is_no_vision_language_model_is_said_to_be_what_it_is(
    files: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_model(CaptureConfig(model=str(folder_with(tmp_path, files)), device="cpu"))
    assert "\n" not in str(caught.value)
    assert "/home" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "gemma3"},
        {"model_type": "phi4_multimodal", "vision_config": {}},
        {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "mine.Model"}},
        {"model_type": ["llama"]},
        ["no object"],
        "{",
    ],
)
def test_what_may_be_one_or_cannot_be_told_is_let_through(config: Any, tmp_path: Path) -> None:
    refuse_unfit("mine", folder_with(tmp_path, {"config.json": config}))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    for name, says in (
        ("a.gguf", "is a GGUF file, which llama.cpp runs"),
        ("a.safetensors", "is a file; give model="),
    ):
        (tmp_path / name).touch()
        with pytest.raises(ModelError, match=rf"^{name} {says}"):
            load_model(CaptureConfig(model=str(tmp_path / name), device="cpu"))
