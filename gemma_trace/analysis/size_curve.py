"""How the parts of TTFT grow with the images' pixels and the prompts' tokens, over runs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.run_settings import Settings, told_apart
from gemma_trace.analysis.statistics import Distribution, distribution_ms
from gemma_trace.analysis.summary import RequestMeasures
from gemma_trace.stages import Stage

FEWEST_SIZES: Final = 3
LEAST_RATIO: Final = 2.0
"""A curve has so many sizes at least, of which the largest is at least so many times the smallest."""


@dataclass(frozen=True)
class SizedRun:
    """What a curve takes of a run."""

    settings: Settings
    requests: tuple[RequestMeasures, ...]


@dataclass(frozen=True)
class SizePoint:
    """The requests of one size.

    Attributes:
        series: what tells their runs from those of the other series.
        images: of a prompt; with `image_pixels` of all of them together.
        requests: how many there are.
        preprocessing_ms: the whole processor call; `image_processing_ms` is a part of it.
        encoder_ms: vision tower and projector.
    """

    series: str
    images: int
    image_pixels: int
    prompt_tokens: int
    requests: int
    image_load_ms: Distribution | None
    preprocessing_ms: Distribution | None
    image_processing_ms: Distribution | None
    encoder_ms: Distribution | None
    prefill_ms: Distribution | None
    ttft_ms: Distribution | None


def size_curve(runs: Sequence[SizedRun]) -> list[SizePoint]:
    """The points of all series that have enough sizes, by series and size; empty where there is none."""
    by_series: dict[Settings, list[RequestMeasures]] = {}
    for run in runs:
        known = [request for request in run.requests if request.prompt_tokens is not None]
        by_series.setdefault(run.settings, []).extend(known)
    names = told_apart(list(by_series))
    points: list[SizePoint] = []
    for (_, requests), name in zip(by_series.items(), names, strict=True):
        series = _points(name, requests)
        points += series if _is_curve(series) else []
    return points


def ms_per_megapixel(points: Sequence[SizePoint]) -> float | None:
    """By how much preprocessing grows with a megapixel: the slope of least squares through the medians of one series.

    Returns:
        None for fewer than three sizes of images.
    """
    known = [(point.image_pixels / 1e6, point.preprocessing_ms.median) for point in points if point.preprocessing_ms]
    megapixels = np.array([size for size, _ in known])
    if len(set(megapixels.tolist())) < FEWEST_SIZES:
        return None
    spread = megapixels - megapixels.mean()
    return float((spread * np.array([ms for _, ms in known])).sum() / (spread**2).sum())


def _points(series: str, requests: Sequence[RequestMeasures]) -> list[SizePoint]:
    sizes: dict[tuple[int, int, int], list[RequestMeasures]] = {}
    for request in requests:
        size = (sum(request.image_pixels), request.prompt_tokens or 0, len(request.image_pixels))
        sizes.setdefault(size, []).append(request)
    return [_point(series, size, sizes[size]) for size in sorted(sizes)]


def _point(series: str, size: tuple[int, int, int], requests: Sequence[RequestMeasures]) -> SizePoint:
    pixels, tokens, images = size

    def over(of: Callable[[RequestMeasures], int | None]) -> Distribution | None:
        return distribution_ms([value for request in requests if (value := of(request)) is not None])

    def of_stage(stage: Stage) -> Distribution | None:
        return over(lambda request: request.stages_ns.get(stage.value))

    return SizePoint(
        series=series,
        images=images,
        image_pixels=pixels,
        prompt_tokens=tokens,
        requests=len(requests),
        image_load_ms=of_stage(Stage.IMAGE_LOAD),
        preprocessing_ms=over(lambda request: request.preprocessing_ns),
        image_processing_ms=of_stage(Stage.IMAGE_PROCESSING),
        encoder_ms=over(_encoder_ns),
        prefill_ms=of_stage(Stage.PREFILL),
        ttft_ms=over(lambda request: request.ttft_ns),
    )


def _encoder_ns(request: RequestMeasures) -> int | None:
    parts = [request.stages_ns.get(stage.value) for stage in (Stage.VISION_TOWER, Stage.PROJECTOR)]
    return None if parts[0] is None else sum(part or 0 for part in parts)


def _is_curve(points: Sequence[SizePoint]) -> bool:
    if len(points) < FEWEST_SIZES:
        return False
    pixels = [point.image_pixels for point in points if point.image_pixels]
    tokens = [point.prompt_tokens for point in points if point.prompt_tokens]
    return any(values and max(values) >= LEAST_RATIO * min(values) for values in (pixels, tokens))
