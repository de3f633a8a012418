"""Calls that wait for the device in the midst of a request, such as `.item()` in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage

FEWEST: Final = 4
"""Fewer waits in a request are no loop."""

_READS: Final = r"^aten::(item|_local_scalar_dense|is_nonzero|nonzero|equal)$"
_WAITS: Final = r"(?i)synchronize"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    if not case.on_device:
        return
    trace = case.trace
    reads = case.named(_READS, trace.is_op)
    inside = case.within(reads) if reads.any() else reads
    waits = (case.named(_WAITS, trace.is_call) | (inside & trace.is_call)) & case.in_requests
    waits &= ~case.in_stage(Stage.SAMPLING)
    calls = np.flatnonzero(waits)
    for request in case.requests:  # the last one has to be: without it the request would end before its work does
        in_request = calls[(trace.spans.ts_ns[calls] >= request.start_ns) & (trace.spans.ts_ns[calls] < request.end_ns)]
        waits[in_request[-1:]] = False
    if int(waits.sum()) < FEWEST * len(case.requests):
        return
    read = waits & inside
    yield Candidate(
        change=(
            "Keep values on the device until the end: no .item(), .cpu(), bool(tensor) or synchronize() within the "
            "model; torch.where instead of if."
        ),
        where=case.where(waits) if case.total_ns(waits) else "outside of all stages",
        evidence=(
            f"{case.count(waits)} calls wait for the device, {case.count(read)} of them to read a value; including "
            f"the wait they take {int(trace.spans.dur_ns[waits].sum()) / len(case.requests) / 1e6:,.3f} ms of "
            f"the host"
        ),
        spans=waits,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


RULE: Final = Rule(
    "host_sync",
    "PyTorch Performance Tuning Guide: avoid unnecessary CPU-GPU synchronization",
    _look,
    looks_for="4 calls a request or more that wait for the device, but for those of sampling and the last one",
    leaves="nothing of them: the host goes on",
)
