"""Whether a model fits before it is loaded: a clear no is better than a killed process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import torch

from gemma_trace.capture.distributed import this_rank
from gemma_trace.capture.model_kinds import auto_class
from gemma_trace.errors import DeviceError
from gemma_trace.trace.budget import available_bytes as _available
from gemma_trace.trace.budget import group_limits_bytes as _group_limits

WORKING_BYTES: Final = {"cpu": 3_400_000_000, "cuda": 2_000_000_000}
"""What a request takes beside the weights, by the kind of device: activations of 4,096 patches and a short prompt, the
libraries' own copies, the profiler. On a CPU with room for float32: Gemma 3 4b in bfloat16 was measured to take 10.8 GB
at the peak, of which the weights are 8.6. On CUDA an estimate."""

_ELEMENT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


_LONGEST_HEADER_BYTES: Final = 100_000_000
"""Of a safetensors file; it allows no longer one."""

_READERS: Final = 16
"""How many tensors transformers reads at once, at most."""


def parameter_count(config: Any, ranks: int = 1) -> int:
    """How many parameters a model of this configuration has, tied ones once; nothing is allocated for it.

    Args:
        ranks: over so many the model is split by transformers' own plan; counted is what one of them holds, which is
            its part of what the plan splits and all of the rest.
    """
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        model = auto_class(config).from_config(config)
    model.tie_weights()
    split = _split_modules(model) if ranks > 1 else frozenset[str]()
    return sum(
        -(-weight.numel() // ranks) if _pattern(name) in split else weight.numel()
        for name, weight in model.named_parameters()
    )


def _split_modules(model: Any) -> frozenset[str]:
    """The modules whose weights the plan splits, numbers as `*`."""
    plan = getattr(model, "tp_plan", None) or {}
    return frozenset(name for name, style in plan.items() if not str(style).startswith("replicated"))


def _pattern(weight: str) -> str:
    """The module of a weight, as plans name it.

    >>> _pattern("model.layers.12.mlp.up_proj.weight")
    'model.layers.*.mlp.up_proj'
    """
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", weight.rpartition(".")[0])


def needed_bytes(parameters: int, dtype: str, device: str) -> int:
    """The memory that a capture of a model takes on its device, of this kind."""
    return parameters * _ELEMENT_BYTES[dtype] + WORKING_BYTES[device]


def free_bytes(device: torch.device) -> int:
    """The memory that is free: of a device that has its own, else of the host within the limit of its control group."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "xpu":
        return int(torch.xpu.mem_get_info(device)[0])
    return min([_available(), *_group_limits()])


def own_bytes(device: torch.device) -> int:
    """What of the free memory this process may take: the ranks of one machine share the host's."""
    sharing = this_rank().local_world if device.type == "cpu" else 1
    return free_bytes(device) // max(sharing, 1)


def check_fits(label: str, parameters: int, dtype: str, device: torch.device) -> None:
    """Refuse a model that is too large for its device.

    Raises:
        DeviceError: it needs more than is free.
    """
    needed, free = needed_bytes(parameters, dtype, device.type), own_bytes(device)
    if needed > free:
        advice = "a smaller model" if dtype != "float32" else "--dtype bfloat16 or a smaller model"
        has = f"{free / 1e9:.1f} GB free{' for each rank' if this_rank().world > 1 else ''}"
        raise DeviceError(f"{label} in {dtype} needs {needed / 1e9:.1f} GB and {device} has {has}; try {advice}")


def check_host(label: str, folder: Path) -> None:
    """Refuse a checkpoint that the host can't even read on the way to a device.

    Of a safetensors file some tensors are in memory at once, of a pickle the whole file.

    Raises:
        DeviceError: that is more than the host has free.
    """
    tensors = [_read_at_once(file) for file in folder.glob("*.safetensors")]
    pickles = [] if tensors else [file.stat().st_size for file in folder.glob("*.bin")]
    needed, free = max(tensors + pickles, default=0), own_bytes(torch.device("cpu"))
    if needed > free:
        raise DeviceError(
            f"reading {label} requires {needed / 1e9:.1f} GB of the host's memory, which has {free / 1e9:.1f} GB free; "
            "end other programs, or give a checkpoint of smaller shards"
        )


def _read_at_once(file: Path) -> int:
    """The largest tensor for each reader, but no more than there is; the header of the file has their places."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        header = opened.read(min(int.from_bytes(opened.read(8), "little"), _LONGEST_HEADER_BYTES))
    try:
        tensors = msgspec.json.decode(header, type=dict[str, _Tensor])
    except msgspec.MsgspecError:  # transformers will say what is wrong with it
        return size
    largest = max((tensor.data_offsets[1] - tensor.data_offsets[0] for tensor in tensors.values()), default=0)
    return min(_READERS * largest, size)


class _Tensor(msgspec.Struct):
    data_offsets: tuple[int, int] = (0, 0)
