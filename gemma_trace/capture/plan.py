"""What a sweep would take: the memory of every cell beside what is free, without loading anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gemma_trace.capture.hub import CHECKPOINTS
from gemma_trace.capture.model_memory import free_bytes, needed_bytes, parameter_count
from gemma_trace.capture.models import resolve_device
from gemma_trace.capture.sweep import Cell
from gemma_trace.errors import DeviceError


@dataclass(frozen=True)
class CellPlan:
    """One cell before it runs.

    Attributes:
        parameters: of the model; None where it takes the Hub to know.
        needed_bytes: of memory on the device; None likewise.
        free_bytes: what the device has; None where there is no such device.
        outlook: `fits`, `too large`, `no device` or `unknown`.
    """

    run: str
    model: str
    dtype: str
    device: str
    image_backend: str
    runs: int
    parameters: int | None
    needed_bytes: int | None
    free_bytes: int | None
    outlook: str


def describe(cells: Sequence[Cell]) -> list[CellPlan]:
    """The plan of a sweep, one row per cell."""
    return [_describe(cell) for cell in cells]


def _describe(cell: Cell) -> CellPlan:
    config = cell.config
    parameters = _parameters(config.model)
    kind = "cpu" if config.device == "cpu" else "cuda"
    try:
        device = resolve_device(config.device)
        kind, free = device.type, free_bytes(device)
    except DeviceError:
        free = None
    needed = None if parameters is None else needed_bytes(parameters, config.dtype, kind)
    if free is None:
        outlook = "no device"
    elif needed is None:
        outlook = "unknown"
    else:
        outlook = "fits" if needed <= free else "too large"
    return CellPlan(
        run=cell.name,
        model=config.model_label,
        dtype=config.dtype,
        device=config.device,
        image_backend=config.image_backend,
        runs=config.runs,
        parameters=parameters,
        needed_bytes=needed,
        free_bytes=free,
        outlook=outlook,
    )


@cache
def _parameters(model: str) -> int | None:
    """Of presets and folders; a Hub id isn't looked up, since nobody asked for the network yet."""
    from gemma_trace.capture.gemma3 import gemma3_config
    from gemma_trace.capture.tiny import tiny_config

    if model == "tiny":
        return parameter_count(tiny_config())
    if model in CHECKPOINTS:
        return parameter_count(gemma3_config(model))
    if Path(model).is_dir():
        from transformers import AutoConfig

        return parameter_count(AutoConfig.from_pretrained(model, local_files_only=True))
    return None
