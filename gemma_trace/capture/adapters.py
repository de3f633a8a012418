"""PEFT's adapters (LoRA and others) around a model."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from gemma_trace.capture import require
from gemma_trace.capture.model_kinds import check_adapter
from gemma_trace.capture.one_line_errors import error_text
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.capture.wrappers import unwrapped
from gemma_trace.errors import ModelError
from gemma_trace.metadata import ConfigValue

_INCOMPLETE = "Found missing adapter keys"
"""How PEFT begins to say that it left weights of an adapter as they were drawn."""


def with_adapter(model: nn.Module, folder: Path) -> nn.Module:
    """The model with an adapter on it, unmerged, as PEFT loads it.

    Raises:
        MissingExtraError: PEFT isn't installed.
        ModelError: the folder holds no adapter, or one of another model.
    """
    require("peft", "adapter")
    check_adapter(str(folder))
    declare_missing_operators()  # or PEFT's imports fail beside a torch without CUDA
    from peft import PeftModel

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            adapted: nn.Module = PeftModel.from_pretrained(model, str(folder)).eval()
    except Exception as error:  # PEFT's, safetensors', json's and torch's
        raise ModelError(
            f"{folder.name} is not an adapter that fits this model ({type(error).__name__}: {error_text(error)}); "
            "check --adapter"
        ) from error
    if any(_INCOMPLETE in str(each.message) for each in said):
        raise ModelError(f"the weights of the adapter {folder.name} are those of another model; check --adapter")
    return adapted


def adapter_of(model: nn.Module) -> dict[str, ConfigValue]:
    """What a model says of the adapters that are active on it: kinds and ranks; {} where it has none."""
    for wrapper in unwrapped(model):
        configs = getattr(wrapper, "peft_config", None)
        if not isinstance(configs, dict) or not configs:
            continue
        active = getattr(wrapper, "active_adapters", None)
        names = [name for name in (active if isinstance(active, list) else configs) if name in configs]
        kinds = [getattr(configs[name], "peft_type", "unknown") for name in names]
        ranks = [getattr(configs[name], "r", None) for name in names]
        return {
            "adapter_kinds": [str(getattr(kind, "value", kind)) for kind in kinds],
            "adapter_ranks": [str(rank) for rank in ranks if isinstance(rank, int)],
        }
    return {}
