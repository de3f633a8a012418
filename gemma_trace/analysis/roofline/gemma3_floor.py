"""What a stage of Gemma 3 has to compute and to read, from the model's configuration alone.

For traces whose ops tell no shapes: replays of a graph, compiled stages, captures without shapes. It counts what no
implementation can leave out: the matrix products (two FLOPs a multiply-add), each parameter read once a forward, and
in decode the cache of keys and values read once a token. Causal attention counts the pairs that the mask lets through,
sliding layers those within the window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from gemma_trace.analysis.roofline.tensors import ITEM_BYTES
from gemma_trace.analysis.timeline import Request, ranges_in
from gemma_trace.gemma3_shapes import (
    GLOBAL_EVERY,
    IMAGE_SIZE,
    PATCH_SIZE,
    SHAPES,
    SIGLIP,
    SLIDING_WINDOW,
    TINY,
    TINY_SIGLIP,
    TOKENS_PER_IMAGE,
    TextShape,
    VisionShape,
)
from gemma_trace.metadata import RunMetadata
from gemma_trace.stages import Stage
from gemma_trace.trace.trace import Trace

PATCHES: Final = (IMAGE_SIZE // PATCH_SIZE) ** 2
"""Of an image: 4096."""

_CHANNELS: Final = 3
_NAME: Final = re.compile(r"(?:gemma-3-)?(4b|12b|27b)(?:-it|-pt)?")


@dataclass(frozen=True)
class ModelWork:
    """The least work of a stage, in parts that each have roofs of their own.

    Attributes:
        parts: pairs of FLOPs and bytes.
        dtype: of weights and activations.
        forwards: how often the stage's parameters are read.
    """

    parts: tuple[tuple[float, float], ...]
    dtype: str
    forwards: int

    @property
    def flops(self) -> float:
        """FLOPs of all parts of the model."""
        return sum(flops for flops, _ in self.parts)

    @property
    def bytes(self) -> float:
        """Bytes of all parts of the model."""
        return sum(moved for _, moved in self.parts)


@dataclass(frozen=True)
class _Model:
    """A Gemma 3 as it was run.

    Attributes:
        item: bytes of an element.
        images: of one request, all prompts together.
        prompts: in one request.
        chunk: tokens of a forward of the prefill; None is all at once.
    """

    text: TextShape
    vision: VisionShape
    dtype: str
    item: int
    images: int
    prompts: int
    chunk: int | None


def model_work(trace: Trace, request: Request, stage: str) -> ModelWork | None:
    """The work of a stage of this request.

    Returns:
        None where the trace isn't a capture of Gemma 3, or the stage isn't one of the model's.
    """
    metadata = trace.metadata
    model = _model_of(metadata) if metadata else None
    tokens = _prompt_tokens(metadata, request) if metadata else None
    if model is None or tokens is None:
        return None
    if stage == Stage.VISION_TOWER:
        return _vision_tower(model)
    if stage == Stage.PROJECTOR:
        return _projector(model)
    if stage == Stage.PREFILL:
        return _prefill(model, tokens)
    if stage == Stage.DECODE:
        return _decode(model, tokens, _decode_steps(trace, request))
    return None


def _model_of(metadata: RunMetadata) -> _Model | None:
    """The model that a capture ran; None for any other than Gemma 3."""
    name, options = metadata.run.model, metadata.config
    matched = _NAME.fullmatch(name)
    if (matched is None and name != "tiny") or metadata.run.dtype not in ITEM_BYTES:
        return None
    prompts, images, chunk = (options.get(key) for key in ("batch", "images_per_request", "prefill_chunk"))
    batch = prompts if isinstance(prompts, int) else 1
    return _Model(
        text=SHAPES[matched[1]] if matched else TINY,
        vision=SIGLIP if matched else TINY_SIGLIP,
        dtype=metadata.run.dtype,
        item=ITEM_BYTES[metadata.run.dtype],
        images=batch * (images if isinstance(images, int) else 1),
        prompts=batch,
        chunk=chunk if isinstance(chunk, int) else None,
    )


def _prompt_tokens(metadata: RunMetadata, request: Request) -> int | None:
    """Tokens of one prompt of this request, those of its images included."""
    by_image = dict(zip(metadata.workload.images, metadata.workload.prompt_tokens, strict=False))
    images = metadata.profiled_images
    return by_image.get(images[request.index]) if request.index < len(images) else None


def _decode_steps(trace: Trace, request: Request) -> int:
    decode = list(Stage).index(Stage.DECODE)
    return int(np.sum(trace.stage_range[ranges_in(trace, request)] == decode))


def _vision_tower(model: _Model) -> ModelWork:
    """Patches, then per layer query, key, value and output, attention of all patches to all, and the MLP."""
    shape, count = model.vision, model.images
    embedding = shape.hidden * _CHANNELS * PATCH_SIZE**2
    layer = 4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate
    products = 2 * count * PATCHES * layer + 4 * count * PATCHES**2 * shape.hidden
    pixels = count * _CHANNELS * IMAGE_SIZE**2
    patches = (2 * count * PATCHES * embedding, (embedding + pixels) * model.item)
    return ModelWork((patches, *[(products, layer * model.item)] * shape.layers), model.dtype, 1)


def _projector(model: _Model) -> ModelWork:
    weights = model.vision.hidden * model.text.hidden
    flops = 2 * model.images * TOKENS_PER_IMAGE * weights
    return ModelWork(((flops, weights * model.item),), model.dtype, 1)


def _prefill(model: _Model, tokens: int) -> ModelWork:
    """All tokens through all layers, and the last one's logits. A chunk reads all parameters again."""
    chunk = model.chunk or tokens
    starts = range(0, tokens, chunk)
    layers = [part for start in starts for part in _layers(model, start, min(start + chunk, tokens), reads_cache=False)]
    return ModelWork((*layers, _logits(model)), model.dtype, ceil(tokens / chunk))


def _decode(model: _Model, tokens: int, steps: int) -> ModelWork | None:
    """One token per step: all parameters, and the cache of all tokens before."""
    if not steps:
        return None
    parts = []
    for step in range(steps):
        parts += [*_layers(model, tokens + step, tokens + step + 1, reads_cache=True), _logits(model)]
    return ModelWork(tuple(parts), model.dtype, steps)


def _layers(model: _Model, start: int, end: int, *, reads_cache: bool) -> list[tuple[float, float]]:
    """Each layer's FLOPs and bytes for the tokens from `start` to `end` of every prompt."""
    shape = model.text
    width, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    weights = shape.hidden * (2 * width + 2 * keys) + 3 * shape.hidden * shape.intermediate
    parts = []
    for layer in range(1, shape.layers + 1):
        window = end if layer % GLOBAL_EVERY == 0 else SLIDING_WINDOW
        pairs = sum(min(place + 1, window) for place in range(start, end))
        flops = 2 * (end - start) * weights + 4 * pairs * width
        cache = 2 * keys * min(start, window) * model.prompts if reads_cache else 0
        parts.append((float(model.prompts * flops), float((weights + cache) * model.item)))
    return parts


def _logits(model: _Model) -> tuple[float, float]:
    weights = model.text.hidden * model.text.vocabulary
    return float(2 * model.prompts * weights), float(weights * model.item)
