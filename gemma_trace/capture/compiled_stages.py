"""The stages of a model under torch.compile, each by itself, so that the ranges around them survive."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture.accelerators import devices_of, working_devices
from gemma_trace.capture.discovery import StageModules
from gemma_trace.capture.interception import Call, listen_to_calls
from gemma_trace.capture.wrappers import can_generate, unwrapped

_KINDS: Final = {"cpu": "CPU", "xpu": "XPU", "mps": "GPU"}
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


@dataclass
class DecodeMode:
    """How decode steps ran: `eager`, or `compiled` by `generate` itself.

    Attributes:
        device: the kind of device that the model is on.
    """

    name: str = "eager"
    device: str = "cpu"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What can't be known of such steps."""
        if self.name == "eager":
            return ()
        how = "into CUDA graphs" if self.device == "cuda" else f"for the {_KINDS.get(self.device, self.device)}"
        return (f"decode steps were compiled {how}; the layers inside can't be told apart",)

    def around(self, get_compiled_call: Call) -> Call:
        """Hear that `generate` asks for its compiled forward."""

        @functools.wraps(get_compiled_call)
        def asked(*args: Any, **kwargs: Any) -> Any:
            self.name = "compiled"
            return get_compiled_call(*args, **kwargs)

        return asked


@contextmanager
def watched_decode(model: nn.Module) -> Iterator[DecodeMode]:
    """Find out how `generate` runs its decode steps while the block runs.

    With a static cache and on a device it compiles them, as a rule into CUDA graphs. In those are no ranges: `decode`
    is then one range around each step, and has no layers.
    """
    mode = DecodeMode(device=next((device.type for device in working_devices(devices_of(model))), "cpu"))
    with ExitStack() as undo:
        for module in unwrapped(model)[-1].modules():
            if can_generate(module) and hasattr(module, "get_compiled_call"):
                listen_to_calls(module, "get_compiled_call", mode.around, undo)
        yield mode


def compilations() -> int:
    """How many graphs torch.compile has compiled so far in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])
