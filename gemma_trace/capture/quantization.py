"""Linear layers whose weights bitsandbytes stores in 8 or 4 bits, as transformers' `BitsAndBytesConfig` has them."""

from __future__ import annotations

import importlib
import logging
from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture import require
from gemma_trace.capture.modes import Quantization
from gemma_trace.capture.wrappers import unwrapped
from gemma_trace.errors import ModelError
from gemma_trace.metadata import ConfigValue

logging.getLogger("bitsandbytes.autograd").setLevel(logging.ERROR)  # a line each time that it casts to float16

_OUTLIERS: Final = 6.0
"""Activations beyond this are multiplied unquantised, in 8 bits (LLM.int8); transformers' default."""


def quantize(model: nn.Module, kind: str) -> int:
    """Replace the linear layers of a model that is loaded, on its device, by quantised ones of the same weights.

    The output embeddings stay as they are, as with transformers, and so do an adapter's own weights. In 4 bits the
    arithmetic is in the dtype that the weights had.

    Args:
        kind: of `Quantization`.

    Returns:
        How many were replaced.

    Raises:
        MissingExtraError: bitsandbytes isn't installed.
        ModelError: the model has none, or bitsandbytes can't do it on this device.
    """
    require("bitsandbytes", "quantize")
    head = getattr(unwrapped(model)[-1], "get_output_embeddings", lambda: None)()
    places = [
        (owner, name, child)
        for path, owner in model.named_modules()
        for name, child in owner.named_children()
        if type(child) is nn.Linear and child is not head and "lora_" not in f"{path}.{name}"
    ]
    if not places:
        raise ModelError("the model has no linear layers to quantize; leave out --quantize")
    try:
        for owner, name, linear in places:
            setattr(owner, name, _quantized(linear, Quantization(kind)))
    except (RuntimeError, ValueError, NotImplementedError, AttributeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"bitsandbytes can't store weights as {kind} on {places[0][2].weight.device}: {reason}; "
            "try another --quantize"
        ) from error
    return len(places)


def _quantized(linear: nn.Linear, kind: Quantization) -> nn.Module:
    bnb: Any = importlib.import_module("bitsandbytes")
    sizes, weight = (linear.in_features, linear.out_features), linear.weight.data
    with torch.device("meta"):  # the layer's own weights would be allocated for nothing
        if kind is Quantization.INT8:
            made = bnb.nn.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False, threshold=_OUTLIERS)
        else:
            made = bnb.nn.Linear4bit(*sizes, bias=False, compute_dtype=weight.dtype, quant_type=kind.value)
    if kind is Quantization.INT8:
        stored: Any = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        stored = bnb.nn.Params4bit(weight, requires_grad=False, quant_type=kind.value)
    made.weight, made.bias = stored.to(weight.device), linear.bias
    layer: nn.Module = made.eval()
    return layer


def quantization_of(model: nn.Module) -> dict[str, ConfigValue]:
    """What a model in hand, or a saved one, is quantised by: transformers' name of the method; {} if it isn't."""
    config = getattr(getattr(unwrapped(model)[-1], "config", None), "quantization_config", None)
    if config is None:
        return {}
    settings = config if isinstance(config, dict) else vars(config)
    method = settings.get("quant_method", "unknown")
    return {"quantization_method": str(getattr(method, "value", method))}
