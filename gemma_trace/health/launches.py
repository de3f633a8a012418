"""Findings about launches whose device activities are missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gemma_trace.analysis.launched import Launches, lacking, launches
from gemma_trace.analysis.timeline import Request
from gemma_trace.health.findings import MISSING_DEVICE_WORK, Finding, Severity
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

NOTABLE_SHARE: Final = 0.01
"""Below this share of all launches what is missing is worth knowing, and no more."""

MOST_NAMED: Final = 10
"""So many steps are named in a message."""

_ADVICE: Final = (
    "capture CPU and device together, with one profiler at a time, and call torch.cuda.synchronize() before the "
    "profiler stops"
)


def launch_findings(trace: Trace) -> Iterator[Finding]:
    """Launches that should have activities and don't, and those that were captured into a graph."""
    launched = launches(trace)
    if not len(launched):
        return
    if captured := int(launched.captured.sum()):
        yield Finding(
            "graph_capture",
            Severity.INFO,
            captured,
            f"launches that were captured into a graph instead of being run, and so have no activity: {captured:,} of "
            f"{len(launched):,}",
            "look at the replays of the graph, since steps with a capture say nothing about the device",
        )
    requests = trace.requests
    places = lacking(trace, launched, requests)
    if launched.lost or (places and len(requests) > 1):
        yield _missing(trace, launched, requests, places)
    elif edge := int(launched.at_the_edge.sum()):
        yield Finding(
            "launches_at_the_edge",
            Severity.INFO,
            edge,
            f"launches at the ends of the trace whose activities are outside it: {edge:,}",
            "nothing to do",
        )


def _missing(trace: Trace, launches: Launches, requests: Sequence[Request], places: Sequence[int]) -> Finding:
    lost, known = max(0, int(launches.missing.sum()) - len(launches.unlinked_ns)), int((~launches.captured).sum())
    if lost == known:
        all_launches = counted(lost, "launch", "launches")
        what = f"no launch has its device activity in the trace ({all_launches}), so there are no figures of the device"
        return Finding(MISSING_DEVICE_WORK, Severity.ERROR, lost, what, _ADVICE)
    what = f"launches without their device activity in the trace: {lost:,} of {known:,} ({100 * lost / known:.1f}%)"
    if places and len(requests) > 1:
        labels = _listed([requests[place].label for place in places])
        if len(places) < len(requests):
            what += f", in {len(places)} of {len(requests)} steps, which no mean includes: {labels}"
        else:
            what += f", so that none of {len(requests)} steps is complete"
        return Finding(MISSING_DEVICE_WORK, Severity.ERROR, lost, what, _ADVICE)
    what += f", so that the device's figures are too small ({_longest_run(trace, launches)})"
    if lost < NOTABLE_SHARE * known:
        severity = Severity.INFO
    else:
        severity = Severity.WARNING if 2 * lost < known else Severity.ERROR
    return Finding(MISSING_DEVICE_WORK, severity, lost, what, _ADVICE)


def _listed(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_NAMED
    return ", ".join(labels[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _longest_run(trace: Trace, launches: Launches) -> str:
    """Where most of them are missing one after another."""
    missing = launches.missing
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missing, [False])).astype(np.int8)))
    low, high = edges[::2], edges[1::2]
    longest = int(np.argmax(high - low))
    at = (trace.spans.ts_ns[launches.call[[low[longest], high[longest] - 1]]] - trace.spans.ts_ns[0]) / 1e6
    return f"{high[longest] - low[longest]:,} of them one after another, {at[0]:,.3f} to {at[1]:,.3f} ms into the trace"
