"""What stands around a model: torch.compile, PEFT and its adapters, data parallelism."""

from __future__ import annotations

from torch import nn

_INSIDE = ("_orig_mod", "module", "_fsdp_wrapped_module")
"""Where torch.compile and the parallel wrappers keep what they wrap."""


def unwrapped(model: nn.Module) -> list[nn.Module]:
    """The model and what it wraps, outermost first; the last one is the model of transformers itself."""
    layers = [model]
    while (inner := _wrapped_in(layers[-1])) is not None and not any(inner is known for known in layers):
        layers.append(inner)
    return layers


def can_generate(module: nn.Module) -> bool:
    """Whether transformers' `generate` runs on this very module."""
    return hasattr(type(module), "generate") and hasattr(type(module), "prepare_inputs_for_generation")


def _wrapped_in(model: nn.Module) -> nn.Module | None:
    if callable(get := getattr(type(model), "get_base_model", None)):  # PEFT's, whose own names changed
        inner = get(model)
        return inner if isinstance(inner, nn.Module) else None
    for name in _INSIDE:
        inner = model._modules.get(name)
        if isinstance(inner, nn.Module) and len(model._modules) == 1:
            return inner
    return None
