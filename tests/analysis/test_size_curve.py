from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace.analysis.run_settings import told_apart
from gemma_trace.analysis.size_curve import SizedRun, ms_per_megapixel, size_curve
from gemma_trace.analysis.summary import RequestMeasures
from tests.analysis.test_summary import metadata, run_of, sample

MS = 1_000_000
PIL, TORCHVISION = (("image_backend", "pil"),), (("image_backend", "torchvision"),)


def request(megapixels: float, processing_ms: int, tokens: int = 300, ttft_ms: int = 900) -> RequestMeasures:
    """A request of one image: template 2 ms, image processing as given, tower 500, projector 5, prefill 60."""
    stages = {"image_load": 7, "chat_template": 2, "image_processing": processing_ms, "preprocessing": 1}
    stages |= {"vision_tower": 500, "projector": 5, "prefill": 60}
    return RequestMeasures(
        ttft_ns=ttft_ms * MS,
        stages_ns={name: ms * MS for name, ms in stages.items()},
        unattributed_ns=0,
        tpot_ns=None,
        prompt_tokens=tokens,
        image_pixels=(round(megapixels * 1_000_000),),
    )


def test_requests_of_a_size_are_a_point_whichever_run_they_are_of() -> None:
    small, large = SizedRun(PIL, (request(1, 10), request(4, 40))), SizedRun(PIL, (request(8, 80), request(1, 14)))
    points = size_curve([small, large])
    assert [(point.image_pixels / 1e6, point.requests) for point in points] == [(1, 2), (4, 1), (8, 1)]
    first = points[0]
    assert (first.series, first.images, first.prompt_tokens) == ("pil", 1, 300)
    medians = {
        name: getattr(first, f"{name}_ms").median
        for name in ("ttft", "image_load", "preprocessing", "image_processing", "encoder", "prefill")
    }
    assert medians == {
        "ttft": 900,
        "image_load": 7,
        "preprocessing": 15,  # 12, the median of 10 and 14, with template and the rest
        "image_processing": 12,
        "encoder": 505,
        "prefill": 60,
    }
    assert ms_per_megapixel(points) == pytest.approx(  # means: 13/3 MP; (15 + 43 + 83) / 3 = 47 ms
        ((1 - 13 / 3) * (15 - 47) + (4 - 13 / 3) * (43 - 47) + (8 - 13 / 3) * (83 - 47))
        / ((1 - 13 / 3) ** 2 + (4 - 13 / 3) ** 2 + (8 - 13 / 3) ** 2)
    )


def test_what_was_run_in_another_way_is_another_series() -> None:
    runs = [SizedRun(way, tuple(request(size, 9) for size in (1, 2, 3))) for way in (PIL, TORCHVISION)]
    assert [point.series for point in size_curve(runs)] == ["pil"] * 3 + ["torchvision"] * 3
    assert told_apart([(("batch", "1"), *PIL), (("batch", "2"), *PIL)]) == ["batch 1", "batch 2"]


def test_sizes_that_hardly_differ_are_no_curve() -> None:
    for requests in (
        [request(1, 9), request(9, 9)],
        [request(1, 9), request(1.5, 9), request(1.9, 9)],
        [request(1, 9)] * 3,
    ):
        assert size_curve([SizedRun(PIL, tuple(requests))]) == []
    by_tokens = [request(1, 9, tokens) for tokens in (300, 400, 600)]
    assert [point.prompt_tokens for point in size_curve([SizedRun(PIL, tuple(by_tokens))])] == [300, 400, 600]
    assert ms_per_megapixel(size_curve([SizedRun(PIL, tuple(by_tokens))])) is None


def test_a_trace_tells_its_settings_and_the_sizes_of_its_requests(tmp_path: Path) -> None:
    sent = replace(sample(90, 9), prompt_tokens=314, image_pixels=(10, 20))
    described = metadata([sent], prompt="Hi", attn="eager", runs=3)
    run = run_of(described, tmp_path)
    assert run.settings == (("attn", "eager"), ("model", "27b"), ("weights", "random"))
    (found,) = run.requests
    assert (found.name, found.prompt_tokens, found.image_pixels, found.tokens) == ("a", 314, (10, 20), 3)
