"""Every registered image-text class: each stage's modules are found, or it is known why there are none."""

from __future__ import annotations

import os

import pytest

from gemma_trace.capture.torchvision_ops import declare_missing_operators

declare_missing_operators()

from tests.capture.registered import look_at, registered_types  # noqa: E402

ALWAYS = ("blip-2", "florence2", "fuyu", "gemma3", "kosmos-2", "pix2struct", "qwen2_5_vl")
"""Those whose modules other tests import anyway."""

EVERY = "GEMMA_TRACE_ALL_MODELS" in os.environ


@pytest.mark.parametrize("model_type", registered_types())
def test_the_modules_of_a_registered_model_are_found_or_known_to_be_absent(model_type: str) -> None:
    if not EVERY and model_type not in ALWAYS:
        pytest.skip("all classes take a minute of processor time; run: make models")
    found = look_at(model_type)
    assert found.failure == ""
    told = {kind: kind in found.found for kind in ("vision", "projector", "decoder")}
    absent = {kind: kind in found.absent for kind in told}
    assert told == {kind: not gone for kind, gone in absent.items()}
