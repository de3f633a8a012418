"""Finds the modules that are a stage's work in a vision-language model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from torch import nn

from gemma_trace.capture.absent_modules import reason_of_absence
from gemma_trace.capture.wrappers import can_generate, unwrapped
from gemma_trace.errors import ConfigError

VISION_NAMES: Final = frozenset(
    {
        *("vision_tower", "visual", "vision_model", "vision_encoder", "image_tower", "video_tower", "image_encoder"),
        *("high_res_vision_model", "img_processor"),
    }
)
"""What transformers 5 calls the image encoder; several of them are one stage."""

AUDIO_NAMES: Final = frozenset({"audio_tower", "audio_encoder", "speech_encoder"})
"""What it calls the audio encoder."""

PROJECTOR_NAMES: Final = frozenset(
    {
        *("multi_modal_projector", "embed_vision", "connector", "aligner", "mm_projector", "projector"),
        *("vision_projection", "visual_projection", "image_to_text_projection", "language_projection", "qformer"),
        *("vision_adapter", "resampler_model", "perceiver_resampler", "visual_embeddings_table", "density_router"),
        *("layerwise_projectors", "spatial_projectors", "vision_embed_tokens", "high_res_vision_neck"),
        *("high_res_vision_proj", "img_projection", "img_projection_norm", "vision_resampler"),
        *("embed_audio", "audio_projector", "speech_projector", "enc_to_dec_proj"),
        *("merger", "patch_merger", "deepstack_merger_list"),
    }
)
"""What it calls what maps the encoders' output to the decoder's embeddings, beside the encoder or inside of it; several
of them are one stage."""

IMAGE_TOKENIZERS: Final = frozenset({"vqmodel", "vision_tokenizer"})
"""What it calls what makes tokens of an image; its encoder is the work."""

_PIXELS: Final = frozenset({"pixel_values", "flattened_patches"})
_SOUND: Final = frozenset({"input_features", "input_values"})


@dataclass(frozen=True)
class StageModules:
    """The modules whose forward is a stage; empty or None where the model has none that could be found.

    Attributes:
        text_encoder: what reads the prompt of an encoder-decoder, a part of the prefill.
        absent: why there is none of a stage, by `vision`, `projector` or `decoder`; what isn't in there is unknown.
    """

    vision_tower: tuple[nn.Module, ...] = ()
    projector: tuple[nn.Module, ...] = ()
    decoder: nn.Module | None = None
    audio_tower: tuple[nn.Module, ...] = ()
    text_encoder: tuple[nn.Module, ...] = ()
    absent: Mapping[str, str] | None = None

    @property
    def encoders(self) -> tuple[nn.Module, ...]:
        """The modules that run before the text model."""
        return (*self.vision_tower, *self.audio_tower, *self.projector)

    def layers(self, model: nn.Module) -> list[nn.Module]:
        """The layers of the towers and of the text model, which is `model` itself where no decoder was found."""
        before = (*self.vision_tower, *self.audio_tower, *self.text_encoder)
        text = find_layers(model if self.decoder is None else self.decoder, but=before)
        return [*(layer for module in before for layer in find_layers(module)), *text]


def find_stage_modules(model: nn.Module, given: Mapping[str, str] | None = None) -> StageModules:
    """Find the towers, the projector and the text decoder by transformers' own accessors and names.

    `get_decoder()` answers for most classes; what it returns counts only if it isn't the model itself, which is what it
    returns when it doesn't know. Towers and projectors are found by their names.

    Args:
        model: may be wrapped, see `wrappers.py`.
        given: paths of modules, by `vision`, `projector` or `decoder`, which stand over what is found.

    Raises:
        ConfigError: there is no module at a path.
    """
    wrappers = unwrapped(model)
    core = wrappers[-1]
    chosen = {name: _at(wrappers, path) for name, path in (given or {}).items()}
    decoder = chosen["decoder"] if "decoder" in chosen else _decoder(core)  # by itself it may be neither true nor false
    vision = (chosen["vision"],) if "vision" in chosen else _vision_towers(core, decoder)
    audio = _towers(core, decoder, AUDIO_NAMES, _SOUND)
    projector = (chosen["projector"],) if "projector" in chosen else _projectors(core, (*vision, *audio))
    modules = StageModules(vision, projector, decoder, audio, _text_encoders(core, (*vision, *audio)))
    kind = getattr(getattr(core, "config", None), "model_type", "")
    reasons = {name: reason_of_absence(kind, name) for name in ("vision", "projector", "decoder")}
    return replace(modules, absent={name: reason for name, reason in reasons.items() if reason})


def missing_stages(modules: StageModules) -> list[str]:
    """What has to be said of a model whose stages couldn't all be found, a line each."""
    consequences = {
        "vision": ("vision tower", "its time counts as prefill, or belongs to no stage"),
        "projector": ("projector", "its time counts for the stage around it, or belongs to no stage"),
        "decoder": ("text decoder", "prefill and decode are the forward passes of the whole model"),
    }
    stage_modules = {"vision": modules.vision_tower, "projector": modules.projector, "decoder": modules.decoder}
    known = modules.absent or {}
    return [
        f"this model has no {consequences[name][0]}: {known[name]}"
        if name in known
        else f"no {consequences[name][0]} was found in this model: {consequences[name][1]}; "
        f"name it with --stage-module {name}=PATH"
        for name, module in stage_modules.items()
        if module is None or module == ()
    ]


