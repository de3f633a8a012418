"""Finds the modules that are a stage's work in a vision-language model of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from gemma_trace.errors import ConfigError

PROJECTOR_NAMES = (
    "multi_modal_projector",
    "embed_vision",
    "connector",
    "aligner",
    "mm_projector",
    "projector",
    "merger",
    "vision_projection",
)
"""What transformers 5 calls the multimodal projector, most common first."""


@dataclass(frozen=True)
class StageModules:
    """The modules whose forward is a stage; None where the model has none that could be found."""

    vision_tower: nn.Module | None
    projector: nn.Module | None
    decoder: nn.Module | None


def find_stage_modules(model: nn.Module, given: Mapping[str, str] | None = None) -> StageModules:
    """Find vision tower, projector and text decoder by transformers' own accessors and names.

    `get_encoder(modality="image")` and `get_decoder()` answer for most classes; what they return counts only if
    it is neither the model nor its base, which is what they return when they don't know.

    Args:
        given: paths of modules, by `vision`, `projector` or `decoder`, which stand over what is found.

    Raises:
        ConfigError: there is no module at a path.
    """
    chosen = {name: _at(model, path) for name, path in (given or {}).items()}
    base = getattr(model, "base_model", model)
    known = [model, base]
    vision = _accessor(model, "get_encoder", known, modality="image")
    decoder = _accessor(model, "get_decoder", known)
    projector = None
    for owner in (base, vision, model):
        projector = projector or _first_child(owner, PROJECTOR_NAMES)
    return StageModules(
        chosen.get("vision", vision), chosen.get("projector", projector), chosen.get("decoder", decoder)
    )


def missing_stages(modules: StageModules) -> list[str]:
    """What has to be said of a model whose stages couldn't all be found, a line each."""
    consequences = {
        "vision": ("vision tower", "its time is in prefill, or in no stage"),
        "projector": ("projector", "its time is in the stage around it, or in no stage"),
        "decoder": ("text decoder", "prefill and decode are the whole model's forwards"),
    }
    found = {"vision": modules.vision_tower, "projector": modules.projector, "decoder": modules.decoder}
    return [
        f"no {consequences[name][0]} was found in this model: {consequences[name][1]}; "
        f"name it with --stage-module {name}=PATH"
        for name, module in found.items()
        if module is None
    ]


def _at(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        near = [name for name, _ in model.named_modules() if name and name.count(".") <= 2][:12]
        raise ConfigError(f"the model has no module at {path!r}; it has {', '.join(near)}…") from None


def find_layers(module: nn.Module) -> list[nn.Module]:
    """The encoder or decoder layers of a module: the members of its longest `ModuleList`, in order."""
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _accessor(model: nn.Module, name: str, not_one_of: list[nn.Module], **kwargs: str) -> nn.Module | None:
    get = getattr(model, name, None)
    found = get(**kwargs) if callable(get) else None
    if not isinstance(found, nn.Module) or any(found is module for module in not_one_of):
        return None
    return found


def _first_child(owner: nn.Module | None, names: tuple[str, ...]) -> nn.Module | None:
    for name in names:
        child = getattr(owner, name, None)
        if isinstance(child, nn.Module):
            return child
    return None
