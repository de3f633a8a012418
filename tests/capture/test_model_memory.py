"""What models and requests take, beside what was seen to be allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_trace.capture import model_memory, models
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.gemma3 import gemma3_config
from gemma_trace.capture.model_kinds import auto_class
from gemma_trace.capture.model_memory import check_host, parameter_count
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.random_weights import STANDARD_DEVIATION, build_random
from gemma_trace.capture.request_memory import RequestShape, request_bytes
from gemma_trace.capture.tiny import tiny_config
from gemma_trace.errors import DeviceError
from tests.capture.live_bytes import LiveBytes
from tests.conftest import thorough

CPU = torch.device("cpu")


def test_a_rank_holds_its_part_of_what_the_plan_splits() -> None:
    """The layers' projections, the embedding with the head tied to it; whole stay vision, projector and norms."""
    shape = gemma3_config("4b")
    hidden, layers, heads, kv_heads, head, between = 2560, 34, 8, 4, 256, 10_240
    layer = 2 * hidden * heads * head + 2 * hidden * kv_heads * head + 3 * hidden * between
    split = 262_208 * hidden + layers * layer
    whole = parameter_count(shape)
    for ranks in (2, 4, 8):
        assert parameter_count(shape, ranks) == whole - split + split // ranks
    assert parameter_count(shape, 1) == whole


def test_a_tied_head_is_never_allocated() -> None:
    config = tiny_config()
    config.text_config.vocab_size = 30_000  # so that the embedding is more than all the rest
    with LiveBytes() as memory:
        model = build_random(config, CPU, torch.float32, 0)
    parameters = sum(weight.numel() for weight in model.parameters())
    embedding = model.get_input_embeddings().weight
    assert embedding is model.get_output_embeddings().weight
    assert embedding.numel() == 30_000 * 128
    block_bytes = 3 * 4 * 4_194_319  # random_block: drawn, scaled, and what keeps values from zero
    assert 4 * parameters <= memory.peak < 4 * (parameters + embedding.numel()) + block_bytes
    assert memory.live < 4 * (parameters + embedding.numel() // 2) + block_bytes
    assert embedding.detach().std() == pytest.approx(STANDARD_DEVIATION, rel=0.05)


class Stop(Exception):  # noqa: N818
    pass


def loading(monkeypatch: pytest.MonkeyPatch, folder: Path, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is asked for, for a device that isn't there."""
    asked: dict[str, Any] = {}

    class Auto:
        @staticmethod
        def from_config(config: Any) -> Any:
            return _real.from_config(config)

        @staticmethod
        def from_pretrained(folder: Path, **options: Any) -> Any:
            asked.update(options)
            raise MemoryError  # which is passed on

    from transformers import AutoConfig

    _real = auto_class(AutoConfig.from_pretrained(folder))
    monkeypatch.setattr(models, "auto_class", lambda _: Auto)
    monkeypatch.setattr(models, "resolve_device", lambda _: device)
    monkeypatch.setattr(model_memory, "free_bytes", lambda _: 50_000_000_000)
    with pytest.raises(MemoryError):
        models.load_model(CaptureConfig(model=str(folder)))
    return asked


def test_pretrained_weights_go_straight_onto_the_device(quick_gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda", 1)
    assert loading(monkeypatch, quick_gemma, cuda)["device_map"] == {"": cuda}
    assert "device_map" not in loading(monkeypatch, quick_gemma, CPU)


def test_the_host_has_to_have_room_for_what_is_read_at_once(
    quick_gemma: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As much as 16 of the largest tensor of a safetensors file, which are read at once; of pickles the largest."""
    free = [0]
    monkeypatch.setattr(model_memory, "free_bytes", lambda _: free[0])
    largest = max(weight.numel() for weight in build_random(tiny_config(), CPU, torch.float32, 0).parameters())
    free[0] = 16 * 4 * largest
    check_host("mine", quick_gemma)
    free[0] = 4 * largest
    with pytest.raises(DeviceError, match=r"reading mine requires 0\.0 GB of the host's memory"):
        check_host("mine", quick_gemma)
    (tmp_path / "pytorch_model-1.bin").write_bytes(bytes(1000))
    (tmp_path / "pytorch_model-2.bin").write_bytes(bytes(3000))
    free[0] = 3000
    check_host("mine", tmp_path)
    free[0] = 2999
    with pytest.raises(DeviceError, match="smaller shards"):
        check_host("mine", tmp_path)


@pytest.mark.parametrize("damaged", [b"", b"abc", bytes(8), b"\xff" * 8 + b"{}", (2).to_bytes(8, "little") + b"[]"])
def test_damaged_weights_are_left_to_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes
) -> None:
    (tmp_path / "model.safetensors").write_bytes(damaged)
    monkeypatch.setattr(model_memory, "free_bytes", lambda _: 1_000)
    check_host("mine", tmp_path)


@pytest.mark.parametrize(
    ("attn", "prompts", "words"), [("eager", 1, 1000), ("sdpa", 2, 1000), *thorough([("eager", 3, 500)])]
)
def test_a_request_takes_what_is_said(quick: LoadedModel, attn: str, prompts: int, words: int) -> None:
    """The peak of all tensors that ops make in `generate`, on the CPU, is within 30% of the estimate."""
    model, config = quick.model, quick.model.config
    before = config._attn_implementation
    model.set_attn_implementation(attn)
    ids = torch.full((prompts, words), 7)
    ids[:, 1:65] = config.image_token_id
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": (ids == config.image_token_id).long(),
        "pixel_values": torch.zeros(prompts, 3, 224, 224),
    }
    try:
        with torch.inference_mode(), LiveBytes() as memory:
            model.generate(**inputs, max_new_tokens=2, do_sample=False)
        shape = RequestShape(prompts, 1, 224 * 224, words, 2, None, typed=True)
        said = sum(request_bytes(config, shape, 4).values())
    finally:
        model.set_attn_implementation(before)
    assert memory.peak == pytest.approx(said, rel=0.3), request_bytes(config, shape, 4)
