"""Matrix products of float32 that a device with TF32 computes without its tensor cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

LEFT: Final = 1 / 8
"""What is left at most savings: the A100's TF32 rate is 156 TFLOP/s, its float32 rate 19.5 (NVIDIA A100 data sheet)."""

_WITHOUT: Final = r"(?i)(ampere|hopper|sm80|sm90|cutlass_80)\w*?(sgemm|simt_sgemm|simt)"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.named(_WITHOUT, case.trace.is_activity)
    if not case.total_ns(spans):
        return
    products = case.of_families("gemm") & case.trace.is_activity
    yield Candidate(
        change='Let float32 products use tensor cores: torch.set_float32_matmul_precision("high").',
        where=case.where(spans),
        evidence=(
            f"{case.count(spans)} products on kernels without tensor cores (sgemm, simt) take "
            f"{case.share(spans, products | spans)} of all matrix products"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
        left=LEFT,
    )


RULE: Final = Rule(
    "tf32_off",
    "PyTorch documentation, CUDA semantics: TensorFloat-32 on Ampere",
    _look,
    looks_for="kernels called sgemm or simt on devices that have TF32",
    leaves="1/8 of them",
)
