"""The stage vocabulary: the contract between a capture and the analysis of its trace.

A range's name is `gemma_trace::<stage>`. Requests nest stages; stages nest layers
(`gemma_trace::layer::<module path>`), and, on request, modules (`gemma_trace::module::<module path>`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

PREFIX: Final = "gemma_trace::"
LAYER_PREFIX: Final = PREFIX + "layer::"
MODULE_PREFIX: Final = PREFIX + "module::"


class Stage(StrEnum):
    """A part of a request, in the order in which a request goes through them."""

    REQUEST = "request"
    """One prompt, from the messages in hand to the last token on the host. The root."""
    IMAGE_LOAD = "image_load"
    """Reading and decoding the image file. Outside TTFT."""
    PREPROCESSING = "preprocessing"
    """The whole processor call."""
    CHAT_TEMPLATE = "chat_template"
    """Messages to prompt text. Inside preprocessing."""
    IMAGE_PROCESSING = "image_processing"
    """Image to pixel values. Inside preprocessing."""
    TOKENIZATION = "tokenization"
    """Prompt text to token ids. Inside preprocessing."""
    TRANSFER = "transfer"
    """The inputs to the device."""
    VISION_TOWER = "vision_tower"
    """The image encoder."""
    PROJECTOR = "projector"
    """The multimodal projector."""
    PREFILL = "prefill"
    """The text model's first forward, without the encoder."""
    SAMPLING = "sampling"
    """Logits to a token id, and that id on the host."""
    DECODE = "decode"
    """One later forward each."""
    UNATTRIBUTED = "unattributed"
    """The rest of the request. Never a range; never hidden, never negative."""

    @property
    def range_name(self) -> str:
        """The name of this stage's ranges in a trace.

        >>> Stage.PREFILL.range_name
        'gemma_trace::prefill'
        """
        return PREFIX + self.value


PREPROCESSING_PARTS: Final = (Stage.CHAT_TEMPLATE, Stage.IMAGE_PROCESSING, Stage.TOKENIZATION)
"""The stages that nest in `preprocessing`."""

DEVICE_STAGES: Final = (
    Stage.TRANSFER,
    Stage.VISION_TOWER,
    Stage.PROJECTOR,
    Stage.PREFILL,
    Stage.SAMPLING,
    Stage.DECODE,
)
"""The stages that give the device work: on a GPU their time is read off the device's clock."""

_BY_RANGE_NAME: Final = {stage.range_name: stage for stage in Stage if stage is not Stage.UNATTRIBUTED}


def stage_of_range(name: str) -> Stage | None:
    """The stage that a range of this name marks; None for any other name.

    >>> stage_of_range("gemma_trace::vision_tower")
    <Stage.VISION_TOWER: 'vision_tower'>
    >>> stage_of_range("gemma_trace::layer::model.language_model.layers.0") is None
    True
    """
    return _BY_RANGE_NAME.get(name)
