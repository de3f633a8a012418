from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace.capture.compiled_stages import DecodeMode, compiled_stages
from gemma_trace.capture.discovery import StageModules


def test_what_stood_in_a_modules_forward_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_it(forward: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(forward)
        return lambda *args: forward(*args)

    monkeypatch.setattr(torch, "compile", compile_it)
    tower, projector, decoder = (nn.Linear(2, 2) for _ in range(3))
    vars(tower)["forward"] = placed = lambda inputs: inputs  # as accelerate does, of a model over several devices
    modules = StageModules((tower,), (projector,), decoder)
    with compiled_stages(modules, "stages"):
        assert len(compiled) == 3
        assert compiled[0] is placed
        assert tower(torch.ones(2)).tolist() == [1, 1]
    assert vars(tower)["forward"] is placed
    assert all("forward" not in vars(module) for module in (projector, decoder))
    with compiled_stages(modules, "off"):
        assert len(compiled) == 3


def test_a_compiled_decode_is_said_in_the_words_of_its_device() -> None:
    assert DecodeMode().warnings == ()
    for device, how in (("cpu", "for the CPU"), ("cuda", "into CUDA graphs"), ("npu", "for the npu")):
        (said,) = DecodeMode("compiled", device).warnings
        assert said == f"decode steps were compiled {how}; the layers inside can't be told apart"
