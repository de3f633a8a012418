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
            f"spans at time zero, or over a year long or away from all others, which no figure includes: {count:,}, of "
            f"them {implausible.displaced_activities:,} device activities",
            "the profiler lost their times: capture again with a newer torch or driver",
        )
    if overlong := implausible.overlong:
        worst = overlong[0]
        over, overlap_ns = sum(each.over for each in overlong), sum(each.overlap_ns for each in overlong)
        yield Finding(
            "impossible_durations",
            Severity.WARNING,
            len(overlong),
            f"device activities of impossible recorded length: {len(overlong):,}, which run over {over:,} later ones "
            f"of their stream by {overlap_ns / 1e6:.3f} ms together (the longest: {span_text(trace, worst.span)} of "
            f"{worst.recorded_ns / 1e6:,.3f} ms, which counts {worst.counted_ns / 1e6:,.3f} ms)",
            "all figures use lengths that were cut where the next one starts, or a call that waited for it ends",
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
            f"together ({int(covered.over.max()):,} of them by {span_text(trace, worst_span)} of "
            f"{trace.spans.dur_ns[worst_span] / 1e6:,.3f} ms)",
            "use the busy columns, since sums count the overlap twice",
        )


def span_text(trace: Trace, span: int) -> str:
    """A span's name, short enough for a message."""
    name = " ".join(trace.spans.names[trace.spans.name[span]].split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
