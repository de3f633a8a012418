"""A finding: one thing that is wrong with a trace, counted, with a severity and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RANDOM_WEIGHTS: Final = "random_weights"
"""The code of the finding that marks a capture of random weights wherever it is shown."""

CLOCK_SHIFT: Final = "clock_shift"
"""The code of the finding that host and device clocks disagree: as an error it voids what is said of both together."""

MISSING_DEVICE_WORK: Final = "missing_device_work"
"""The code of the finding that launches have no activities: as an error it leaves nothing to say about the device."""


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Good to know; the figures stand."""
    WARNING = "warning"
    """Some figures may be off."""
    ERROR = "error"
    """Part of the trace is missing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: for programs.
        count: of events, or of whatever the message speaks of.
        message: what is wrong.
        advice: what to do.
    """

    code: str
    severity: Severity
    count: int
    message: str
    advice: str


@dataclass(frozen=True)
class Health:
    """All findings, the worst first."""

    findings: tuple[Finding, ...] = ()

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


def merged(healths: Sequence[Health]) -> Health:
    """The findings of several traces; one that several have is listed once, its counts added."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in (finding for health in healths for finding in health.findings):
        key = (finding.code, finding.message)
        count = finding.count + (found[key].count if key in found else 0)
        found[key] = Finding(finding.code, finding.severity, count, finding.message, finding.advice)
    return Health(tuple(found.values()))
