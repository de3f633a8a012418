"""Gemma 3's shapes, by size: what a capture builds, and what the analysis counts a model's work from. Free of torch.

The shapes are those of the published configurations (google/gemma-3-4b-it, -12b-it, -27b-it on the Hugging Face Hub);
`tiny` is this project's own, the same architecture with small widths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IMAGE_SIZE: Final = 896
PATCH_SIZE: Final = 14
TOKENS_PER_IMAGE: Final = 256
SLIDING_WINDOW: Final = 1024
VOCABULARY_SIZE: Final = 262_208
GLOBAL_EVERY: Final = 6
"""One layer in so many attends to everything; the others to the sliding window."""


@dataclass(frozen=True)
class TextShape:
    """What tells the sizes of Gemma 3 apart; the vision tower is the same in all."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    query_pre_attn_scalar: int
    vocabulary: int = VOCABULARY_SIZE


@dataclass(frozen=True)
class VisionShape:
    """The SigLIP tower."""

    hidden: int
    layers: int
    heads: int
    intermediate: int


SHAPES: Final = {
    "4b": TextShape(2560, 34, 8, 4, 256, 10_240, 256),
    "12b": TextShape(3840, 48, 16, 8, 256, 15_360, 256),
    "27b": TextShape(5376, 62, 32, 16, 128, 21_504, 168),
}
"""The published sizes."""

SIGLIP: Final = VisionShape(1152, 27, 16, 4304)
"""The tower of all published sizes."""

TINY: Final = TextShape(128, 6, 4, 2, 32, 512, 32, 1024)
TINY_SIGLIP: Final = VisionShape(96, 4, 4, 256)
