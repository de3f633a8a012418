"""`advise`: all rules look at a trace, and what they find is replayed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Abstention, Advice, Ceiling, Finding
from gemma_trace.advice.merge import Looked, advice_of
from gemma_trace.advice.places import place_of
from gemma_trace.advice.registry import RULES
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.health.examine import examine
from gemma_trace.health.findings import CLOCK_SHIFT, COLD_START, MISSING_DEVICE_WORK, Health, Severity
from gemma_trace.peaks import Peaks
from gemma_trace.trace.events import NONE
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.engine import PARTS, Engine


def advise(trace: Trace, request: int | Request | None = None, peaks: Sequence[Peaks] = ()) -> Advice:
    """What to change, the highest ceiling first.

    Nothing is advised whose ceiling is under the noise: 1% of the wall time or, where that is more, the standard error
    of the requests' mean. Where the clocks disagree or activities are missing, nothing is advised at all, and where a
    quarter of the time or more is a cold start, nothing but to warm up.

    Args:
        request: look at one request alone, by its index or as it is; None looks at all.
        peaks: the user's own peak rates of devices.

    Raises:
        InputError: there is no such request.
    """
    return advice_of([look(trace, request, peaks)])


def look(trace: Trace, request: int | Request | None = None, peaks: Sequence[Peaks] = (), label: str = "") -> Looked:
    """Everything that the rules find in a trace, however little it would gain; see `advise`.

    Raises:
        InputError: there is no such request.
    """
    requests = [each for each in trace.chosen(request) if each.wall_ns > 0]
    walls = tuple(each.wall_ns for each in requests)
    if not requests:
        return Looked(label, walls, (), (), (Abstention("all", "no request has any length", "a request"),))
    health = examine(trace)
    if doubt := _doubt(health):
        return Looked(label, walls, (), (), (doubt,))
    rules, lacking = _rules_for(health)
    case = Case(trace, requests, Engine(trace, requests), peaks)
    findings: list[Finding] = []
    for rule in rules:
        for each in rule.look(case):
            if isinstance(each, Lacking):
                lacking.append(Abstention(rule.name, each.missing, each.record))
            else:
                findings.append(
                    Finding(
                        rule.name,
                        each.change,
                        each.where,
                        each.evidence,
                        ceiling_of(case, each),
                        each.confidence,
                        each.check,
                        rule.source,
                        place_of(case, each.spans),
                    )
                )
    ttfts = [case.engine.replay(each).as_measured.ttft_ns for each in requests] if findings else []
    known = tuple(each for each in ttfts if each is not None)
    return Looked(label, walls, known if len(known) == len(walls) else (), tuple(findings), tuple(lacking))


def ceiling_of(case: Case, candidate: Candidate) -> Ceiling:
    """What a candidate's change would bring at most."""
    values, walls, ttft_values, ttfts = [], [], [], []
    left = np.broadcast_to(np.round(np.asarray(candidate.left) * PARTS).astype(np.int64), len(candidate.spans))
    for request in case.requests:
        replay = case.engine.replay(request)
        graph = replay.graph
        chosen = (graph.span != NONE) & candidate.spans[graph.span]
        parts = np.where(chosen, left[graph.span], PARTS)
        nothing = np.zeros(len(chosen), dtype=bool)
        gone, aside = (nothing, chosen) if candidate.aside else (parts == 0, nothing)
        was = replay.as_measured
        new = case.engine.replayed(replay, np.where(aside, PARTS, parts), gone, aside)
        values.append(max(0, was.wall_ns - new.wall_ns))
        walls.append(was.wall_ns)
        if was.ttft_ns is not None and new.ttft_ns is not None:
            ttft_values.append(max(0, was.ttft_ns - new.ttft_ns))
            ttfts.append(was.ttft_ns)
    if len(ttfts) < len(walls):
        ttft_values, ttfts = [], []
    return Ceiling(tuple(values), tuple(walls), tuple(ttft_values), tuple(ttfts))


def _rules_for(health: Health) -> tuple[Sequence[Rule], list[Abstention]]:
    """The rules that say something of such a trace, and why the others don't: a cold start is no steady state."""
    for finding in health.findings:
        if finding.code == COLD_START and finding.severity is not Severity.INFO:
            lacking = Abstention(f"all but {COLD_START}", finding.message, finding.advice)
            return [rule for rule in RULES if rule.name == COLD_START], [lacking]
    return RULES, []


def _doubt(health: Health) -> Abstention | None:
    """Why nothing can be advised of a trace; None where something can."""
    for finding in health.findings:
        if finding.severity is Severity.ERROR and finding.code in (CLOCK_SHIFT, MISSING_DEVICE_WORK):
            return Abstention("all", finding.message, finding.advice)
    return None
