"""What came of a case: savings with their intervals, held against the ceilings of the advice. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.proof.cases import TOGETHER, Case, Fault
from gemma_trace.advice.findings import Advice, Finding

RESAMPLES: Final = 4000


@dataclass(frozen=True)
class Saving:
    """What a request saves: the median over the passes, with a 95% interval by bootstrap, in ms."""

    median_ms: float
    low_ms: float
    high_ms: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Saving:
        """Of a value per pass.

        >>> Saving.of([3.0, 3.0, 3.0])
        Saving(median_ms=3.0, low_ms=3.0, high_ms=3.0)
        """
        drawn = np.random.default_rng(0).choice(np.asarray(values_ms), size=(RESAMPLES, len(values_ms)))
        low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975)).tolist()
        return cls(float(np.median(values_ms)), low, high)

    def __str__(self) -> str:
        return f"{self.median_ms:,.1f} ({self.low_ms:,.1f} to {self.high_ms:,.1f})"


@dataclass(frozen=True)
class Outcome:
    """A fault of a case, and what the advice on it says.

    Attributes:
        saved_ms: what a request saved, a value per pass.
        finding: the advice that speaks of it, be it under the noise; None where there is none.
        place: its place in the advice.
        rules: those of all findings, in their order.
        abstains: why the rule found nothing, where it says so.
    """

    case: Case
    fault: Fault
    saved_ms: tuple[float, ...]
    finding: Finding | None
    rules: tuple[str, ...]
    abstains: str = ""

    @property
    def place(self) -> int | None:
        """The finding's place in the advice; None where it isn't among the seven."""
        return self.rules.index(self.fault.rule) + 1 if self.fault.rule in self.rules else None

    @property
    def saving(self) -> Saving:
        """The saving with its interval."""
        return Saving.of(self.saved_ms)

    @property
    def within(self) -> str:
        """Whether the saving is at or under the upper end of the ceiling's interval, and how certain that is."""
        if self.finding is None:
            return f"abstains: {self.abstains}" if self.abstains else "**not found**"
        most_ms, saving = self.finding.ceiling.interval_ns[1] / 1e6, self.saving
        if saving.high_ms <= most_ms:
            return "yes"
        if saving.low_ms > most_ms:
            return "**no**"
        return "yes, but not with its error" if saving.median_ms <= most_ms else "above, by less than its error"

    @property
    def ceiling(self) -> str:
        """The ceiling with its interval."""
        if self.finding is None:
            return "–"
        low, high = (end / 1e6 for end in self.finding.ceiling.interval_ns)
        return f"{self.finding.ceiling.mean_ns / 1e6:,.1f} ({low:,.1f} to {high:,.1f})"


def outcomes_of(case: Case, faults: Sequence[Fault], saved_ms: dict[str, list[float]], advice: Advice) -> list[Outcome]:
    """A case's faults, the largest saving first."""
    rules = tuple(finding.rule for finding in advice.findings)
    found = [
        Outcome(
            case,
            fault,
            tuple(saved_ms[fault.name]),
            next((each for each in (*advice.findings, *advice.hidden) if each.rule == fault.rule), None),
            rules,
            next((each.missing for each in advice.abstentions if each.rule == fault.rule), ""),
        )
        for fault in faults
    ]
    return sorted(found, key=lambda outcome: -outcome.saving.median_ms)


def alone_table(outcomes: Sequence[Outcome]) -> str:
    """The faults in cases of their own."""
    lines = [
        "| what was changed | rule | saved ms | ceiling ms | at or under | first in advice | requests |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in sorted(outcomes, key=lambda outcome: -outcome.saving.median_ms):
        first = "**no**, under the noise" if each.finding else "–"
        if each.place:
            first = "yes" if each.place == 1 else f"**no**, after `{each.rules[0]}`"
        lines.append(
            f"| {each.fault.what} | `{each.fault.rule}` | {each.saving} | {each.ceiling} | {each.within} | {first} | "
            f"{2 * len(each.saved_ms)} |"
        )
    return "\n".join(lines) + "\n"


def together_table(outcomes: Sequence[Outcome]) -> str:
    """The faults that one request has all at once, the largest saving first."""
    lines = [
        "| what was changed | rule | saved ms | more than the next, ms | ceiling ms | at or under | place by saving | "
        "place in advice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, (each, more) in enumerate(zip(outcomes, [*leads(outcomes), None], strict=True), start=1):
        lines.append(
            f"| {each.fault.what} | `{each.fault.rule}` | {each.saving} | {more or '–'} | {each.ceiling} | "
            f"{each.within} | {place} | {each.place or '–'} |"
        )
    return "\n".join(lines) + "\n"


def leads(outcomes: Sequence[Outcome]) -> list[Saving]:
    """How much more each saves than the next, by the differences within the passes, whose slow request is the same."""
    return [
        Saving.of([more - less for more, less in zip(before.saved_ms, after.saved_ms, strict=True)])
        for before, after in pairwise(outcomes)
    ]


def verdict(outcomes: Sequence[Outcome]) -> str:
    """A line: whether the order of the savings is certain, and whether the advice has it."""
    together = [outcome for outcome in outcomes if outcome.case.name == TOGETHER]
    certain = all(lead.low_ms > 0 for lead in leads(together))
    places = [outcome.place for outcome in together]
    told = [place for place in places if place is not None]
    order = "the same" if told == sorted(told) else "**another**"
    missing = len(places) - len(told)
    left_out = f" without {missing} of the {len(places)}" if missing else ""
    first = "is" if places[:1] == [1] else "**is not**"
    sure = "certain: each saves more than the next by more than the error" if certain else "**not certain**"
    return (
        f"The order of the savings is {sure}. The advice has {order} order{left_out}, and what saves most {first} "
        "its first finding.\n"
    )
