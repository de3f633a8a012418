"""Findings about what in a trace isn't torch.profiler's: counters, phases that are passed over, unknown categories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import union_ns
from gemma_trace.health.findings import Finding, Severity
from gemma_trace.trace.events import IntArray, Role
from gemma_trace.trace.others import NO_PHASE
from gemma_trace.trace.roles import RoleSource
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

MOST_NAMED: Final = 4
"""How many series, phases or categories a message names."""

_ROLE_NAMES: Final = {
    Role.HOST: "work of the host",
    Role.OP: "ops",
    Role.ANNOTATION: "ranges",
    Role.PYTHON: "Python frames",
    Role.LAUNCH: "launches",
    Role.DEVICE: "device activities",
    Role.ASIDE: "rows that repeat others",
}


def foreign_findings(trace: Trace) -> Iterator[Finding]:
    """What was read beside torch.profiler's own, what was passed over, and what was only guessed at."""
    yield from _counters(trace)
    yield from _passed_over(trace)
    yield from _unrecognised(trace)


def _counters(trace: Trace) -> Iterator[Finding]:
    counters = trace.counters
    if len(counters):
        names = _named(list(dict.fromkeys(series.name for series in counters.table)))
        yield Finding(
            "counters",
            Severity.INFO,
            len(counters),
            f"values of counters (phase C): {len(counters):,}, of {len(counters.table):,} series: {names}",
            "see their means by stage with gemma-trace stages",
        )


def _passed_over(trace: Trace) -> Iterator[Finding]:
    report, spans = trace.read_report, trace.spans
    if not report.passed_over:
        return
    told = _named([f"{counted(count, 'event')} {_of_phase(phase)}" for phase, count in _most_first(report.passed_over)])
    length_ns = report.passed_over_ns
    if length_ns:
        whole_ns = int(spans.end_ns.max() - spans.ts_ns.min())
        yield Finding(
            "passed_over",
            Severity.WARNING,
            sum(report.passed_over.values()),
            f"not understood: {told}, which cover {length_ns / 1e6:.3f} ms beside spans over {whole_ns / 1e6:.3f} ms",
            "no figure includes them: write events that should be included as complete events (phase X)",
        )
    else:
        count = sum(report.passed_over.values())
        yield Finding(
            "passed_over", Severity.INFO, count, f"not understood: {told}, none with a length", "nothing to do"
        )


def _unrecognised(trace: Trace) -> Iterator[Finding]:
    spans, roles = trace.spans, trace.roles
    guessed = np.flatnonzero(roles.source != RoleSource.CATEGORY)
    if not len(guessed):
        return
    share = 100 * union_ns(spans.ts_ns[guessed], spans.ends_ns(guessed)) / max(1, union_ns(spans.ts_ns, spans.end_ns))
    codes, counts = np.unique(spans.cat[guessed], return_counts=True)
    categories = {spans.cats[code]: count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}
    told = _named([f"{count:,} {_in_category(cat)}" for cat, count in _most_first(categories)])
    unknown = roles.source == RoleSource.NOTHING
    yield Finding(
        "unrecognised_spans",
        Severity.ERROR if unknown.all() else Severity.WARNING,
        len(guessed),
        f"spans of a category that torch.profiler does not write: {len(guessed):,} of {len(spans):,} ({told}), over "
        f"{share:.1f}% of the time that spans cover",
        f"before you trust a figure, check what they were taken for: {_taken_for(trace, guessed)}",
    )


def _taken_for(trace: Trace, guessed: IntArray) -> str:
    """What was made of spans, e.g. "ops (4), by their names or tracks"."""
    roles = trace.roles
    unknown = int((roles.source[guessed] == RoleSource.NOTHING).sum())
    told = roles.role[guessed[roles.source[guessed] != RoleSource.NOTHING]]
    codes, counts = np.unique(told, return_counts=True)
    taken = {_ROLE_NAMES[Role(code)]: count for code, count in zip(codes.tolist(), counts.tolist(), strict=True)}
    parts = [f"{_named_counts(taken)}, by their names or tracks"] if taken else []
    if unknown:
        parts.append(f"work of the host ({unknown:,}), since nothing tells what they are")
    return ", and ".join(parts)


def _named_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in _most_first(counts))


def _of_phase(phase: str) -> str:
    return "without a phase" if phase == NO_PHASE else f"of phase {phase[:8]}"


def _in_category(category: str) -> str:
    return f"of {category[:40]!r}" if category else "without a category"


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
