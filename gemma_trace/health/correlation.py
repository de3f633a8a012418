"""Findings about correlation ids that repeat."""

from __future__ import annotations

from collections.abc import Iterator

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.links import repeated_ids
from gemma_trace.trace.trace import Trace


def correlation_findings(trace: Trace) -> Iterator[Finding]:
    """Ids that stand for several launches."""
    processes, sessions = repeated_ids(trace.spans, trace.host)
    if processes:
        yield Finding(
            "correlation_in_processes",
            Severity.WARNING,
            processes,
            f"correlation ids with launches in two processes or more: {processes:,}, so that an activity counts for "
            "the latest launch before it in the process that its device belongs to",
            "read one file per rank, since a merged file doesn't tell their ids apart for certain",
        )
    if sessions:
        yield Finding(
            "correlation_in_sessions",
            Severity.INFO,
            sessions,
            f"correlation ids with several launches in one process: {sessions:,}, as of several profiler sessions, so "
            "that an activity counts for the latest launch before it",
            "to be certain, export each session to a file of its own",
        )