def find_layers(module: nn.Module, but: Iterable[nn.Module] = ()) -> list[nn.Module]:
    """The encoder or decoder layers of a module: the members of its longest `ModuleList`, in order.

    Args:
        but: modules whose own lists don't count.
    """
    others = {id(inner) for each in but for inner in each.modules()}
    lists = [child for child in module.modules() if isinstance(child, nn.ModuleList) and id(child) not in others]
    return list(max(lists, key=len, default=[]))


def _at(wrappers: list[nn.Module], path: str) -> nn.Module:
    """The module at a path, which is one of the model itself or of a wrapper around it."""
    for model in reversed(wrappers):
        try:
            return model.get_submodule(path)
        except AttributeError:
            continue
    near = [name for name, _ in wrappers[-1].named_modules() if name and name.count(".") <= 2][:12]
    raise ConfigError(f"the model has no module at {path!r}; it has {', '.join(near)}…") from None


def _decoder(core: nn.Module) -> nn.Module | None:
    """What `get_decoder` returns; the model's base only if it has the layers itself."""
    decoder = _answer(core, "get_decoder")
    if decoder is None or decoder is core:
        return None
    if decoder is getattr(core, "base_model", core):
        return decoder if any(isinstance(child, nn.ModuleList) for child in decoder.children()) else None
    return decoder


def _vision_towers(core: nn.Module, decoder: nn.Module | None) -> tuple[nn.Module, ...]:
    towers = _towers(core, decoder, VISION_NAMES, _PIXELS)
    tokenizers = () if towers else _outermost(core, lambda name, _: name in IMAGE_TOKENIZERS)
    return towers or tuple(child for each in tokenizers for name, child in each.named_children() if name == "encoder")


def _towers(
    core: nn.Module, decoder: nn.Module | None, names: frozenset[str], inputs: frozenset[str]
) -> tuple[nn.Module, ...]:
    """The modules of these names, outermost; or an `encoder` that takes these inputs; outside of the decoder if any."""
    inside_decoder = {id(module) for module in decoder.modules()} if decoder is not None else set()

    def is_tower(name: str, module: nn.Module) -> bool:
        return name in names or (name == "encoder" and getattr(module, "main_input_name", None) in inputs)

    def is_outside(name: str, module: nn.Module) -> bool:
        return is_tower(name, module) and id(module) not in inside_decoder

    return _outermost(core, is_outside) or _outermost(core, is_tower)


def _outermost(core: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> tuple[nn.Module, ...]:
    """The modules wanted, none of them inside of another one."""
    outermost: dict[str, nn.Module] = {}
    for path, module in core.named_modules():
        if path and not any(path.startswith(f"{known}.") for known in outermost):
            outermost |= {path: module} if wanted(path.rpartition(".")[2], module) else {}
    return tuple(outermost.values())


def _projectors(core: nn.Module, towers: tuple[nn.Module, ...]) -> tuple[nn.Module, ...]:
    """The projectors beside the towers, or beside the text model; or else those inside of the towers."""
    ids = {id(tower) for tower in towers}
    beside = [owner for owner in core.modules() if any(id(child) in ids for child in owner.children())]
    owners = [*beside, getattr(core, "base_model", core), core]
    return tuple(_children(owners, PROJECTOR_NAMES, ids) or _children(towers, PROJECTOR_NAMES, ids))


def _children(owners: Iterable[nn.Module], names: frozenset[str], but: set[int]) -> list[nn.Module]:
    """The children of these names; of a list of modules its members, since it is they who are called."""
    children: dict[int, nn.Module] = {}
    for owner in owners:
        for name, child in owner.named_children():
            if name in names and id(child) not in but:
                members = list(child) if isinstance(child, nn.ModuleList) else [child]
                children |= {id(member): member for member in members}
    return list(children.values())


def _text_encoders(core: nn.Module, towers: tuple[nn.Module, ...]) -> tuple[nn.Module, ...]:
    """The encoders of the prompt, of all encoder-decoders that generate in here."""
    encoders: dict[int, nn.Module] = {}
    for module in core.modules():
        config = getattr(module, "config", None)
        if not can_generate(module) or not getattr(config, "is_encoder_decoder", False):
            continue
        encoder = _answer(module, "get_encoder")
        if encoder is not None and not any(encoder is known for known in (module, *towers)):
            encoders[id(encoder)] = encoder
    return tuple(encoders.values())


def _answer(module: nn.Module, name: str) -> nn.Module | None:
    """What an accessor of transformers returns; None where it doesn't know."""
    get: Any = getattr(module, name, None)
    try:
        answer = get() if callable(get) else None
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return answer if isinstance(answer, nn.Module) else None
