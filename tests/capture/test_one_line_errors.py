from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gemma_trace.capture.one_line_errors import as_capture_error, error_text
from gemma_trace.errors import ImageError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("\n  sizes differ\n  at 3"), "the capture failed: RuntimeError: sizes differ"),
        (AssertionError(), "the capture failed: AssertionError: no more is known"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), "out of memory on the device; try"),
        (MemoryError(), "out of memory; try a smaller model"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory; try"),
        (ImageError("no image at a.jpg; check --image"), "no image at a.jpg; check images="),
    ],
)
def test_what_others_raise_is_one_line(error: Exception, said: str) -> None:
    line = str(as_capture_error(error))
    assert line.startswith(said)
    assert "\n" not in line


def test_the_home_folder_is_left_out_and_the_text_is_bounded() -> None:
    assert error_text(OSError(f"no file {Path.home()}/models/x")) == "no file ~/models/x"
    assert len(error_text(ValueError("x" * 5000))) == 200
