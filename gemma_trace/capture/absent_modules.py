"""Which models of transformers have none of a stage's modules, and why; so that nobody looks for them."""

from __future__ import annotations

from typing import Final

_CROSS_ATTENTION: Final = "its decoder attends to the output of the encoder"
_LOOKED_UP: Final = "the tokens of an image are looked up in the same table as those of the text"
_INSIDE: Final = "the last layer of its vision tower already returns embeddings of the text model"
_WHOLE: Final = (
    "its text layers are not in a module of their own, so prefill and decode are the forward passes of the whole model"
)

_REASONS: Final[dict[str, dict[str, str]]] = {
    "apertus1p5": {"projector": _LOOKED_UP},
    "blip": {"projector": _CROSS_ATTENTION},
    "chameleon": {"projector": _LOOKED_UP},
    "emu3": {"projector": _LOOKED_UP},
    "evolla": {"vision": "it reads proteins and no images", "projector": "it reads proteins and no images"},
    "fuyu": {"vision": "patches of an image go through a single layer, the projector"},
    "gemma4_unified": {"vision": "patches of an image go through a single module, the projector"},
    "git": {"decoder": _WHOLE},
    "idefics": {"projector": _CROSS_ATTENTION},
    "inkling_mm_model": {"projector": _INSIDE},
    "mistral4": {"vision": "it reads only text", "projector": "it reads only text"},
    "pi0": {"decoder": "it returns actions instead of text"},
    "pix2struct": {"projector": _CROSS_ATTENTION},
    "udop": {
        "vision": "one encoder reads image and text together, as part of the prefill",
        "projector": "one encoder reads image and text together, as part of the prefill",
    },
    "vision-encoder-decoder": {"projector": _CROSS_ATTENTION},
    "whisper": {"vision": "it reads sound and no images", "projector": _CROSS_ATTENTION},
}
"""By model type and stage. A test builds every registered model and compares."""


def reason_of_absence(model_type: str, stage: str) -> str:
    """Why models of this type have no `vision`, `projector` or `decoder`; "" where that isn't known.

    >>> reason_of_absence("gemma3", "vision")
    ''
    """
    return _REASONS.get(model_type, {}).get(stage, "")
