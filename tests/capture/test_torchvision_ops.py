"""In a process each, forked off one that has imported torch: an import can't be taken back."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKED = """
import os, sys, torch
def declare():
    from gemma_trace.capture.torchvision_ops import declare_missing_operators
    return declare_missing_operators()
def after_the_cure():
    declare()
    declare()
    import torchvision.transforms.v2
    return "fine"
def without_the_library():
    def refuse(path):
        raise OSError("libcudart.so: cannot open shared object file")
    torch.ops.load_library = refuse
    return f"{declare()} {torch.ops.torchvision.nms.default._schema}"
def with_the_library():
    torch.ops.load_library = lambda path: None
    return declare()
for work in (after_the_cure, without_the_library, with_the_library):
    if not os.fork():
        try:
            print(work.__name__, work(), flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert len(found) == 3, done.stderr
    return found


def test_torchvision_can_be_imported_after_the_cure(answers: dict[str, str]) -> None:
    assert answers["after_the_cure"] == "fine"


def test_a_library_that_does_not_load_gets_its_operators_declared(answers: dict[str, str]) -> None:
    schema = "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    assert answers["without_the_library"] == f"True {schema}"


def test_a_library_that_loads_is_left_alone(answers: dict[str, str]) -> None:
    assert answers["with_the_library"] == "False"
