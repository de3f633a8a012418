"""Matrix products whose sizes or strides keep them from kernels that load 16 bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_UNALIGNED: Final = r"align[12](?![0-9])"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.named(_UNALIGNED, case.trace.is_activity)
    if not case.total_ns(spans):
        return
    products = case.of_families("gemm") & case.trace.is_activity
    where = case.where(spans)
    yield Candidate(
        change=(
            "Pad the sizes of these matrix products (tokens, channels, vocabulary) to multiples of 8, and keep "
            "their operands contiguous, so that kernels with aligned loads can be used."
        ),
        where=where,
        evidence=(
            f"{case.count(spans)} products on align1 or align2 kernels take {case.share(spans, products | spans)} of "
            "all matrix products"
        ),
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


RULE: Final = Rule(
    "unaligned_gemm",
    "NVIDIA, Matrix Multiplication Background User's Guide: tensor core requirements",
    _look,
    looks_for="kernels called align1 or align2",
    leaves="nothing of them",
)
