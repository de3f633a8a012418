"""The stages of a model under torch.compile, each by itself, so that the ranges around them survive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.discovery import StageModules
from gemma_trace.capture.wrappers import unwrapped

MOST_WARMUPS = 20
"""After so many requests it is taken as it is, and said, if there still was something to compile."""


@contextmanager
def compiled_stages(modules: StageModules, mode: str) -> Iterator[None]:
    """Compile the forward of each stage's module while the block runs.

    The hooks that put ranges around a module are called outside of its forward, so they aren't compiled.
    """
    decoder = () if modules.decoder is None else (modules.decoder,)
    with ExitStack() as undo:
        for module in (*modules.encoders, *decoder) if mode == "stages" else ():
            # One that accelerate has put there, of a model over several devices, comes back.
            before = vars(module).get("forward")
            vars(module)["forward"] = torch.compile(module.forward)
            undo.callback(_restore, module, before)
        yield


def _restore(module: nn.Module, forward: Callable[..., Any] | None) -> None:
    if forward is None:
        del vars(module)["forward"]
    else:
        vars(module)["forward"] = forward


def decode_mode(model: nn.Module) -> str:
    """How the decode steps of a model's last `generate` ran: `eager`, or `compiled` by `generate` itself.

    With a static cache and on a device it compiles them, as a rule into CUDA graphs. In those are no ranges: `decode`
    is then one range around each step, and has no layers.
    """
    core = unwrapped(model)[-1]
    return "compiled" if any("_compiled_call" in vars(module) for module in core.modules()) else "eager"


def compilations() -> int:
    """How many graphs torch.compile has compiled so far in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
