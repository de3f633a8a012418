"""Whether a model fits before it is loaded: a clear no is better than a killed process."""

from __future__ import annotations

from typing import Any, Final

import torch

from gemma_trace.capture.model_kinds import auto_class
from gemma_trace.errors import DeviceError
from gemma_trace.trace.budget import available_bytes as _available
from gemma_trace.trace.budget import group_limits_bytes as _group_limits

WORKING_BYTES: Final = {"cpu": 3_400_000_000, "cuda": 2_000_000_000}
"""What a request takes beside the weights, by the kind of device: activations of 4,096 patches and a short prompt, the
libraries' own copies, the profiler. On a CPU with room for float32: Gemma 3 4b in bfloat16 was measured to take 10.8 GB
at the peak, of which the weights are 8.6. On CUDA an estimate."""

_ELEMENT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


def parameter_count(config: Any) -> int:
    """How many parameters a model of this configuration has, tied ones once; nothing is allocated for it."""
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = auto_class(config).from_config(config)
    model.tie_weights()
    return sum(weight.numel() for weight in model.parameters())


def needed_bytes(parameters: int, dtype: str, device: str) -> int:
    """The memory that a capture of a model takes on its device, of this kind."""
    return parameters * _ELEMENT_BYTES[dtype] + WORKING_BYTES[device]


def free_bytes(device: torch.device) -> int:
    """The memory that is free: of a CUDA device, or of the host within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([_available(), *_group_limits()])


def check_fits(label: str, parameters: int, dtype: str, device: torch.device) -> None:
    """Refuse a model that is too large for its device.

    Raises:
        DeviceError: it needs more than is free.
    """
    needed, free = needed_bytes(parameters, dtype, device.type), free_bytes(device)
    if needed > free:
        advice = "a smaller model" if dtype != "float32" else "--dtype bfloat16 or a smaller model"
        raise DeviceError(
            f"{label} in {dtype} needs {needed / 1e9:.1f} GB and {device} has {free / 1e9:.1f} GB free; try {advice}"
        )
