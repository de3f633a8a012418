"""Findings about the device's own timeline."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.trace import Trace


def device_findings(trace: Trace) -> Iterator[Finding]:
    """Activities of one stream run one after the other; where they overlap, something is recorded wrongly."""
    spans = trace.spans
    order = trace.activities[np.argsort(spans.track[trace.activities], kind="stable")]
    start, end, track = spans.ts_ns[order], spans.end_ns[order], spans.track[order]
    if len(order) < 2:
        return
    overlap = (track[1:] == track[:-1]) & (start[1:] < end[:-1])
    if overlap.any():
        ns = int((np.minimum(end[:-1], end[1:]) - start[1:])[overlap].sum())
        yield Finding(
            "overlaps_on_a_stream",
            Severity.WARNING,
            int(overlap.sum()),
            f"device activities that overlap the one before on their stream: {int(overlap.sum()):,}, "
            f"by {ns / 1e6:.3f} ms together",
            "sums count the overlap twice; the busy columns don't",
        )
