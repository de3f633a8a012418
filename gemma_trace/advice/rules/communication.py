"""Collectives that nothing else runs beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.of_families("communication") & case.trace.is_activity
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Run collectives beside computation: async_op=True, larger or earlier buckets (bucket_cap_mb), prefetching."
        ),
        where=case.where(spans),
        evidence=f"{case.count(spans)} collectives take {case.each_ms(spans):,.3f} ms of the device",
        spans=spans,
        confidence=Confidence.MEDIUM,
        check="record a trace with the change, then: gemma-trace ranks FOLDER",
        aside=True,
    )


RULE: Final = Rule(
    "communication",
    "PyTorch documentation, DistributedDataParallel: communication hooks and buckets",
    _look,
    looks_for="collectives",
    leaves="all, beside everything else",
)
