"""The stages of a model under torch.compile, each by itself, so that the ranges around them survive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from gemma_trace.capture.discovery import StageModules

MOST_WARMUPS = 20
"""After so many requests it is taken as it is, and said, if there still was something to compile."""


@contextmanager
def compiled_stages(modules: StageModules, mode: str) -> Iterator[None]:
    """Compile the forward of each stage's module while the block runs.

    The hooks that put ranges around a module are called outside of its forward, so they aren't compiled.
    """
    with ExitStack() as undo:
        for module in (modules.vision_tower, modules.projector, modules.decoder) if mode == "stages" else ():
            if module is not None:
                vars(module)["forward"] = torch.compile(module.forward)
                undo.callback(vars(module).pop, "forward")
        yield


def compilations() -> int:
    """How many graphs torch.compile has compiled so far in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
