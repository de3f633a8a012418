"""Every image-text class that transformers registers, built on meta tensors: which modules are found in it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.discovery import find_stage_modules

_DEPTHS = frozenset(
    {
        *(
            "num_hidden_layers",
            "num_layers",
            "depth",
            "layers",
            "encoder_layers",
            "decoder_layers",
            "num_decoder_layers",
        ),
        *("num_attention_layers", "resampler_depth", "n_layers"),
    }
)
"""What configurations call the number of layers."""

KINDS = ("vision", "audio", "projector", "decoder")


@dataclass(frozen=True)
class Registered:
    """A registered class.

    Attributes:
        found: paths of the modules of a kind, by `vision`, `audio`, `projector` or `decoder`.
        absent: why there is none of a kind.
        failure: why it could not be built; "" if it could.
    """

    model_type: str
    name: str
    found: dict[str, tuple[str, ...]]
    absent: dict[str, str]
    failure: str = ""


def registered_types() -> dict[str, str]:
    """The class of each model type that reads images and writes text."""
    from transformers.models.auto import modeling_auto

    return dict(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)


def look_at(model_type: str) -> Registered:
    """Build the class of a model type, with few layers where its configuration allows that, and look into it."""
    from transformers import CONFIG_MAPPING

    name = registered_types()[model_type]
    try:
        model = _built(name, CONFIG_MAPPING[model_type]())
    except Exception as error:
        return Registered(model_type, name, {}, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    modules = find_stage_modules(model)
    decoder = () if modules.decoder is None else (modules.decoder,)
    parts = dict(zip(KINDS, (modules.vision_tower, modules.audio_tower, modules.projector, decoder), strict=True))
    paths = {id(module): path for path, module in model.named_modules()}
    found = {kind: tuple(paths[id(module)] for module in parts[kind]) for kind in KINDS if parts[kind]}
    return Registered(model_type, name, found, dict(modules.absent or {}))


def _built(name: str, config: Any) -> nn.Module:
    import transformers

    kind = getattr(transformers, name)
    for shape in (_shallow(copy.deepcopy(config)), config):
        try:
            with torch.device("meta"):
                model: nn.Module = kind(shape)
        except Exception:
            if shape is config:
                raise
        else:
            return model
    raise AssertionError("the last one returns or raises")


def _shallow(config: Any) -> Any:
    """The configuration with two layers wherever it says how many; lists with one entry a layer are cut as well."""
    import transformers

    for name, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            _shallow(value)
        elif name in _DEPTHS and isinstance(value, int) and value > 2:
            setattr(config, name, 2)
        elif name.endswith("layer_types") and isinstance(value, list):
            setattr(config, name, value[:2])
    return config
