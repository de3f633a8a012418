from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemma_trace.capture import model_memory as memory
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.gemma3 import SHAPES, gemma3_config, gemma3_processor
from gemma_trace.capture.model_memory import check_fits, free_bytes, needed_bytes, parameter_count
from gemma_trace.capture.models import load_model
from gemma_trace.capture.random_weights import SMALLEST, build_random
from gemma_trace.capture.tiny import tiny_config
from gemma_trace.errors import DeviceError, ModelError

CPU = torch.device("cpu")


def by_hand(size: str) -> int:
    """The parameters of a size, summed up from its published shape."""
    shape = SHAPES[size]
    attention = 2 * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_dim + 2 * shape.head_dim
    layer = attention + 3 * shape.hidden * shape.intermediate + 4 * shape.hidden
    text = 262_208 * shape.hidden + shape.layers * layer + shape.hidden
    encoder = 4 * (1152 * 1152 + 1152) + (1152 * 4304 + 4304) + (4304 * 1152 + 1152) + 4 * 1152
    vision = (3 * 14 * 14 * 1152 + 1152) + 4096 * 1152 + 27 * encoder + 2 * 1152
    return text + vision + 1152 * shape.hidden + 1152


@pytest.mark.parametrize(("size", "billions"), [("4b", 4.3), ("12b", 12.2), ("27b", 27.4)])
def test_a_size_has_the_parameters_of_the_published_model(size: str, billions: float) -> None:
    found = parameter_count(gemma3_config(size))
    assert found == by_hand(size)
    assert found / 1e9 == pytest.approx(billions, abs=0.05)


def test_random_weights_are_ordinary_numbers_in_their_dtype() -> None:
    model = build_random(tiny_config(), CPU, torch.bfloat16, seed=3)
    for name, weight in model.named_parameters():
        assert weight.dtype is torch.bfloat16, name
        assert torch.isfinite(weight).all(), name
        assert (weight.abs().float() >= 0.9 * SMALLEST).all(), name
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    rope = dict(model.named_buffers())["model.language_model.rotary_emb.full_attention_inv_freq"]
    assert torch.isfinite(rope).all()
    again = build_random(tiny_config(), CPU, torch.bfloat16, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_an_image_is_256_tokens_of_the_real_ids() -> None:
    config = gemma3_config("4b")
    processor = gemma3_processor(config, "torchvision")
    text = "<bos><start_of_turn>user\n<start_of_image>What?<end_of_turn>\n"
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    inputs = processor(text=[text], images=[[image]], return_tensors="pt", add_special_tokens=False)
    ids = inputs["input_ids"][0].tolist()
    assert ids.count(262_144) == 256
    assert (ids[0], ids[1], ids.count(255_999), ids.count(256_000)) == (2, 105, 1, 1)
    assert inputs["pixel_values"].shape == (1, 3, 896, 896)


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_available", lambda: 10_000_000_000)
    with pytest.raises(
        DeviceError, match=r"27b in bfloat16 needs 58\.3 GB and cpu has 10\.0 GB free; try a smaller model"
    ):
        load_model(CaptureConfig(model="27b", dtype="bfloat16", weights="random", device="cpu"))
    with pytest.raises(DeviceError, match="try dtype='bfloat16' or a smaller model"):
        check_fits("4b", 4_300_000_000, "float32", CPU)
    check_fits("4b", 3_000_000_000, "bfloat16", CPU)
    assert needed_bytes(3_000_000_000, "bfloat16", "cpu") == 9_400_000_000
    assert 0 < free_bytes(CPU) <= 10_000_000_000


def test_a_folder_with_broken_files_is_one_line(tmp_path: Path) -> None:
    build_random(tiny_config(), CPU, torch.float32, 0).save_pretrained(tmp_path)
    gemma3_processor(tiny_config(), "torchvision").save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="has no model and processor that transformers can load") as caught:
        load_model(CaptureConfig(model=str(tmp_path), device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoProcessor

    def refuse(*args: object, **kwargs: object) -> None:
        raise ImportError("Package `num2words` is required to run SmolVLM processor.\nInstall it.")

    build_random(tiny_config(), CPU, torch.float32, 0).save_pretrained(tmp_path)
    monkeypatch.setattr(AutoProcessor, "from_pretrained", refuse)
    with pytest.raises(ModelError, match=r"requires a package that is not installed: Package `num2words`[^\n]*$"):
        load_model(CaptureConfig(model=str(tmp_path), device="cpu"))


def test_a_device_of_an_absurd_number_is_one_line() -> None:
    with pytest.raises(DeviceError, match="no device cuda:99999999999999999999"):
        load_model(CaptureConfig(device="cuda:99999999999999999999"))


@pytest.mark.parametrize(
    ("attn", "expected"),
    [
        (
            "flash_attention_2",
            r"^this model has no attention implementation 'flash_attention_2': [^.]*; try attn='sdpa'$",
        ),
        ("magic", r"^no attention implementation 'magic'; give attn= one of eager, [^.]*sdpa$"),
    ],
)
def test_attention_that_cannot_be_is_one_sentence(attn: str, expected: str) -> None:
    with pytest.raises(ModelError, match=expected) as caught:
        load_model(CaptureConfig(device="cpu", attn=attn))
    assert "http" not in str(caught.value)


def test_what_is_no_model_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"it is not a preset .*, folder or Hub id"):
        load_model(CaptureConfig(model="5b", device="cpu"))
