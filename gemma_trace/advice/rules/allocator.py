"""Memory that is taken from the driver, or given back to it, within the requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import AGAIN, Candidate, Lacking, Rule

_CALLS: Final = r"^(cuda|hip)(Malloc(Async|Host|Managed)?|Free(Async|Host)?|HostAlloc|HostRegister)$"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.named(_CALLS, case.trace.is_call) & case.in_requests
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Keep the allocator's memory: warm up with the largest shapes, avoid torch.cuda.empty_cache(), and set "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(spans)} calls such as cudaMalloc and cudaFree take {case.each_ms(spans):,.3f} ms of the host"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
    )


RULE: Final = Rule(
    "allocator",
    "PyTorch documentation, CUDA semantics: memory management",
    _look,
)
