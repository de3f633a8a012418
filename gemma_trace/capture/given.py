"""A model and a processor in hand: what they are is read off them, and what they can't become is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.accelerators import activity_of, can_wait_for, devices_of, working_devices
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.wrappers import unwrapped
from gemma_trace.errors import ConfigError, DeviceError
from gemma_trace.metadata import ConfigValue, RunIdentity


@dataclass(frozen=True)
class GivenModel:
    """What a trace says of a model in hand and of its processor.

    Attributes:
        label: the model's class, that of transformers within whatever wraps it.
        wrappers: the classes around it, outermost first (PEFT's, torch.compile's).
        devices: all that its weights are on, that of the first ones first.
        dtypes: of its weights, as torch names them without "torch.", that of most of them first.
        attn: its attention implementation, of each part where they differ; None where it names none.
        image_backend: `torchvision`, `pil`, or what else its image processor says.
    """

    label: str
    wrappers: tuple[str, ...]
    devices: tuple[torch.device, ...]
    dtypes: tuple[str, ...]
    attn: str | None
    image_backend: str

    @property
    def dtype(self) -> str:
        """That of most of its weights."""
        return self.dtypes[0]

    @property
    def device(self) -> torch.device:
        """The one that stands for all: the first accelerator, or the CPU."""
        return working_devices(self.devices)[0]

    def record(self) -> dict[str, ConfigValue]:
        """The options of a capture that the objects decided, as they are, and of several devices or dtypes all."""
        record: dict[str, ConfigValue] = {
            "model": self.label,
            "wrappers": list(self.wrappers),
            "weights": "given",
            "device": str(self.device),
            "dtype": self.dtype,
            "attn": self.attn,
            "image_backend": self.image_backend,
            "seed": None,
        }
        if len(self.devices) > 1:
            record["devices"] = [str(device) for device in self.devices]
        if len(self.dtypes) > 1:
            record["dtypes"] = list(self.dtypes)
        return record


def read_given(model: Any, processor: Any) -> GivenModel:
    """Read off a model and a processor in hand what they are.

    Raises:
        ConfigError: one of them is none.
    """
    if not isinstance(model, nn.Module) or not callable(getattr(model, "generate", None)):
        raise ConfigError(f"the model is a {type(model).__name__}, which has no generate(); give one of transformers")
    missing = [part for part in ("image_processor", "tokenizer") if getattr(processor, part, None) is None]
    if missing:
        raise ConfigError(
            f"the processor is a {type(processor).__name__} without {' and '.join(missing)}; give the model's own, "
            "which AutoProcessor.from_pretrained loads"
        )
    weights = next(model.parameters(), None)
    if weights is None:
        raise ConfigError("the model has no weights")
    _refuse_absent_weights(model)
    *around, core = unwrapped(model)
    return GivenModel(
        label=type(core).__name__,
        wrappers=tuple(type(wrapper).__name__ for wrapper in around),
        devices=devices_of(model),
        dtypes=_dtypes(core),
        attn=_attention(getattr(core, "config", None)),
        image_backend=str(getattr(processor.image_processor, "backend", "unknown")),
    )


def _dtypes(model: nn.Module) -> tuple[str, ...]:
    """Those that the model works in: of its weights of at least 16 bits, for quantised ones are made such first."""
    counts: Counter[torch.dtype] = Counter()
    for weights in model.parameters():
        if weights.is_floating_point() and weights.dtype.itemsize > 1:
            counts[weights.dtype] += weights.numel()
    dtypes = [dtype for dtype, _ in counts.most_common()] or [getattr(model, "dtype", next(model.parameters()).dtype)]
    return tuple(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _attention(config: Any) -> str | None:
    """The implementation of all parts of a model; `text-eager+vision-sdpa` where they differ."""
    get_text = getattr(config, "get_text_config", None)
    parts = {"text": get_text() if callable(get_text) else config}
    for name in getattr(config, "sub_configs", ()):
        part = getattr(config, name, None)
        if part is not None and part is not parts["text"]:
            parts[name.removesuffix("_config")] = part
    kinds = {name: getattr(part, "_attn_implementation", None) for name, part in parts.items()}
    named = {name: str(attn) for name, attn in kinds.items() if attn is not None}
    differ = len(set(named.values())) > 1
    return "+".join(map("-".join, named.items())) if differ else next(iter(named.values()), None)


def _refuse_absent_weights(model: nn.Module) -> None:
    """Refuse a model of which weights are on no device while it doesn't run.

    Raises:
        ConfigError: they were never loaded, or accelerate fetches them for each call from the host or a disk.
    """
    on_meta = any(weights.device.type == "meta" for weights in model.parameters())
    hooks = [module._hf_hook for module in model.modules() if hasattr(module, "_hf_hook")]
    if (on_meta and hooks) or any(_moves_weights(hook) for hook in hooks):
        raise ConfigError(
            "parts of the model are offloaded, to the host's memory or a disk, and copied at each call; load all of it "
            "onto its devices, or a smaller model"
        )
    if on_meta:
        raise ConfigError("the model has no weights, or not all: some are on the device meta; load them first")


def _moves_weights(hook: Any) -> bool:
    """Whether one of accelerate's hooks has weights elsewhere than where they work."""
    parts = getattr(hook, "hooks", (hook,))
    return any(getattr(part, "offload", False) or type(part).__name__ == "CpuOffload" for part in parts)


