"""Copies to the device from memory that isn't pinned: the host waits for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_PAGEABLE: Final = r"(?i)^memcpy HtoD \(pageable"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    copies = case.named(_PAGEABLE, case.trace.is_activity)
    if not case.total_ns(copies):
        return
    calls = case.launching(copies)
    spans = copies | calls
    yield Candidate(
        change="Copy from pinned memory without waiting: tensor.pin_memory(), then .to(device, non_blocking=True).",
        where=case.where(copies),
        evidence=(
            f"{case.count(copies)} copies from pageable memory take {case.each_ms(copies):,.3f} ms of the device, "
            f"their calls {case.total_ns(calls) / len(case.requests) / 1e6:,.3f} ms of the host"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
    )


RULE: Final = Rule(
    "pageable_copies",
    "CUDA C++ Best Practices Guide: pinned memory; PyTorch tutorial, pin_memory() and non_blocking",
    _look,
    looks_for="copies to the device from pageable memory",
    leaves="nothing of them and of their calls",
)
