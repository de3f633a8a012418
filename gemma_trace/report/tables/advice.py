"""What to change: the findings of `advise`, and the rules that couldn't look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from gemma_trace.advice.explaining import Explained, explained
from gemma_trace.advice.findings import Abstention, Advice, Finding
from gemma_trace.health.findings import Health, listed
from gemma_trace.report.number_text import milliseconds
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.units import LABEL, MS, PCT, TEXT, WORDS
from gemma_trace.wording import counted

_FIRST_TOKENS: Final = "the first token of every request is known"
_IN_LAYERS: Final = "work lies in layers"
_IN_OPS: Final = "work lies in ops"
_IN_LINES: Final = "stacks were recorded"
_LACKING: Final = "Rules that could not be applied"
_SEVERAL: Final = "several traces were read"


def _low(finding: Finding) -> float:
    return finding.ceiling.interval_ns[0]


def _high(finding: Finding) -> float:
    return finding.ceiling.interval_ns[1]


def _confidence(finding: Finding) -> str:
    return finding.confidence.value


def _traces(finding: Finding | Abstention) -> str:
    return listed(finding.traces)


def _trace_list(finding: Finding | Abstention) -> list[str]:
    return list(finding.traces)


def _values(finding: Finding) -> list[int]:
    return list(finding.ceiling.values_ns)


_CHANGE: Final = Col("change", "what to change", WORDS, definition="what to change, and with which option or call")
_WHERE: Final = Col("where", "where", LABEL, definition="the stage that the finding is about")
_LAYER: Final = Col(
    "layer",
    "layer",
    LABEL,
    definition=("the kind of layer with most of the work, if it has a quarter of the work or more; else empty"),
    value="place.layer",
    priority=2,
    when=_IN_LAYERS,
)
_OP: Final = Col(
    "op", "op", LABEL, definition="the op with most of the work, likewise", value="place.op", priority=2, when=_IN_OPS
)
_LINE: Final = Col(
    "line",
    "line",
    LABEL,
    definition=(
        "the source line with most of the work, likewise; of the program or its model, not of torch, and only if "
        "stacks were recorded"
    ),
    value="place.line",
    priority=2,
    when=_IN_LINES,
)
_EVIDENCE: Final = Col("evidence", "evidence", WORDS, definition="the figures that the finding is based on", priority=1)
_CEILING: Final = Col(
    "ceiling_ns",
    "at most",
    MS,
    definition=(
        "what a request would gain at most: the mean over the requests of their wall time less that of their graph "
        "replayed without the work in question (`what-if`)"
    ),
    value="ceiling.mean_ns",
)
_LOW: Final = Col(
    "ceiling_low_ns",
    "from",
    MS,
    definition=(
        "the lower end of a 95% interval of the mean, by Student's t; the smallest value if there are fewer than 3 "
        "requests"
    ),
    value=_low,
    priority=3,
)
_HIGH: Final = Col(
    "ceiling_high_ns",
    "to",
    MS,
    definition="the upper end of that interval; the largest value if there are fewer than 3 requests",
    value=_high,
    priority=3,
)
_PCT: Final = Col("ceiling_pct", "", PCT, definition="`ceiling_ns` in % of the wall time", value="ceiling.pct")
_TTFT: Final = Col(
    "ttft_ceiling_ns",
    "of TTFT",
    MS,
    definition="the same up to the first token; empty unless the first token of every request is known",
    value="ceiling.ttft_ns",
    priority=2,
    when=_FIRST_TOKENS,
)
_TTFT_PCT: Final = Col(
    "ttft_ceiling_pct",
    "",
    PCT,
    definition="that in % of TTFT",
    value="ceiling.ttft_pct",
    priority=2,
    when=_FIRST_TOKENS,
)
_TRACES: Final = Col(
    "traces",
    "traces",
    LABEL,
    definition=(
        "the names of those of several traces that would gain more than the noise; the finding describes the trace "
        "that would gain most"
    ),
    value=_traces,
    priority=1,
    when=_SEVERAL,
)
_SURE: Final = Col(
    "confidence",
    "confidence",
    TEXT,
    definition=(
        "`high`: the trace shows the cause itself; `medium`: it shows what the cause usually looks like; `low`: it "
        "shows where the time goes, but little about why"
    ),
    value=_confidence,
    priority=2,
)
_CHECK: Final = Col("check", "check with", WORDS, definition="the command that shows whether it helped", priority=1)

ADVICE_FILE: Final = (
    Col("rule", definition="the name of the rule"),
    _CHANGE,
    _WHERE,
    _LAYER,
    _OP,
    _LINE,
    _EVIDENCE,
    _CEILING,
    _LOW,
    _HIGH,
    Col("ceilings_ns", definition="the gain of each request", value=_values),
    _PCT,
    _TTFT,
    _TTFT_PCT,
    _SURE,
    _CHECK,
    Col("source", definition="the source of the rule"),
    Col("traces", definition=_TRACES.definition, value=_trace_list),
)
"""A row per finding, the highest ceiling first."""

_PLACE: Final = (_LAYER, _OP, _LINE)

ADVICE_COLS: Final = (
    _CEILING,
    _PCT,
    _LOW,
    _HIGH,
    _TTFT,
    _TTFT_PCT,
    _CHANGE,
    _TRACES,
    _WHERE,
    *_PLACE,
    _EVIDENCE,
    _SURE,
    _CHECK,
)
"""The same for people."""

_CHECK_COLS: Final = (replace(ADVICE_FILE[0], header="rule"), _CHECK)
"""The commands in a table of their own on the terminal, where they are copied from."""

ABSTENTION_FILE: Final = (
    Col("rule", "rule", definition="the rule that could not be applied; `all` if none could"),
    Col("missing", "what is missing", WORDS, definition="what the trace lacks"),
    Col("record", "what to record", WORDS, definition="what to record so that it can be applied"),
    Col(
        "traces",
        "traces",
        LABEL,
        definition="the names of those of several traces that it holds for",
        value=_trace_list,
        when=_SEVERAL,
    ),
)
"""A row per rule that couldn't look."""


