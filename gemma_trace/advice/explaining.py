"""What every rule made of a trace: what it advises, why it is silent, and by which thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gemma_trace.advice.findings import Abstention, Advice, Finding
from gemma_trace.advice.registry import RULES
from gemma_trace.advice.rule import Rule
from gemma_trace.health.findings import COLD_START


class Outcome(StrEnum):
    """What came of a rule."""

    ADVISED = "advised"
    LOWER = "lower than the seven"
    NOISE = "under the noise"
    ABSTAINED = "abstained"
    SILENT = "found nothing"


@dataclass(frozen=True)
class Explained:
    """One rule and one thing that came of it.

    Attributes:
        ceiling_ns: of what it found.
        figures: the evidence of that, or what is missing; "" where it found nothing.
    """

    rule: Rule
    outcome: Outcome
    ceiling_ns: float | None = None
    figures: str = ""


def explained(advice: Advice) -> list[Explained]:
    """All rules: those with findings first, the highest ceiling first, then those that abstained, then the rest."""
    rows = list(_found(advice))
    abstained = [*_abstained(advice)]
    told = {row.rule.name for row in (*rows, *abstained)}
    silent = [Explained(rule, Outcome.SILENT) for rule in RULES if rule.name not in told]
    return [*rows, *abstained, *silent]


def _found(advice: Advice) -> Iterator[Explained]:
    by_name = {rule.name: rule for rule in RULES}
    lower, noise = advice.hidden[: advice.more], advice.hidden[advice.more :]
    groups: tuple[tuple[Outcome, tuple[Finding, ...]], ...] = (
        (Outcome.ADVISED, advice.findings),
        (Outcome.LOWER, lower),
        (Outcome.NOISE, noise),
    )
    for outcome, findings in groups:
        for finding in findings:
            yield Explained(by_name[finding.rule], outcome, finding.ceiling.mean_ns, finding.evidence)


def _abstained(advice: Advice) -> Iterator[Explained]:
    for rule in RULES:
        for each in advice.abstentions:
            if _is_about(each, rule):
                yield Explained(rule, Outcome.ABSTAINED, figures=each.missing)


def _is_about(abstention: Abstention, rule: Rule) -> bool:
    """Whether an abstention is of a rule: of all of them, of all but those that speak of cold starts, or of one."""
    if abstention.rule == f"all but {COLD_START}":
        return rule.name != COLD_START
    return abstention.rule in ("all", rule.name)
