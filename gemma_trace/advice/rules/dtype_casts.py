"""Tensors that are cast from one type to another around the ops that use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule

_FEWEST: Final = 8
"""Fewer casts in a request are no pattern."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    ops = case.named(r"^aten::_to_copy$", trace.is_op) & case.in_requests
    if int(ops.sum()) < _FEWEST * len(case.requests):
        return
    moves = case.of_families("memcpy HtoD", "memcpy DtoH", "memcpy PtoP")
    spans = case.within(ops) & trace.is_activity & ~moves if case.on_device else case.within(ops)
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Keep activations in one type: load weights and inputs in it, and take .float() and .to(dtype) out of the "
            "layers."
        ),
        where=case.where(spans),
        evidence=f"{case.count(ops)} casts take {case.each_ms(spans):,.3f} ms",
        spans=spans,
        confidence=Confidence.LOW,
        check=AGAIN,
    )


RULE: Final = Rule(
    "dtype_casts",
    "PyTorch Performance Tuning Guide: mixed precision",
    _look,
    looks_for="8 casts a request or more",
    leaves="nothing of them",
)
