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

_NEEDED: dict[str, dict[str, Any]] = {
    "aya_vision": {"vision_config.num_attention_heads": 16},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "cohere_compass": {
        "text_config.rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("full_attention", "sliding_attention")
        }
    },
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense"] * 64},
    "diffusion_gemma": {
        "text_config.num_experts": 2,
        "text_config.top_k_experts": 1,
        "text_config.moe_intermediate_size": 32,
    },
    "emu3": {"vocabulary_map": {"<image>": 4}},
    "granite4_vision": {"downsample_rate": "4/8", "deepstack_layer_map": [(0, 0)], "spatial_target_layers": [0]},
    "perception_lm": {
        "vision_config.architecture": "vit_pe_core_tiny_patch16_384",
        "vision_config.model_args": {"embed_dim": 192},
    },
    "hunyuan_vl": {"text_config.head_dim": 32},
}
"""What a configuration lacks to be built by itself, by model type: what published ones have there."""

_WITH = {"gemma4": "Gemma4VisionConfig", "gemma4_unified": "Gemma4UnifiedVisionConfig"}
"""Types whose own default has no vision, and the configuration that gives it some."""

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
        model = _built(name, _configured(model_type, CONFIG_MAPPING[model_type]))
    except Exception as error:
        return Registered(model_type, name, {}, {}, f"{type(error).__name__}: {error}".splitlines()[0][:200])
    modules = find_stage_modules(model)
    decoder = () if modules.decoder is None else (modules.decoder,)
    parts = dict(zip(KINDS, (modules.vision_tower, modules.audio_tower, modules.projector, decoder), strict=True))
    paths = {id(module): path for path, module in model.named_modules()}
    found = {kind: tuple(paths[id(module)] for module in parts[kind]) for kind in KINDS if parts[kind]}
    return Registered(model_type, name, found, dict(modules.absent or {}))


def _configured(model_type: str, kind: Any) -> Any:
    import transformers

    vision = _WITH.get(model_type)
    config = kind(vision_config=getattr(transformers, vision)()) if vision else kind()
    for path, value in _NEEDED.get(model_type, {}).items():
        *owners, name = path.split(".")
        owner = config
        for each in owners:
            owner = getattr(owner, each)
        setattr(owner, name, value)
    return config


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
