"""All findings of a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from gemma_trace.arguments import checked
from gemma_trace.health.capture import capture_findings
from gemma_trace.health.clocks import clock_findings
from gemma_trace.health.correlation import correlation_findings
from gemma_trace.health.file import file_findings
from gemma_trace.health.findings import Finding, Health
from gemma_trace.health.foreign import foreign_findings
from gemma_trace.health.launches import launch_findings
from gemma_trace.health.links import link_findings
from gemma_trace.health.overhead import overhead_findings
from gemma_trace.health.rules import rule_findings
from gemma_trace.health.steps import step_findings
from gemma_trace.health.threads import interleaving_findings, thread_findings
from gemma_trace.health.times import time_findings
from gemma_trace.health.viewers import viewer_findings
from gemma_trace.trace.trace import Trace

_CHECKS: Final[tuple[Callable[[Trace], Iterator[Finding]], ...]] = (
    file_findings,
    foreign_findings,
    link_findings,
    correlation_findings,
    thread_findings,
    interleaving_findings,
    launch_findings,
    time_findings,
    clock_findings,
    step_findings,
    overhead_findings,
    viewer_findings,
    capture_findings,
    rule_findings,
)


@checked
def examine(trace: Trace) -> Health:
    """Find what is wrong with a trace."""
    return Health().plus(finding for check in _CHECKS for finding in check(trace))
