"""An image processor that takes a good part of the request on the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage

_PILLOW: Final = r"image_processing_pil_\w+\.py\(\d+\): "
"""Frames of processors on Pillow, as transformers 5 names their files."""
_UNNAMED: Final = r"image_processing_(?!utils|base)(?!\w*_fast)\w+\.py\(\d+\): (preprocess|__call__)"
"""What they are called in transformers 4, and what those on torchvision are called in 5."""
_OF_FIVE: Final = r"image_processing_backends\.py\(\d+\): "


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.in_stage(Stage.IMAGE_PROCESSING) & case.trace.on_host
    if not case.total_ns(spans):
        return
    backend = case.metadata.run.image_backend if case.metadata else ""
    is_slow = backend == "pil" or (not backend and _has_pillow_frames(case))
    on_cuda = case.metadata is None or case.metadata.run.device == "cuda"
    images = f"image processing takes {case.each_ms(spans):,.3f} ms of the host"
    if is_slow:
        yield Candidate(
            change=(
                'Use the image processor on torchvision: from_pretrained(…, backend="torchvision"), before '
                "transformers 5 use_fast=True (gemma-trace capture --image-backend torchvision)."
            ),
            where=Stage.IMAGE_PROCESSING,
            evidence=f"{images}, with the processor on Pillow and numpy",
            spans=spans,
            confidence=Confidence.HIGH,
            check=case.check("image_backend", "torchvision"),
        )
    elif on_cuda and case.on_device and (case.metadata is None or not case.metadata.config.get("image_device")):
        yield Candidate(
            change=(
                "Process images on the device, as uint8 until they are there: processor(…, device='cuda') "
                "(gemma-trace capture --image-device cuda)."
            ),
            where=Stage.IMAGE_PROCESSING,
            evidence=images,
            spans=spans,
            confidence=Confidence.MEDIUM,
            check=case.check("image_device", "cuda", before="cpu"),
        )


def _has_pillow_frames(case: Case) -> bool:
    """Whether Python's frames are of a processor on Pillow."""
    pillow, unnamed, of_five = (
        case.named(pattern, case.trace.on_host).any() for pattern in (_PILLOW, _UNNAMED, _OF_FIVE)
    )
    return bool(pillow or (unnamed and not of_five))


RULE: Final = Rule(
    "image_processor",
    "transformers documentation, Image processors: fast image processors",
    _look,
    looks_for="the stage `image_processing`: with Pillow, or on the host of a GPU",
    leaves="nothing of it",
)
