from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_trace.capture import request_memory
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.request_memory import RequestShape, check_request, request_bytes
from gemma_trace.capture.session import profile
from gemma_trace.capture.tiny import tiny_config
from gemma_trace.errors import DeviceError

ONE = RequestShape(1, 1, 1024 * 768, 8192, 1, None, typed=True)


def tiny(implementation: str) -> object:
    config = tiny_config()
    config._attn_implementation = implementation
    return config


def test_a_request_by_hand() -> None:
    # 4 heads, 2 of keys, 32 wide; 6 layers of 2 kinds; hidden 128, intermediate 512; 1,024 words.
    assert request_bytes(tiny("sdpa"), ONE, 4) == {
        "attention": 8192 * 8192 * (2 + 4),
        "keys and values": 2 * 6 * 2 * 32 * 8193 * 4,
        "activations": 8192 * (6 * 128 + 3 * 512) * 4,
        "logits": 1024 * 8,
    }
    assert request_bytes(tiny("eager"), ONE, 2)["attention"] == 8192 * 8192 * (4 * (8 + 2) + 2 * 2)
    assert request_bytes(tiny("sdpa"), replace(ONE, chunk_tokens=512), 4)["attention"] == 512 * 8192 * 6
    assert request_bytes(tiny("sdpa"), replace(ONE, typed=False), 4)["attention"] == 8192 * 8192 * (1 + 4), "it slides"
    assert request_bytes(tiny("sdpa"), replace(ONE, typed=False, prompt_tokens=600, images=0), 4)["attention"] == 0
    assert request_bytes(tiny("flash_attention_2"), ONE, 2)["attention"] == 0


def test_images_are_a_phase_of_their_own() -> None:
    short = replace(ONE, prompt_tokens=300, images=2, prompts=3)
    of_one = 4096 * (6 * 96 + 3 * 256) * 4 + 9 * 896 * 896 * 4
    assert request_bytes(tiny("sdpa"), short, 4) == {"images": 2 * 1024 * 768 * 3 + 6 * of_one}
    scores = 4096 * 4096 * 4 * 8
    assert request_bytes(tiny("eager"), short, 4) == {"images": 2 * 1024 * 768 * 3 + 6 * (of_one + scores)}


def test_what_was_measured_is_what_is_said() -> None:
    """Peaks of `tiny` in float32: 0.438 GB, 1.594 GB and 0.547 GB."""
    assert sum(request_bytes(tiny("sdpa"), ONE, 4).values()) == pytest.approx(0.438e9, rel=0.2)
    eager = request_bytes(tiny("eager"), replace(ONE, prompt_tokens=6144), 4)
    assert sum(eager.values()) == pytest.approx(1.594e9, rel=0.1)
    image = request_bytes(tiny("eager"), replace(ONE, prompt_tokens=1024), 4)
    assert sum(image.values()) == pytest.approx(0.547e9, rel=0.15)


def test_a_configuration_that_tells_nothing_needs_nothing() -> None:
    class Bare:
        def get_text_config(self) -> object:
            return object()

    assert sum(request_bytes(Bare(), replace(ONE, images=0, typed=False), 4).values()) == 0


def test_what_fits_to_the_byte_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(request_bytes(tiny("sdpa"), ONE, 4).values())
    monkeypatch.setattr(request_memory, "own_bytes", lambda _: needed)
    check_request(tiny("sdpa"), ONE, torch.float32, torch.device("cpu"))
    monkeypatch.setattr(request_memory, "own_bytes", lambda _: needed - 1)
    with pytest.raises(DeviceError, match=r"of 8,192 tokens and 1 images needs 0\.5 GB, 0\.4 of them for attention"):
        check_request(tiny("sdpa"), ONE, torch.float32, torch.device("cpu"))


def test_a_request_has_the_memory_of_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(request_bytes(tiny("sdpa"), ONE, 4).values())
    two = torch.device("cuda", 0), torch.device("cuda", 1)
    free = {two[0]: needed - 1, two[1]: 1}
    monkeypatch.setattr(request_memory, "own_bytes", free.__getitem__)
    check_request(tiny("sdpa"), ONE, torch.float32, *two)
    free[two[1]] = 0
    with pytest.raises(DeviceError, match=r"and cuda:0 and cuda:1 have 0\.5 GB free; lower"):
        check_request(tiny("sdpa"), ONE, torch.float32, *two)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_tokens": 100_000}, "100,000 tokens and 1 images needs 61.2 GB, 60.0 of them for attention"),
        ({"prompt": "a " * 50_000}, "60.3 of them for attention"),
        ({"images_per_request": 100, "batch": 50}, "5,000 images needs"),
    ],
)
def test_a_request_that_is_too_large_is_refused_before_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(request_memory, "own_bytes", lambda _: 20 << 30)
    config = CaptureConfig(device="cpu", output=tmp_path / "out")
    with pytest.raises(DeviceError) as caught:
        profile(config, **options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
