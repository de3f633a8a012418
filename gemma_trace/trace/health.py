"""What is wrong with a trace, counted, with a severity and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gemma_trace.trace import columns, repair

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace


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

    @property
    def verdict(self) -> str:
        """`ok`, `warning` or `error`: the worst severity."""
        worst = {finding.severity for finding in self.findings}
        if Severity.ERROR in worst:
            return "error"
        return "warning" if Severity.WARNING in worst else "ok"


_REPAIRS: dict[str, tuple[Severity, str, str]] = {
    repair.CONTROL_CHARACTERS: (
        Severity.INFO,
        "control characters stood bare in strings; they were escaped",
        "nothing to do",
    ),
    repair.BROKEN_ESCAPES: (
        Severity.INFO,
        "backslashes that escape nothing; they were taken as they stand",
        "nothing to do",
    ),
    repair.BAD_UTF8: (
        Severity.INFO,
        "characters that are no UTF-8; they became U+FFFD",
        "names may differ from other traces of the same program",
    ),
    repair.NOT_A_NUMBER: (
        Severity.WARNING,
        "numbers were NaN or infinite",
        "capture again if a span of interest is hit",
    ),
    columns.TEXT_NUMBERS: (
        Severity.INFO,
        "times were written as text; they were read exactly",
        "nothing to do",
    ),
    columns.NEGATIVE_DURATIONS: (
        Severity.WARNING,
        "spans had a negative length; they count as 0",
        "the profiler's clocks disagreed: capture again with a newer torch or driver",
    ),
    columns.MISSING_DURATIONS: (
        Severity.WARNING,
        "spans had no length; they count as 0",
        "the profiler stopped inside them: stop it outside the region of interest",
    ),
    columns.UNDECODABLE_EVENTS: (
        Severity.ERROR,
        "events couldn't be read and were left out",
        "capture again, or look at the file around them",
    ),
    columns.UNPAIRED_BEGINS: (
        Severity.WARNING,
        "begin events have no end and were left out",
        "stop the profiler outside the region of interest",
    ),
    columns.UNPAIRED_ENDS: (
        Severity.WARNING,
        "end events have no begin and were left out",
        "start the profiler outside the region of interest",
    ),
}


def examine(trace: Trace) -> Health:
    """Find what is wrong with a trace."""
    findings = [*_of_the_file(trace), *_of_the_links(trace), *_of_the_capture(trace)]
    order = list(Severity)
    return Health(tuple(sorted(findings, key=lambda finding: -order.index(finding.severity))))


def _of_the_file(trace: Trace) -> list[Finding]:
    report = trace.report
    findings = []
    if report.damaged:
        findings.append(
            Finding(
                "damaged",
                Severity.ERROR,
                1,
                "the compressed data is broken; events after the break are lost",
                "copy the file again from where it was captured",
            )
        )
    if report.truncated:
        findings.append(
            Finding(
                "truncated",
                Severity.ERROR,
                1,
                f"the file ends before the trace does; {len(trace.spans):,} spans were read",
                "copy it again, or let the profiler finish its export",
            )
        )
    for kind, count in report.repairs.items():
        severity, message, advice = _REPAIRS[kind]
        findings.append(Finding(kind, severity, count, f"{count:,} {message}", advice))
    if trace.nesting.clipped:
        count = trace.nesting.clipped
        findings.append(
            Finding(
                "crossing_spans",
                Severity.INFO,
                count,
                f"{count:,} spans cross the end of the span around them; they were clipped to it",
                "Perfetto drops such spans",
            )
        )
    return findings


def _of_the_links(trace: Trace) -> list[Finding]:
    unlinked = trace.activities[trace.launch < 0]
    if not len(unlinked):
        return []
    durations = trace.spans.dur_ns
    share = 100 * durations[unlinked].sum() / max(1, durations[trace.activities].sum())
    return [
        Finding(
            "unlinked_activities",
            Severity.WARNING,
            len(unlinked),
            f"{len(unlinked):,} of {len(trace.activities):,} device activities ({share:.1f}% of device time) "
            "have no launch in the trace",
            "they have a row of their own; start the profiler, or its warm-up, earlier",
        )
    ]


def _of_the_capture(trace: Trace) -> list[Finding]:
    metadata = trace.metadata
    if metadata is None:
        return []
    findings = [
        Finding("capture_warning", Severity.WARNING, 1, warning, "see the message") for warning in metadata.warnings
    ]
    if metadata.config.get("warmup") == 0:
        findings.append(
            Finding(
                "no_warmup",
                Severity.WARNING,
                1,
                "nothing ran before the timed requests; first runs are up to 20 times slower",
                "capture with --warmup 10",
            )
        )
    return findings
