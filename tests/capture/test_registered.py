"""Every registered image-text class: each stage's modules are found, or it is known why there are none."""

from __future__ import annotations

import os

import pytest

from gemma_trace.capture.torchvision_ops import declare_missing_operators

declare_missing_operators()

from tests.capture.registered import look_at, registered_types  # noqa: E402

ALWAYS = ("blip-2", "fuyu", "gemma3", "pix2struct", "qwen2_5_vl")
"""Those whose modules other tests import anyway; all take over 20 s of processor time. `make models` asks for them."""

TYPES = list(registered_types()) if "GEMMA_TRACE_ALL_MODELS" in os.environ else ALWAYS


@pytest.mark.parametrize("model_type", TYPES)
def test_the_modules_of_a_registered_model_are_found_or_known_to_be_absent(model_type: str) -> None:
    found = look_at(model_type)
    assert found.failure == ""
    told = {kind: kind in found.found for kind in ("vision", "projector", "decoder")}
    absent = {kind: kind in found.absent for kind in told}
    assert told == {kind: not gone for kind, gone in absent.items()}
