"""Which models of transformers have none of a stage's modules, and why; so that nobody looks for them."""

from __future__ import annotations

from typing import Final

_CROSS_ATTENTION: Final = "its decoder looks at what the encoder puts out, by attention"
_LOOKED_UP: Final = "the tokens of an image are looked up among those of the text"
_INSIDE: Final = "its vision tower puts out embeddings of the text model, by its last layer"
_WHOLE: Final = "its text layers are the model's own, so prefill and decode are the whole model's forwards"

_REASONS: Final[dict[str, dict[str, str]]] = {
    "apertus1p5": {"projector": _LOOKED_UP},
    "blip": {"projector": _CROSS_ATTENTION},
    "chameleon": {"projector": _LOOKED_UP},
    "emu3": {"projector": _LOOKED_UP},
    "evolla": {"vision": "it reads proteins and no images", "projector": "it reads proteins and no images"},
    "fuyu": {"vision": "patches of an image go through one layer, which is the projector"},
    "gemma4_unified": {"vision": "patches of an image go through one module, which is the projector"},
    "git": {"decoder": _WHOLE},
    "idefics": {"projector": _CROSS_ATTENTION},
    "inkling_mm_model": {"projector": _INSIDE},
    "mistral4": {"vision": "it reads text alone", "projector": "it reads text alone"},
    "pi0": {"decoder": "it puts out actions and no text"},
    "pix2struct": {"projector": _CROSS_ATTENTION},
    "udop": {
        "vision": "one encoder reads image and text together, as a part of the prefill",
        "projector": "one encoder reads image and text together, as a part of the prefill",
    },
    "vision-encoder-decoder": {"projector": _CROSS_ATTENTION},
    "whisper": {"vision": "it hears and sees nothing", "projector": _CROSS_ATTENTION},
}
"""By model type and stage. A test builds every registered model and compares."""


def reason_of_absence(model_type: str, stage: str) -> str:
    """Why models of this type have no `vision`, `projector` or `decoder`; "" where that isn't known.

    >>> reason_of_absence("gemma3", "vision")
    ''
    """
    return _REASONS.get(model_type, {}).get(stage, "")
