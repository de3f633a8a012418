"""A data loader that prepares its batch while nothing else runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

LOADER: Final = r"^enumerate\(DataLoader\)#"
"""What torch.utils.data calls the ranges in which a batch is asked for."""
_WORKERS: Final = "MultiProcessing"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    loading = case.named(LOADER, case.trace.on_host)
    spans = case.within(loading) & ~case.trace.is_activity
    if not case.total_ns(spans):
        return
    has_workers = case.named(_WORKERS, loading).any()
    change = (
        "Give the DataLoader more workers or a larger prefetch_factor: its batches are not ready when they are needed."
        if has_workers
        else "Let the DataLoader prepare batches beside the model: num_workers=2 or more, persistent_workers=True, "
        "pin_memory=True."
    )
    yield Candidate(
        change=change,
        where="DataLoader",
        evidence=(
            f"{case.count(loading)} batches; the request's thread is in them for {case.each_ms(spans):,.3f} of "
            f"{case.wall_ns / len(case.requests) / 1e6:,.3f} ms"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
        aside=not has_workers,
    )


RULE: Final = Rule(
    "data_loader",
    "PyTorch documentation, torch.utils.data: multi-process data loading; Performance Tuning Guide",
    _look,
    looks_for="`enumerate(DataLoader)` on the request's thread",
    leaves="all, beside everything else; nothing where it has workers",
)