def check_devices(model: nn.Module, config: CaptureConfig) -> None:
    """Refuse a model whose device's work couldn't be timed: where a host's clock would time launches alone.

    Raises:
        DeviceError: it is on a device that torch can't wait for.
        ConfigError: the stages have to wait for its devices, which the options don't say: it is on one that the
            profiler doesn't see, or on several of different kinds, which have no clock together.
    """
    devices = devices_of(model)
    if strange := sorted(str(device) for device in devices if not can_wait_for(device)):
        raise DeviceError(f"the work of {', '.join(strange)} can't be timed; move the model to the CPU or to CUDA")
    if config.sync_stages:
        return
    if unseen := sorted(str(device) for device in devices if activity_of(device) is None):
        raise ConfigError(
            f"the profiler of this torch sees no work of {', '.join(unseen)}; give sync_stages=True, so that stages "
            f"wait for it"
        )
    working = working_devices(devices)
    if len({device.type for device in working}) > 1:
        raise ConfigError(
            f"the model is spread over {', '.join(map(str, working))}, which are of different kinds, so that no "
            f"clock times the work of all; give sync_stages=True"
        )


def check_applies(config: CaptureConfig, given: GivenModel, asked: Collection[str]) -> None:
    """Refuse options that a model in hand can't follow; those that say what it is anyway are fine.

    Args:
        asked: names of options that were given, be it with the value that is the default.

    Raises:
        ConfigError: naming the option.
    """
    told = {field.name for field in fields(config) if getattr(config, field.name) != field.default} | set(asked)
    is_so = {
        "model": config.model == given.label,
        "weights": config.weights == "auto",
        "device": all(_is_device(config.device, device) for device in working_devices(given.devices)),
        "dtype": config.dtype == given.dtype,
        "attn": config.attn in (None, given.attn),
        "image_backend": config.image_backend == given.image_backend,
        "seed": config.seed == CaptureConfig.seed,
        "quantize": config.quantize is None,
        "adapter": config.adapter is None,
    }
    instead = given.record() | {"device": ", ".join(map(str, given.devices))}
    for option, agrees in is_so.items():
        if option in told and not agrees:
            said = "drawn already" if option == "seed" else instead.get(option, "what they are")
            raise ConfigError(
                f"{option}={getattr(config, option)!r} does not apply to a model in hand, whose {_TELL[option]} "
                f"{said}; leave it out, or change the object itself"
            )


def identity_of(config: CaptureConfig, given: GivenModel | None, device: torch.device) -> RunIdentity:
    """What a run is called, and what of; of a model that isn't in hand before it is loaded."""
    if given is None:  # its weights are known once it is loaded
        name, backend = config.run_name(device.type), config.image_backend
        return RunIdentity(name, config.model_label, "", config.dtype, device.type, backend)
    name = replace(config, model=given.label).run_name(device.type, given.dtype, given.image_backend)
    return RunIdentity(name, given.label, "given", given.dtype, device.type, given.image_backend)


_TELL = {
    "model": "class is",
    "weights": "weights are",
    "device": "device is",
    "dtype": "dtype is",
    "attn": "attention implementation is",
    "image_backend": "image processor's backend is",
    "seed": "weights are",
    "quantize": "weights are",
    "adapter": "adapters are",
}


def _is_device(name: str, device: torch.device) -> bool:
    """Whether an option names the device: `auto` every one, `cuda` whichever."""
    return name in ("auto", device.type, str(device))
