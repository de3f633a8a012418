"""Images that are resized with antialiasing as floating-point numbers, not as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.trace.events import BoolArray
from gemma_trace.trace.places import distinct

_RESIZES: Final = r"^aten::_upsample_\w+2d_aa$"
_BYTES: Final = '"unsigned char"'

LEAST_SHARE: Final = 0.01
"""Where resizing takes a smaller share of the requests, its type isn't asked for."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace, spans = case.trace, case.trace.spans
    ops = case.named(_RESIZES, trace.is_op) & case.in_requests
    if not ops.any():
        return
    known = ops & (spans.input_types >= 0)
    if not known.any():
        if case.total_ns(case.within(ops)) > LEAST_SHARE * case.wall_ns:
            yield Lacking(
                "images are resized with antialiasing, and the types of inputs were not recorded",
                "the shapes of inputs: torch.profiler with record_shapes=True",
            )
        return
    floats = known & ~_of_bytes(case)
    resized = case.within(floats)
    if not floats.any() or not case.total_ns(resized):
        return
    yield Candidate(
        change=(
            "Resize images while they are uint8 (torchvision.transforms.v2.Resize before ToDtype), or with "
            "antialias=False if the model was trained that way."
        ),
        where=case.where(resized),
        evidence=f"{case.count(floats)} antialiased resizes of float images take {case.each_ms(resized):,.3f} ms",
        spans=resized,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


def _of_bytes(case: Case) -> BoolArray:
    """bool [n], the spans of which an input is of bytes."""
    spans = case.trace.spans
    used = distinct(spans.input_types[spans.input_types >= 0])
    by_code = np.zeros(len(spans.texts) + 1, dtype=bool)
    for code in used.tolist():
        by_code[code] = _BYTES in spans.texts[code]
    is_of_bytes: BoolArray = by_code[spans.input_types]
    return is_of_bytes


RULE: Final = Rule(
    "resize_antialias",
    "torchvision documentation, Transforms v2: performance considerations (uint8 resize)",
    _look,
    looks_for="antialiased resizes of floating-point images",
    leaves="nothing of them",
)
