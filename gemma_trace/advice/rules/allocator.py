"""Memory that is taken from the driver, or given back to it, within the requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_CALLS: Final = r"^(cuda|hip)(Malloc(Async|Host|Managed)?|Free(Async|Host)?|HostAlloc|HostRegister)$"

NOTABLE_FRAGMENTS: Final = 0.2
"""A smaller share of what is reserved and never used is no fragmentation to speak of."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.named(_CALLS, case.trace.is_call) & case.in_requests
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Let the allocator keep its memory: warm up with the largest shapes, avoid torch.cuda.empty_cache(), "
            "and set "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(spans)} calls such as cudaMalloc and cudaFree take {case.each_ms(spans):,.3f} ms of the host"
            f"{_fragmentation(case)}"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
    )


def _fragmentation(case: Case) -> str:
    """What lies in pieces that nothing fits into, as far as memory was profiled; "" where that is little."""
    memory = case.trace.memory
    reserved, used = (
        int(column[memory.device >= 0].max(initial=0)) for column in (memory.reserved_bytes, memory.allocated_bytes)
    )
    if used >= (1 - NOTABLE_FRAGMENTS) * reserved:
        return ""
    return f"; of {reserved / 1e9:,.2f} GB reserved at most {used / 1e9:,.2f} are in use at once"


RULE: Final = Rule(
    "allocator",
    "PyTorch documentation, CUDA semantics: memory management",
    _look,
    looks_for="calls of cudaMalloc, cudaFree and their kin",
    leaves="nothing of them",
)
