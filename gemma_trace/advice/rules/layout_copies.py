"""Copies that only change how a tensor lies in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_CONTIGUOUS: Final = r"^aten::contiguous$"
_LAYOUT_KERNELS: Final = r"(?i)nchwToNhwc|nhwcToNchw"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    ops = case.named(_CONTIGUOUS, trace.is_op) & case.in_requests
    spans = case.within(ops) if ops.any() else ops
    kernels = case.named(_LAYOUT_KERNELS, trace.is_activity)
    spans = spans | kernels
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Keep one layout: model.to(memory_format=torch.channels_last) for convolutions, and reshape instead of "
            "permute(…).contiguous() where the next op takes strides."
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(ops)} calls of contiguous() and {case.count(kernels)} layout kernels take "
            f"{case.each_ms(spans):,.3f} ms"
        ),
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


RULE: Final = Rule(
    "layout_copies",
    "PyTorch tutorial, Channels Last Memory Format",
    _look,
    looks_for="`contiguous()`, and kernels that turn NCHW into NHWC",
    leaves="nothing of them",
)
