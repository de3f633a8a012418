"""First calls of their kind within the requests: code that is loaded, tuned or compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.cold import long_calls


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    calls = long_calls(case.trace)
    cold = np.zeros(len(case.trace.spans), dtype=bool)
    cold[calls.span[calls.cold]] = True
    cold &= case.in_requests
    if not cold.any():
        return
    spans = case.within(cold) & ~case.trace.is_activity
    if not case.total_ns(spans):
        return
    longest = int(np.flatnonzero(cold)[np.argmax(case.trace.spans.dur_ns[cold])])
    name = case.trace.spans.names[case.trace.spans.name[longest]][:60]
    yield Candidate(
        change=(
            "Run a few requests of the same shapes before those that count (gemma-trace capture --warmup 3), and keep "
            "compiled code between processes."
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(cold)} first calls of their kind take {case.each_ms(spans):,.3f} ms of the host, the longest "
            f"{case.trace.spans.dur_ns[longest] / 1e6:,.3f} ms in {name}"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
    )


RULE: Final = Rule(
    "cold_start",
    "PyTorch profiler documentation: schedule(wait, warmup, active); CUDA lazy loading",
    _look,
    looks_for="first calls of their kind, as the verdicts of stages have them",
    leaves="nothing of them",
)
