"""Findings about what viewers make of a trace."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace import columns
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest


def viewer_findings(trace: Trace) -> Iterator[Finding]:
    """What Perfetto doesn't show, or shows elsewhere."""
    dropped = _dropped_by_perfetto(trace)
    if dropped:
        yield Finding(
            "dropped_by_perfetto",
            Severity.INFO,
            dropped,
            f"slices that Perfetto up to v56 drops silently, because they cross another on their track: "
            f"about {dropped:,}",
            "the figures here include them, those of Perfetto do not",
        )
    negative = sum(track.tid.startswith("-") for track in trace.spans.tracks)
    if negative:
        yield Finding(
            "negative_thread_ids",
            Severity.INFO,
            negative,
            f"threads with a negative id, which Perfetto folds into others: {negative}",
            "do not rely on where Perfetto shows their spans",
        )


def _dropped_by_perfetto(trace: Trace) -> int:
    """How many slices cross another of their track once their times have been through a float64.

    Perfetto reads a time with a fraction as float64 microseconds and multiplies by 1000; at epoch times that is
    good to 256 ns only. Whole microseconds it reads exactly, and so it does relative times.
    """
    spans = trace.spans
    if not len(spans) or spans.ts_ns[-1] < 1000 * columns.EXACT_FLOAT_US or not (spans.ts_ns % 1000).any():
        elsewhere = np.ones(len(spans), dtype=bool)
        elsewhere[trace.host] = False
        rest = np.flatnonzero(elsewhere)
        return trace.nesting.clipped + nest(spans.ts_ns[rest], spans.ends_ns(rest), spans.track[rest]).clipped
    whole, fraction = np.divmod(spans.ts_ns, 1000)
    start = ((whole.astype(np.float64) + fraction / 1000) * 1000).astype(np.int64)
    order = np.lexsort((-spans.dur_ns, start))
    return nest(start[order], (start + spans.dur_ns)[order], spans.track[order]).clipped
