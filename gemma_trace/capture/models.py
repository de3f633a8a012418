"""A model's name → the model, on its device and in its dtype, and its processor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gemma_trace.capture import hub
from gemma_trace.capture.accelerators import devices_of, working_devices
from gemma_trace.capture.adapters import adapter_of, with_adapter
from gemma_trace.capture.config import CaptureConfig, Dtype
from gemma_trace.capture.distributed import same_verdict, this_rank
from gemma_trace.capture.early import check_names
from gemma_trace.capture.hub import CHECKPOINTS
from gemma_trace.capture.model_kinds import auto_class, check_adapter, check_model, of_option, refuse_unfit
from gemma_trace.capture.model_memory import check_fits, check_host, parameter_count
from gemma_trace.capture.one_line_errors import error_text
from gemma_trace.capture.phases import NoProgress, Progress
from gemma_trace.capture.quantization import quantization_of, quantize
from gemma_trace.capture.random_weights import build_random
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.errors import DeviceError, GemmaTraceError, ModelError
from gemma_trace.metadata import ConfigValue


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to generate.

    Attributes:
        device: where its inputs go.
        weights: `random` or `pretrained`.
        warnings: what has to be said of it, a line each.
        assistance: what `generate` is given for assisted decoding.
        record: what the trace is to say of it beside the options.
    """

    model: nn.Module
    processor: Any
    device: torch.device
    weights: str
    warnings: tuple[str, ...] = ()
    assistance: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, ConfigValue] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Those whose work is its own: all accelerators that it is on, or the CPU."""
        return working_devices(devices_of(self.model))


def resolve_device(name: str, option: str = "--device") -> torch.device:
    """The device of this name; `auto` is CUDA where there is one, else the CPU.

    Args:
        option: whose value it is, for the message.

    Raises:
        DeviceError: torch has no such device here.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if available else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:  # a number that is none of a device
        raise DeviceError(f"no device {name}; give {option} auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not available:
            built = "built without CUDA" if torch.version.cuda is None else "and no CUDA device is visible"
            raise DeviceError(f"no device {name}: torch {torch.__version__} is {built}; use {option} cpu")
        if (device.index or 0) >= available:
            raise DeviceError(f"no device {name}: there are {available}, cuda:0 to cuda:{available - 1}")
        device = torch.device("cuda", device.index if device.index is not None else this_rank().local % available)
    return device


def image_device(config: CaptureConfig, device: torch.device) -> torch.device | None:
    """Where images are processed: `cuda` without a number is the model's own device where that is one of CUDA's.

    None is the processor's default.
    """
    if config.image_device is None or config.image_device == device.type:
        return None if config.image_device is None else device
    return resolve_device(config.image_device, "--image-device")


def images_elsewhere(config: CaptureConfig, device: torch.device, *others: torch.device) -> torch.device | None:
    """Where images are processed, if on a device whose work neither the host's clock tells nor the model's devices.

    Args:
        device: where the model's inputs go.
        others: what else it is on.
    """
    images_on = image_device(config, device)
    return None if images_on is None or images_on.type == "cpu" or images_on in (device, *others) else images_on


def load_model(config: CaptureConfig, progress: Progress | None = None) -> LoadedModel:
    """Build or load the model of a capture.

    Raises:
        ModelError: there is no such model, no access to it, or transformers can't load it.
        DeviceError: the device isn't there, or the model is too large for it.
    """
    device = resolve_device(config.device)
    declare_missing_operators()
    progress = progress or NoProgress()
    check_names(config)
    if config.attn is not None:
        _check_attention(config.attn)
    adapter = None if config.adapter is None else _adapter_folder(config.adapter, progress)
    loaded = _load(config, device, progress)
    if config.attn is not None:
        _set_attention(loaded.model, config.attn)
    if this_rank().world > 1 and loaded.weights == "random":
        said = "random weights are not split, so each rank runs the whole model; save it to a folder to have it split"
        loaded = replace(loaded, warnings=(*loaded.warnings, said))
    if adapter is not None:
        loaded = replace(loaded, model=with_adapter(loaded.model, adapter))
    if config.quantize is not None:
        quantize(loaded.model, config.quantize)
    record = adapter_of(loaded.model) | quantization_of(loaded.model)
    return replace(loaded, record=record, assistance=load_assistance(config, loaded.model, progress))


def load_assistance(config: CaptureConfig, model: nn.Module, progress: Progress | None = None) -> dict[str, Any]:
    """What `generate` is given beside a model's inputs for assisted decoding: the model that guesses tokens.

    Raises:
        ModelError: there is no such model, or it has another vocabulary.
    """
    if config.assistant is None:
        return {}
    device = next(model.parameters()).device
    asked = replace(config, model=config.assistant, dtype=_dtype_name(model, config.dtype), device="auto")
    try:
        assistant = _load(asked, device, progress or NoProgress()).model
    except ModelError as error:
        raise of_option("--assistant", error) from error
    draft_tokens, model_tokens = _vocabulary(assistant), _vocabulary(model)
    if draft_tokens != model_tokens:
        raise ModelError(
            f"{asked.model_label} has a vocabulary of {draft_tokens:,} tokens, and the model one of {model_tokens:,}; "
            "give --assistant one of the same vocabulary"
        )
    return {"assistant_model": assistant}


def _dtype_name(model: nn.Module, otherwise: str) -> str:
    name = str(getattr(model, "dtype", otherwise)).removeprefix("torch.")
    return name if name in list(Dtype) else otherwise


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _adapter_folder(adapter: str, progress: Progress) -> Path:
    """An adapter's folder, or what the Hub has of it."""
    if Path(adapter).is_dir():
        return Path(adapter)
    try:
        folder = _download(adapter, progress, weights=True)
    except ModelError as error:
        raise of_option("--adapter", error) from error
    check_adapter(str(folder))
    return folder


def _load(config: CaptureConfig, device: torch.device, progress: Progress) -> LoadedModel:
    if config.model == "tiny":
        return _tiny(config, device)
    check_model(config.model, config.model_label)
    if Path(config.model).is_dir():
        return _from_folder(config, Path(config.model), device, random=config.weights == "random")
    repo = CHECKPOINTS.get(config.model, config.model)
    is_preset = config.model in CHECKPOINTS
    wanted = config.weights
    if wanted == "auto" and is_preset and not hub.is_within_reach(repo):
        wanted = "random"
    if wanted == "random" and is_preset:
        return _random_preset(config, device)
    try:
        folder = _download(repo, progress, weights=wanted != "random")
    except ModelError as error:
        if not (config.weights == "auto" and is_preset):
            raise
        return replace(_random_preset(config, device), warnings=(f"random weights at the exact shape, since {error}",))
    return _from_folder(config, folder, device, random=wanted == "random")


def _download(repo: str, progress: Progress, *, weights: bool) -> Path:
    def start(files: int) -> None:
        progress.phase(f"fetching {repo}", files)

    return hub.download(repo, weights=weights, on_files=start, on_file=progress.step)


def _tiny(config: CaptureConfig, device: torch.device) -> LoadedModel:
    from gemma_trace.capture.gemma3 import gemma3_processor
    from gemma_trace.capture.tiny import tiny_model

    model = tiny_model(config.seed)
    processor = gemma3_processor(model.config, config.image_backend)
    model = model.to(device=device, dtype=getattr(torch, config.dtype)).eval()
    return LoadedModel(model, processor, device, "random")


def _random_preset(config: CaptureConfig, device: torch.device) -> LoadedModel:
    """A size of Gemma 3 at its public shape; no network."""
    from gemma_trace.capture.gemma3 import gemma3_config, gemma3_processor

    shape = gemma3_config(config.model)
    with same_verdict(device):
        check_fits(config.model, parameter_count(shape), config.dtype, device)
    model = build_random(shape, device, getattr(torch, config.dtype), config.seed).eval()
    return LoadedModel(model, gemma3_processor(shape, config.image_backend), device, "random")


def _from_folder(config: CaptureConfig, folder: Path, device: torch.device, *, random: bool) -> LoadedModel:
    """A model saved by `save_pretrained`; at random, its shape and its processor alone."""
    from transformers import AutoConfig
    from transformers.utils import logging

    refuse_unfit(config.model_label, folder)
    dtype = getattr(torch, config.dtype)
    logging.disable_progress_bar()  # ours shows what is loading
    try:
        shape = AutoConfig.from_pretrained(folder, local_files_only=True)
        processor = _processor_in(folder, config.image_backend)
        with same_verdict(device):
            parameters = parameter_count(shape, 1 if random else this_rank().world)
            check_fits(config.model_label, parameters, config.dtype, device)
            if not random and device.type != "cpu":
                check_host(config.model_label, folder)
        if random:
            model = build_random(shape, device, dtype, config.seed)
        else:
            where = _placement(device)
            model = auto_class(shape).from_pretrained(folder, dtype=dtype, local_files_only=True, **where)
    except GemmaTraceError:
        raise
    except ImportError as error:
        raise ModelError(
            f"{config.model_label} requires a package that is not installed: {error_text(error)}"
        ) from error
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # whatever is wrong with the files, by any of the libraries that read them
        reason = f"{type(error).__name__}: {error_text(error)}"
        raise ModelError(f"{config.model} has no model and processor that transformers can load: {reason}") from error
    finally:
        logging.enable_progress_bar()
    return LoadedModel(model.to(device).eval(), processor, device, "random" if random else "pretrained")


def _placement(device: torch.device) -> dict[str, Any]:
    """Where weights go: shard by shard onto the device, so that the host never holds all of them.

    Under torchrun each rank gets its part of them, by transformers' own plan for the model.
    """
    if this_rank().world == 1:
        return {} if device.type == "cpu" else {"device_map": {"": device}}
    try:
        from transformers.distributed import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_plan="auto")}
    except (ImportError, TypeError):  # before transformers 5.18
        return {"tp_plan": "auto"}


def _processor_in(folder: Path, backend: str) -> Any:
    """A folder's processor, its images processed by this backend."""
    from transformers import AutoImageProcessor, AutoProcessor

    try:
        return AutoProcessor.from_pretrained(folder, backend=backend, local_files_only=True)
    except AttributeError:
        # Transformers 5.17 hands the backend on to the video processor of families that have one, which takes none.
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend=backend, local_files_only=True)
        return processor


def _check_attention(name: str) -> None:
    """Refuse a name that transformers doesn't know, before minutes of loading; a Hub id may be that of a kernel."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    known = ["eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()]
    if name not in known and "/" not in name and "|" not in name:
        plain = ", ".join(each for each in known if "|" not in each)
        raise ModelError(f"no attention implementation {name!r}; give --attn one of {plain}")


def _set_attention(model: nn.Module, implementation: str) -> None:
    try:
        model.set_attn_implementation(implementation)
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split()).split(". ")[0].rstrip(".")  # what follows is links to ask for support at
        raise ModelError(
            f"this model has no attention implementation {implementation!r}: {reason}; try --attn sdpa"
        ) from error
