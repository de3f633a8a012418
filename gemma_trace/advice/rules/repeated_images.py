"""Images that were encoded before: their features could have been kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage

LEAST_SHARE: Final = 0.1
"""Where the vision tower takes a smaller share of the requests, it isn't asked which images they had."""

_STAGES: Final = (Stage.VISION_TOWER, Stage.PROJECTOR)


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    encoding = case.in_stage(*_STAGES)
    if case.total_ns(encoding) <= LEAST_SHARE * case.wall_ns:
        return
    metadata = case.metadata
    if metadata is None or (metadata.config.get("requests") and not metadata.workload.image_numbers):
        if len(case.trace.requests) == 1:  # one request seldom has an image twice
            return
        yield Lacking(
            f"which images the requests had was not recorded; encoding them takes {case.each_ms(encoding):,.3f} ms",
            "requests with their images: gemma-trace capture --requests FILE",
        )
        return
    if not metadata.config.get("requests"):  # a capture's own images come round again, as they are meant to
        return
    shares = _shares(case)
    again = sum(share < 1 for share in shares.values())
    left = case.by_request(shares)
    spans = encoding & (left < 1)
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Encode each image once: keep its features by the image's hash (get_image_features before generate), or "
            "serve with a cache of them (vLLM's multi-modal processor and encoder cache)."
        ),
        where=case.where(spans),
        evidence=(
            f"{again} of {len(case.requests)} requests have images that an earlier request had, or the same image "
            f"twice; encoding "
            f"takes {case.each_ms(encoding):,.3f} ms"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
        left=left,
    )


def _shares(case: Case) -> dict[int, float]:
    """By the index which share of its images no request of the trace had before."""
    assert case.metadata is not None
    labels, numbers = case.metadata.workload.images, case.metadata.workload.image_numbers
    of_label = dict(zip(labels, numbers, strict=False))
    seen: set[int] = set()
    shares = {}
    for index, label in enumerate(case.metadata.profiled_images):
        images = of_label.get(label, ())
        if images:
            shares[index] = len(set(images) - seen) / len(images)
        seen.update(images)
    return {request.index: shares[request.index] for request in case.requests if request.index in shares}


RULE: Final = Rule(
    "repeated_images",
    "vLLM documentation, multi-modal inputs: caching of processed and encoded images",
    _look,
    looks_for="captures of `--requests` say which images were sent before",
    leaves="nothing of their encoding",
)
