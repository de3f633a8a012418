"""A model's name → the model, on its device and in its dtype, and its processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.errors import DeviceError, ModelError

PRESETS: Final = ("tiny",)


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to generate.

    Attributes:
        weights: `random` or `pretrained`.
    """

    model: nn.Module
    processor: Any
    device: torch.device
    weights: str


def resolve_device(name: str) -> torch.device:
    """The device of this name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        DeviceError: torch has no such device here.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if available else "cpu"
    device = torch.device(name)
    if device.type == "cuda":
        if not available:
            built = "built without CUDA" if torch.version.cuda is None else "and no CUDA device is visible"
            raise DeviceError(f"no device {name}: torch {torch.__version__} is {built}; use --device cpu")
        if (device.index or 0) >= available:
            raise DeviceError(f"no device {name}: there are {available}, cuda:0 to cuda:{available - 1}")
        device = torch.device("cuda", device.index or 0)
    return device


def load_model(config: CaptureConfig) -> LoadedModel:
    """Build or load the model of a capture.

    Raises:
        ModelError: there is no such preset or folder, or the folder holds no model that transformers loads.
        DeviceError: the device isn't there.
    """
    device = resolve_device(config.device)
    declare_missing_operators()
    if config.model in PRESETS:
        model, processor = _load_tiny(config)
        weights = "random"
    elif Path(config.model).is_dir():
        model, processor = _load_folder(config)
        weights = "pretrained"
    else:
        raise ModelError(
            f"no model {config.model!r}: it is neither a preset ({', '.join(PRESETS)}) nor a folder; check --model"
        )
    model = model.to(device=device, dtype=getattr(torch, config.dtype)).eval()
    if config.attn is not None:
        _set_attention(model, config.attn)
    return LoadedModel(model, processor, device, weights)


def _load_tiny(config: CaptureConfig) -> tuple[nn.Module, Any]:
    from gemma_trace.capture.tiny import tiny_model, tiny_processor

    return tiny_model(config.seed), tiny_processor(config.image_backend)


def _load_folder(config: CaptureConfig) -> tuple[nn.Module, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # ours shows what is loading
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            config.model, dtype=getattr(torch, config.dtype), local_files_only=True
        )
        processor = AutoProcessor.from_pretrained(config.model, backend=config.image_backend, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{config.model} holds no model and processor that transformers loads: {reason}") from error
    finally:
        logging.enable_progress_bar()
    return model, processor


def _set_attention(model: nn.Module, implementation: str) -> None:
    try:
        model.set_attn_implementation(implementation)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"no attention {implementation!r} for this model: {reason}; try --attn sdpa") from error
