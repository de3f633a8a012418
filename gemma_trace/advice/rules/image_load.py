"""Reading and decoding images while the request waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.in_stage(Stage.IMAGE_LOAD) & case.trace.on_host
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Read and decode images before the request needs them: in a thread of their own, from a cache, or with "
            "torchvision.io.decode_image instead of Pillow."
        ),
        where=Stage.IMAGE_LOAD,
        evidence=f"loading images takes {case.each_ms(spans):,.3f} ms of the request's thread",
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


RULE: Final = Rule(
    "image_load",
    "torchvision documentation, Decoding / Encoding images",
    _look,
    looks_for="the stage `image_load`",
    leaves="nothing of it",
)
