"""Runs requests under `torch.profiler` and writes trace files: the only folder that imports torch or transformers.

Importing this package alone imports neither; its modules do.
"""

from __future__ import annotations

import importlib.util

from gemma_trace.errors import MissingExtraError


def require_capture_extra() -> None:
    """Check that what a capture imports is installed, without importing it.

    Raises:
        MissingExtraError: naming the first package that is missing, and the command that brings it.
    """
    for module, package in (
        ("torch", "torch"),
        ("torchvision", "torchvision"),
        ("transformers", "transformers"),
        ("PIL", "pillow"),
    ):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "capture")