def _outcome(row: Explained) -> str:
    return row.outcome.value


RULES_FILE: Final = (
    Col("rule", "rule", definition="the rule's name", value="rule.name"),
    Col(
        "outcome",
        "outcome",
        WORDS,
        definition=(
            "`advised`; `lower than the seven`: found, with a lower ceiling than those that are advised; `under the "
            "noise`: found, with a ceiling under `noise_ns`; `abstained`; `found nothing`"
        ),
        value=_outcome,
    ),
    Col(
        "ceiling_ns", "at most", MS, definition="the ceiling of what it found; empty where it found nothing", priority=1
    ),
    Col("figures", "figures", WORDS, definition="the figures that it rests on, or what is missing"),
    Col("looks_for", "looks for", WORDS, definition="what it looks for, with its thresholds", value="rule.looks_for"),
    Col(
        "leaves",
        "leaves",
        WORDS,
        definition="what would be left of that at the least, which makes the ceiling",
        value="rule.leaves",
        priority=2,
    ),
    Col("source", "source", WORDS, definition="where the rule is from", value="rule.source", priority=3),
)
"""A row per rule and finding: those advised, those that aren't, those that abstained, and those that found nothing."""


def with_rules(report: Report, advice: Advice) -> Report:
    """The report with what every rule made of the trace."""
    table = Table("What every rule made of it", RULES_FILE, explained(advice))
    return report.extended([table], {"explanations": table})


def advice_report(advice: Advice, sources: Sequence[str], health: Health) -> Report:
    """What to change, and what couldn't be looked at."""
    data = Table("Advice", ADVICE_FILE, advice.findings)
    totals: dict[str, Any] = {
        "traces": list(advice.traces),
        "requests": advice.requests,
        "noise_ns": advice.noise_ns,
        "more": advice.more,
        "under_noise": advice.under_noise,
        "abstentions": Table(_LACKING, ABSTENTION_FILE, advice.abstentions),
    }
    findings, *rest = advice_tables(advice)
    apart = replace(findings, cols=tuple(col for col in findings.cols if col is not _CHECK))
    checks = [Table("How to check them", _CHECK_COLS, advice.findings)] if advice.findings else []
    return Report("advise", list(sources), (apart, *checks, *rest), data, totals, health)


def advice_tables(advice: Advice) -> tuple[Table[Any], ...]:
    """The table of findings; and, where some rules couldn't look, that of those."""
    conditions = holding(
        {
            _FIRST_TOKENS: all(finding.ceiling.ttft_ns is not None for finding in advice.findings),
            _IN_LAYERS: any(finding.place.layer for finding in advice.findings),
            _IN_OPS: any(finding.place.op for finding in advice.findings),
            _IN_LINES: any(finding.place.line for finding in advice.findings),
            _SEVERAL: bool(advice.traces),
        }
    )
    title = f"What to change: {counted(len(advice.findings), 'finding')}"
    if advice.traces:
        title += f" in {len(advice.traces)} traces"
    table = Table(title, ADVICE_COLS, advice.findings, notes=_notes(advice), conditions=conditions)
    return (table, abstention_table(advice)) if advice.abstentions else (table,)


def abstention_table(advice: Advice) -> Table[Abstention]:
    """The rules that couldn't look."""
    shown = (*ABSTENTION_FILE[:-1], ABSTENTION_FILE[-1].of(_traces))
    return Table(_LACKING, shown, advice.abstentions, conditions=holding({_SEVERAL: bool(advice.traces)}))


def _notes(advice: Advice) -> tuple[str, ...]:
    notes = []
    if advice.findings:
        notes.append(
            "at most: what a request would gain if the work in question were gone, found by replaying its "
            "dependency graph. Ceilings overlap, so they do not add up."
        )
        if advice.traces:
            notes.append(
                "Ceilings are means over the requests of all traces. Where a trace lacks the finding, it counts as 0; "
                "the evidence is of the trace that gains most."
            )
    else:
        notes.append("No rule found a change that is worth making.")
    if advice.under_noise and advice.traces:
        notes.append(
            f"Findings left out: {advice.under_noise}, each below the noise of every trace (1% of the wall time, or "
            "the standard error of the mean over its requests)."
        )
    elif advice.under_noise:
        notes.append(
            f"Findings left out: {advice.under_noise}, each below the noise of {milliseconds(advice.noise_ns)} ms per "
            "request (1% of the wall time, or the standard error of the mean over the requests)."
        )
    if advice.more:
        notes.append(f"Findings left out: {advice.more}, with lower ceilings.")
    return tuple(notes)
