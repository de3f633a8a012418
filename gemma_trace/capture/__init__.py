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
        require(package, "capture", module)


def require(package: str, extra: str, module: str = "") -> None:
    """Check that a package is installed, without importing it.

    Args:
        extra: what brings it.
        module: what is imported of it, where that has another name.

    Raises:
        MissingExtraError: it isn't.
    """
    if importlib.util.find_spec(module or package) is None:
        raise MissingExtraError(package, extra)
