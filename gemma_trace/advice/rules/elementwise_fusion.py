"""Chains of elementwise kernels, each of which reads and writes all of its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_FAMILIES: Final = ("elementwise", "normalization", "activation", "copy/cast")
_FEWEST: Final = 50
"""Fewer kernels in a request are no chain."""


_FUSED: Final = r"^triton_(poi|red|per|tem|for)_fused_"
"""What Inductor calls its kernels: where there are some, the model is compiled already."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    if case.named(_FUSED, case.trace.is_activity).any():
        return
    spans = case.of_families(*_FAMILIES) & case.trace.is_activity
    if int((spans & case.in_requests).sum()) < _FEWEST * len(case.requests) or not case.total_ns(spans):
        return
    where = case.where(spans)
    yield Candidate(
        change="Fuse elementwise ops: torch.compile(model) (gemma-trace capture --compile stages).",
        where=where,
        evidence=(
            f"{case.count(spans)} elementwise, normalization and copy kernels take "
            f"{case.share(spans, case.trace.is_activity)} of the device"
        ),
        spans=spans,
        confidence=Confidence.LOW,
        check=case.check("compile", "stages"),
    )


RULE: Final = Rule(
    "elementwise_fusion",
    "PyTorch Performance Tuning Guide: fuse operations",
    _look,
    looks_for="50 elementwise, normalization and copy kernels a request or more, and none of Inductor's",
    leaves="nothing of them",
)
