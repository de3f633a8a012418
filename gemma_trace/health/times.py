"""Findings about times that can't be: spans far from all others, activities that run over later ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.plausible import LEAST_OVERLAP_NS, overlaps
from gemma_trace.trace.trace import Trace

LONGEST_NAME: Final = 60
"""Kernel names in messages are cut here."""


def time_findings(trace: Trace) -> Iterator[Finding]:
    """What was left out or cut since its times can't be, and what overlaps though it shouldn't."""
    implausible = trace.implausible
    if count := implausible.displaced:
        yield Finding(
            "displaced_spans",
            Severity.ERROR,
            count,
            f"spans at time zero, or over a year long or away from all others: {count:,}, of them "
            f"{implausible.displaced_activities:,} device activities; no figure includes them",
            "the profiler lost their times, so no figure includes their work; capture again with a newer torch or "
            "driver",
        )
    if overlong := implausible.overlong:
        worst = overlong[0]
        over, overlap_ns = sum(each.over for each in overlong), sum(each.overlap_ns for each in overlong)
        yield Finding(
            "impossible_durations",
            Severity.WARNING,
            len(overlong),
            f"device activities that are recorded as longer than they can be: {len(overlong):,}, by "
            f"{overlap_ns / 1e6:.3f} ms into {over:,} later ones of their stream. The longest, "
            f"{span_text(trace, worst.span)}, is recorded with {worst.recorded_ns / 1e6:,.3f} ms and counts "
            f"{worst.counted_ns / 1e6:,.3f} ms",
            "all figures use the shortened lengths, which end where the next activity starts or where a call that "
            "waited for this one ends",
        )
    covered = overlaps(trace.spans, trace.activities)
    covered_ns = int(covered.covered_ns.sum())
    if covered_ns >= LEAST_OVERLAP_NS:
        count = int((covered.covered_ns > 0).sum())
        worst_span = int(trace.activities[int(np.argmax(covered.over))])
        yield Finding(
            "overlaps_on_a_stream",
            Severity.WARNING,
            count,
            f"device activities that an earlier one of their stream runs over: {count:,}, by {covered_ns / 1e6:.3f} ms "
            f"together; most of them by {span_text(trace, worst_span)} of {trace.spans.dur_ns[worst_span] / 1e6:,.3f} "
            f"ms ({int(covered.over.max()):,})",
            "sums count the overlap twice; the busy columns do not",
        )


def span_text(trace: Trace, span: int) -> str:
    """A span's name, short enough for a message."""
    name = " ".join(trace.spans.names[trace.spans.name[span]].split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
