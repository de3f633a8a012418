"""Findings about the stage rules that were given for a trace: those that have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.health.findings import Finding, Severity
from gemma_trace.stages import StageRule, stage_named_by
from gemma_trace.trace.events import NONE
from gemma_trace.trace.near_names import near_said
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

_ADVICE: Final = "correct the rule: its regular expression may match anywhere in the name of a host span"

_MOST_NEAR: Final = 5
"""For how many rules the nearest names are looked up, which takes a while in a trace of many names."""


def rule_findings(trace: Trace) -> Iterator[Finding]:
    """Rules that match nothing, or nothing that counts."""
    if not trace.rules:
        return
    spans = trace.spans
    on_host = np.zeros(len(spans), dtype=bool)
    on_host[trace.host] = True
    taken = np.full(len(spans.names), -1, dtype=np.int64)
    labels = [
        code
        for code in distinct(spans.node_label[trace.activities]).tolist()
        if code != NONE and stage_named_by(spans.names[code]) is None
    ]
    near = _MOST_NEAR
    for place, (rule, names) in enumerate(zip(trace.rules, trace.rule_matches, strict=True)):
        fresh = names[taken[names] < 0]
        before = dict.fromkeys(trace.rules[earlier] for earlier in distinct(taken[names]).tolist() if earlier >= 0)
        taken[fresh] = place
        matched = np.isin(spans.name, names)
        counted = matched & on_host & ~trace.is_ours
        if np.isin(labels, names).any():
            continue
        if not matched.any():
            near -= 1
            yield _without_match(rule, f"matches no span{near_said(trace, rule) if near >= 0 else ''}", _ADVICE)
        elif not (matched & on_host).any():
            advice = "match what launches them instead: an op, a range, a module's frame"
            yield _without_match(rule, "matches only spans of the device or the profiler, which are not ranges", advice)
        elif not counted.any():
            advice = "match other spans, since the ranges of a capture keep their stage"
            yield _without_match(rule, "matches only gemma-trace's own ranges", advice)
        elif not len(fresh) and any(other.stage != rule.stage for other in before):
            advice = "put the rule before those"
            yield _without_match(
                rule, f"matches only what earlier rules match already: {', '.join(map(str, before))}", advice
            )
        elif not spans.dur_ns[counted].any():
            count = int(counted.sum())
            yield Finding(
                "rule_without_time",
                Severity.WARNING,
                count,
                f"the rule {rule} matches only spans without a length, so its stage has no time: {count:,}",
                "match the spans around them",
            )


def _without_match(rule: StageRule, what: str, advice: str) -> Finding:
    return Finding("rule_without_match", Severity.WARNING, 1, f"the rule {rule} {what}", advice)
