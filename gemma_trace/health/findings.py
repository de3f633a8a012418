"""A finding: one thing that is wrong with a trace, counted, with a severity and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from gemma_trace.tabular import Tabular
from gemma_trace.wording import counted

RANDOM_WEIGHTS: Final = "random_weights"
"""The code of the finding that marks a capture of random weights wherever it is shown."""

CLOCK_SHIFT: Final = "clock_shift"
"""The code of the finding that host and device clocks disagree: as an error it voids what is said of both together."""

MISSING_DEVICE_WORK: Final = "missing_device_work"
"""The code of the finding that launches have no activities: as an error it leaves nothing to say about the device."""

COLD_START: Final = "cold_start"
"""The code of the finding that first calls of their kind take much of the time, and of the rule that advises on it."""

MOST_NAMED: Final = 3
"""How many traces a line names; one more is named too."""


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Good to know; the figures stand."""
    WARNING = "warning"
    """Some figures may be off."""
    ERROR = "error"
    """Part of the trace is missing."""


NOTHING_TO_DO: Final = "nothing to do"
"""The advice where a finding only says what the figures take into account."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: for programs.
        count: of events, or of whatever the message speaks of.
        message: what is wrong, as one sentence without a full stop.
        advice: what to do, as another.
        traces: the labels of the traces that have it, where several were read; see `merge.merged`.
    """

    code: str
    severity: Severity
    count: int
    message: str
    advice: str
    traces: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As it stands in JSON: without `traces` where just one was read."""
        return {name: value for name, value in asdict(self).items() if name != "traces" or value}

    @property
    def said(self) -> str:
        """The message, behind the traces that it is about where several were read.

        >>> Finding(code="odd", severity=Severity.INFO, count=2, message="it is odd", advice="", traces=("a", "b")).said
        '2 traces (a, b): it is odd'
        """
        if not self.traces:
            return self.message
        names = listed(self.traces)
        return f"{f'{len(self.traces)} traces ({names})' if len(self.traces) > 1 else names}: {self.message}"

    @property
    def line(self) -> str:
        """What is wrong and what to do about it: one sentence each.

        >>> Finding(code="odd", severity=Severity.INFO, count=2, message="it is odd", advice="look at it").line
        'it is odd. Look at it'
        >>> Finding(code="odd", severity=Severity.INFO, count=2, message="it is odd", advice=NOTHING_TO_DO).line
        'it is odd'
        """
        if self.advice == NOTHING_TO_DO:
            return self.said
        first, space, others = self.advice.partition(" ")
        return f"{self.said}. {first.capitalize() if first.islower() and first.isalpha() else first}{space}{others}"


def listed(names: Sequence[str]) -> str:
    """Names for a line: the first three, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = names if len(names) <= MOST_NAMED + 1 else names[:MOST_NAMED]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return ", ".join(shown) + more


@dataclass(frozen=True, repr=False)
class Health(Tabular):
    """All findings, the worst first."""

    findings: tuple[Finding, ...] = ()

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"{self.verdict}, {counted(len(self.findings), 'finding')}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per finding, the worst first."""
        for finding in self.findings:
            yield {
                "severity": finding.severity.value,
                "code": finding.code,
                "count": finding.count,
                "message": finding.said,
                "advice": finding.advice,
            }

    def plus(self, findings: Iterable[Finding]) -> Health:
        """With some more findings, still the worst first."""
        order = list(Severity)
        both = (*self.findings, *findings)
        return Health(tuple(sorted(both, key=lambda finding: -order.index(finding.severity))))

    @property
    def verdict(self) -> str:
        """`ok`, `warning` or `error`: the worst severity."""
        worst = {finding.severity for finding in self.findings}
        if Severity.ERROR in worst:
            return "error"
        return "warning" if Severity.WARNING in worst else "ok"
