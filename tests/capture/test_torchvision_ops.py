"""In a subprocess each: an import can't be taken back."""

from __future__ import annotations

import subprocess
import sys

CURE = "from gemma_trace.capture.torchvision_ops import declare_missing_operators as declare\n"


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_torchvision_can_be_imported_after_the_cure() -> None:
    assert run(CURE + "declare(); declare(); import torchvision.transforms.v2; print('fine')") == "fine"


def test_a_library_that_does_not_load_gets_its_operators_declared() -> None:
    code = (
        "import torch\n"
        "def refuse(path): raise OSError('libcudart.so: cannot open shared object file')\n"
        "torch.ops.load_library = refuse\n" + CURE + "print(declare(), torch.ops.torchvision.nms.default._schema)"
    )
    assert run(code) == "True torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def test_a_library_that_loads_is_left_alone() -> None:
    code = "import torch\ntorch.ops.load_library = lambda path: None\n" + CURE + "print(declare())"
    assert run(code) == "False"
