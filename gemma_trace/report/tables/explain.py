"""How each verdict came about: the rule that decided it, its thresholds, and the figures that it was held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_trace.analysis.bindings import LARGE_CALL_PCT, MOST_OF_IT, MOST_PCT, Binding, BoundBy, LargeCalls
from gemma_trace.report.short_names import folded
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.tables.reasons import VERDICT
from gemma_trace.report.units import WORDS
from gemma_trace.report.verdicts import DOUBTS
from gemma_trace.store import columns
from gemma_trace.wording import counted

_NAME: Final = 60


def rule_of(binding: Binding) -> str:
    """The rule that decided a verdict, with its thresholds."""
    if binding.bound is BoundBy.NOTHING:
        return "a stage that took no time has no verdict"
    if binding.bound is BoundBy.UNKNOWN:
        return f"no verdict, since {DOUBTS[binding.doubt]}"
    decided = {
        BoundBy.CALLS: f"those calls decide, since they take {MOST_PCT}% or more",
        BoundBy.KIND: f"the largest kind decides, since it takes {MOST_PCT}% or more",
        BoundBy.MIXED: f"mixed, since no kind takes {MOST_PCT}%; kinds under 5% aren't named",
    }[binding.bound]
    return decided if binding.calls is None else f"{_calls_rule(binding.calls)}; {decided}"


def _calls_rule(calls: LargeCalls) -> str:
    if not calls.is_one:
        return f"first calls of their kind are named where they take {LARGE_CALL_PCT}% together"
    if calls.is_cold:
        return (
            f"a first call of its kind is named alone where it takes {LARGE_CALL_PCT}% and {100 * MOST_OF_IT:.0f}% of "
            "all such calls"
        )
    return f"a long call is named where it takes {LARGE_CALL_PCT}%"


def figures_of(binding: Binding) -> str:
    """The figures of a stage that verdicts rest on; "" where it took no time."""
    reason = binding.reason
    if not reason.time_ns:
        return ""
    kinds = [(kind.value, reason.by_kind_ns(kind)) for _, kind in binding.shares]
    parts = [f"{name} {_share(time_ns, reason.time_ns)}" for name, time_ns in kinds if time_ns]
    parts += [f"cold {_share(reason.cold_ns, reason.time_ns)}"] if reason.cold_ns else []
    if reason.longest:
        name = folded(reason.longest.name)[:_NAME]
        parts.append(f"longest call {_share(reason.longest.time_ns, reason.time_ns)} ({name})")
    if reason.activities:
        activities = counted(reason.activities, "activity", "activities")
        parts.append(f"{activities} by {counted(reason.launches, 'launch', 'launches')}")
    return ", ".join(parts)


def _share(part_ns: int, whole_ns: int) -> str:
    return f"{100 * part_ns / whole_ns:.1f}%"


EXPLAIN_FILE: Final = (
    Col.stored(columns.STAGE, "stage", value="reason.stage"),
    VERDICT,
    Col("rule", "rule", WORDS, definition="the rule that decided it, with its thresholds", value=rule_of),
    Col(
        "figures",
        "figures",
        WORDS,
        definition="the shares of the stage's time that the rule compares with its thresholds, the largest kind first",
        value=figures_of,
    ),
)
"""A row per stage."""


def with_explanations(report: Report, bindings: Sequence[Binding]) -> Report:
    """The report with how each verdict came about."""
    table = Table(
        "How the verdicts were reached", EXPLAIN_FILE, [binding for binding in bindings if binding.reason.time_ns]
    )
    return report.extended([table], {"explanations": table})
