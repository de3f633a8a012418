"""Findings about launches: activities without one, outside of stages, or of graphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE
from gemma_trace.trace.trace import Trace

_GRAPH_LAUNCH: Final = re.compile(r"graph_?launch", re.IGNORECASE)


def link_findings(trace: Trace) -> Iterator[Finding]:
    """How far activities can be led back to the calls that launched them."""
    spans, activities = trace.spans, trace.activities
    total = max(1, int(spans.dur_ns[activities].sum()))
    unlinked = activities[trace.launch == NONE]
    if len(unlinked):
        share = 100 * int(spans.dur_ns[unlinked].sum()) / total
        yield Finding(
            "unlinked_activities",
            Severity.WARNING,
            len(unlinked),
            f"device activities without their launch in the trace: {len(unlinked):,} of {len(activities):,} "
            f"({share:.1f}% of device time), shown as the row unlinked",
            "start the profiler, or its warm-up, earlier",
        )
    linked = activities[trace.launch != NONE]
    launch = trace.launch[trace.launch != NONE]
    stages = trace.stage_at(launch)
    outside = linked[stages == UNATTRIBUTED_CODE]
    if len(outside) and (trace.stage_range != NONE).any():
        share = 100 * int(spans.dur_ns[outside].sum()) / total
        yield Finding(
            "launched_outside_stages",
            Severity.INFO,
            len(outside),
            f"device activities launched outside of all stages: {len(outside):,} ({share:.1f}% of device time), which "
            "count as unattributed",
            "name their ranges with --rule NAME=REGEX",
        )
    is_graph = np.array([bool(_GRAPH_LAUNCH.search(name)) for name in spans.names], dtype=bool)
    replayed = int(is_graph[spans.name[launch]].sum()) if len(launch) else 0
    if replayed:
        yield Finding(
            "graph_replays",
            Severity.INFO,
            replayed,
            f"device activities replayed by a graph: {replayed:,} of {len(activities):,}, each replay as a whole for "
            "the stage that launched it",
            "to see stages, layers and ops inside, capture without graphs (vLLM: enforce_eager)",
        )
