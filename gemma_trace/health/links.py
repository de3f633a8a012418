"""Findings about launches: activities without one, outside of stages, or of graphs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

_GRAPH_LAUNCH: Final = re.compile(r"graph_?launch", re.IGNORECASE)
_MOST_LABELS: Final = 3
_LABEL_LENGTH: Final = 60
"""How many labels a message shows, and how much of each."""


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
    stages = trace.activity_stage[trace.launch != NONE]
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
    by_graph = is_graph[spans.name[launch]] & (trace.labelled_stage[trace.launch != NONE] == NONE)
    replayed = int(by_graph.sum())
    if replayed:
        yield Finding(
            "graph_replays",
            Severity.INFO,
            replayed,
            f"device activities replayed by a graph: {replayed:,} of {len(activities):,}, each replay as a whole for "
            "the stage that launched it",
            "to see stages, layers and ops inside, capture without graphs (vLLM: enforce_eager), or label the stages "
            "in graphs of your own with torch.cuda.graph(enable_annotations=True)",
        )
    yield from _unknown_labels(trace)


def _unknown_labels(trace: Trace) -> Iterator[Finding]:
    """Labels of graph nodes that stand for no stage."""
    labels = trace.spans.node_label[trace.activities]
    unknown = labels[(labels != NONE) & (trace.labelled_stage == NONE)]
    if not len(unknown):
        return
    names = [trace.spans.names[code] for code in distinct(unknown).tolist()]
    more = f" and {len(names) - _MOST_LABELS:,} more" if len(names) > _MOST_LABELS else ""
    listed = ", ".join(repr(name[:_LABEL_LENGTH]) for name in names[:_MOST_LABELS])
    yield Finding(
        "labels_without_stage",
        Severity.INFO,
        len(unknown),
        f"device activities whose graph node has a label that stands for no stage: {len(unknown):,} ({listed}{more})",
        "name their stages with --rule NAME=REGEX",
    )
