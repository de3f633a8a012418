"""The health of a run: what is wrong with its trace, and how far the profiler distorted it."""

from __future__ import annotations

from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Health
from gemma_trace.trace.trace import Trace


def run_health(trace: Trace) -> Health:
    """All findings about a trace, as `RunSummary.health` has them.

    Of a capture of ours the timed pass tells how much the profiler slowed it down; of other traces there is nothing
    to add to what is wrong with them, so they aren't summed up.
    """
    if trace.metadata is None:
        return examine(trace)
    from gemma_trace.analysis.summary import summarize  # and much that nothing else of a kernel table needs

    return summarize(trace).health
