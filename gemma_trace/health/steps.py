"""Findings about the steps of torch.profiler's schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.analysis.timeline import is_step_name
from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.trace import Trace

SLOW_FIRST_STEP: Final = 2.0
"""A first step over this many times the median of the others was no warmed-up one."""

UNEVEN_STEPS: Final = 1.5
"""Steps of which the longest is over this many times the shortest are no steady state."""


def step_findings(trace: Trace) -> Iterator[Finding]:
    """Steps that are no steady state."""
    spans = trace.spans
    is_step = np.array([is_step_name(name) for name in spans.names], dtype=bool)
    lengths = spans.dur_ns[is_step[spans.name] & trace.is_annotation]
    if len(lengths) < 3:
        return
    first, others = lengths[0], lengths[1:]
    usual = max(1.0, float(np.median(others)))
    if first > SLOW_FIRST_STEP * usual:
        yield Finding(
            "slow_first_step",
            Severity.WARNING,
            1,
            f"the first step took {first / usual:.1f} times the median of the others, as if there was no warm-up",
            "run some steps before the profiler starts (schedule(wait=…, warmup=…))",
        )
    elif lengths.max() > UNEVEN_STEPS * max(1, lengths.min()):
        yield Finding(
            "uneven_steps",
            Severity.WARNING,
            len(lengths),
            f"the longest of {len(lengths)} steps took {lengths.max() / max(1, lengths.min()):.1f} times the shortest",
            "look at steps one by one (--request N) before you trust a mean",
        )
