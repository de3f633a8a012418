"""A model of any configuration with random weights, built where it runs.

Time to first token depends on the shapes of the weights, not on their values, as long as these are ordinary numbers:
zeros, denormals and NaN change the speed of arithmetic.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture.model_kinds import auto_class

STANDARD_DEVIATION: Final = 0.02
SMALLEST: Final = 1e-3
"""No weight is closer to zero than this."""

_BLOCK: Final = 4_194_319
"""A prime: blocks laid end to end line up with no row of a weight."""


def build_random(config: Any, device: torch.device, dtype: torch.dtype, seed: int) -> nn.Module:
    """A model of this configuration, its weights made on the device in their dtype.

    Nothing passes through the host or through float32: memory is the weights, tied ones once, and one block of 4
    million values.

    Raises:
        ValueError: transformers knows no image-text-to-text model of this configuration.
    """
    from accelerate import init_empty_weights  # type: ignore[import-untyped]
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        # A head of words that is the embedding is 2.8 GB in 27b: it is tied before anything is allocated for it.
        with torch.device(device), no_init_weights(), init_empty_weights(include_buffers=False):
            model: nn.Module = auto_class(config).from_config(config, dtype=dtype)
    finally:
        torch.set_default_dtype(before)
    model.tie_weights()
    _allocate(model, device)
    fill_random(model, seed)
    return model


def _allocate(model: nn.Module, device: torch.device) -> None:
    """Memory for every parameter that has none, once for all the places at which it is."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and weight.device.type == "meta":
                if id(weight) not in made:
                    made[id(weight)] = nn.Parameter(torch.empty_like(weight, device=device), weight.requires_grad)
                module._parameters[name] = made[id(weight)]


def fill_random(model: nn.Module, seed: int) -> None:
    """Fill every parameter from one block of random values, laid end to end.

    Values are normal with standard deviation 0.02, none within 0.001 of zero; scales of normalisation layers are
    around one. Copying a block is as fast as the memory, which drawing each number is not.
    """
    with torch.no_grad():
        _fill(model, seed)


def _fill(model: nn.Module, seed: int) -> None:
    blocks: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}
    place = 0
    for weight in model.parameters():
        key = (weight.device, weight.dtype)
        if key not in blocks:
            blocks[key] = random_block(seed).to(*key)
        place = _lay(weight.detach().view(-1), blocks[key], place)
    for module in model.modules():
        scale = getattr(module, "weight", None)
        # Gemma's own norms add the one themselves.
        if "Norm" in type(module).__name__ and not type(module).__name__.startswith("Gemma3RMS") and scale is not None:
            scale.add_(1.0)


def random_block(seed: int) -> torch.Tensor:
    """float32 [4194319]: normal values, none close to zero."""
    generator = torch.Generator().manual_seed(seed)
    block = torch.randn(_BLOCK, generator=generator) * STANDARD_DEVIATION
    return torch.where(block.abs() < SMALLEST, torch.copysign(torch.tensor(SMALLEST), block), block)


def _lay(flat: torch.Tensor, block: torch.Tensor, place: int) -> int:
    """Copy the block over and over, beginning where the last weight ended; where this one ends."""
    done = 0
    while done < len(flat):
        length = min(len(flat) - done, len(block) - place)
        flat[done : done + length] = block[place : place + length]
        done, place = done + length, (place + length) % len(block)
    return place
