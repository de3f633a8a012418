"""Lets a torchvision built for CUDA be imported beside a CPU-only torch.

The package index's torchvision wheel is built for CUDA. Beside a CPU-only torch its C++ operators don't load,
and importing torchvision, and most of transformers with it, fails with "operator torchvision::nms does not
exist": torchvision registers fake kernels for two operators that nobody declared. Declaring their schemas is
enough for the image processors, which are pure torch.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")  # those of torchvision/_meta_registrations.py
_libraries: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


@cache
def declare_missing_operators() -> bool:
    """Declare torchvision's operators where its own library can't be loaded. Call before importing torchvision.

    Returns:
        Whether anything had to be declared.
    """
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:
            declared = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                declared.define(operator + _SCHEMA)
            _libraries.append(declared)
            return True
    return False
