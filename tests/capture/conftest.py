from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.models import LoadedModel, load_model


@pytest.fixture(scope="session")
def quick(quick_gemma: Path) -> LoadedModel:
    """The model `quick_gemma` on the CPU."""
    return load_model(CaptureConfig(device="cpu", model=str(quick_gemma)))


@pytest.fixture
def inputs(quick: LoadedModel) -> Any:
    """A request's inputs, ready for the model."""
    from PIL import Image

    text = "<bos><start_of_turn>user\n<start_of_image>What is it?<end_of_turn>\n<start_of_turn>model\n"
    image = Image.new("RGB", (640, 480), (200, 30, 30))
    return quick.processor(text=[text], images=[[image]], return_tensors="pt", add_special_tokens=False)
