"""What advice consists of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, pairwise
from statistics import fmean, stdev
from typing import Any, Final

from gemma_trace.advice.places import Place
from gemma_trace.analysis.student_t import critical_value
from gemma_trace.tabular import Tabular
from gemma_trace.wording import counted

MOST_FINDINGS: Final = 7
"""More findings than this are not read."""

LEVEL: Final = 0.95
LEAST_FOR_INTERVAL: Final = 3
"""Of fewer requests the interval is from the smallest to the largest."""


class Confidence(StrEnum):
    """How sure it is that the change brings what its ceiling says."""

    HIGH = "high"
    """The trace shows the cause itself."""
    MEDIUM = "medium"
    """The trace shows what the cause usually looks like."""
    LOW = "low"
    """The trace shows where the time goes, and little of why."""


@dataclass(frozen=True)
class Ceiling:
    """What requests would gain at most, by replay.

    Attributes:
        values_ns: of each request, none below zero or over its wall time.
        walls_ns: the wall times.
        ttft_values_ns, ttfts_ns: the same up to the first token; empty where that isn't known of every request.
        runs: of several traces how many of the requests are of each, in that order; empty for one trace.
    """

    values_ns: tuple[int, ...]
    walls_ns: tuple[int, ...]
    ttft_values_ns: tuple[int, ...] = ()
    ttfts_ns: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()

    @property
    def mean_ns(self) -> float:
        """The mean over the requests."""
        return fmean(self.values_ns)

    @property
    def interval_ns(self) -> tuple[float, float]:
        """A 95% interval of the mean, by Student's t; of fewer than 3 requests the smallest and the largest value.

        Of several traces it is over their means, since requests of one process share its luck. It lies within 0 and
        the longest wall time.
        """
        values = self._means_ns() if self.runs else [float(value) for value in self.values_ns]
        if len(values) < LEAST_FOR_INTERVAL:
            return min(values), max(values)
        margin = critical_value(LEVEL, len(values) - 1) * stdev(values) / len(values) ** 0.5
        return max(0.0, self.mean_ns - margin), min(float(max(self.walls_ns)), self.mean_ns + margin)

    def _means_ns(self) -> list[float]:
        """The mean of each trace."""
        edges = (0, *accumulate(self.runs))
        return [fmean(self.values_ns[low:high]) for low, high in pairwise(edges)]

    @property
    def pct(self) -> float:
        """The mean in percent of the mean wall time."""
        return 100 * sum(self.values_ns) / sum(self.walls_ns) if sum(self.walls_ns) else 0.0

    @property
    def ttft_ns(self) -> float | None:
        """The mean gain of the first token."""
        return fmean(self.ttft_values_ns) if self.ttft_values_ns else None

    @property
    def ttft_pct(self) -> float | None:
        """The ceiling up to the first token, in percent of the mean TTFT."""
        return 100 * sum(self.ttft_values_ns) / sum(self.ttfts_ns) if sum(self.ttfts_ns) else None


@dataclass(frozen=True)
class Finding:
    """One thing to change.

    Attributes:
        rule: the name of the rule that found it.
        change: what to change, in a sentence, with the option, call or setting.
        where: the stage.
        evidence: the figures that it rests on.
        check: the command, or the two, that show whether it helped.
        source: where the rule is from.
        place: the layer, the op and the source line that most of it lies in.
        traces: of several traces the names of those in which it gains more than the noise; what is said is of the one
            in which it gains most.
    """

    rule: str
    change: str
    where: str
    evidence: str
    ceiling: Ceiling
    confidence: Confidence
    check: str
    source: str
    place: Place = field(default_factory=Place)
    traces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Abstention:
    """What a rule couldn't look at.

    Attributes:
        missing: what the trace lacks.
        record: what to record so that it can.
        traces: of several traces the names of those that it holds for.
    """

    rule: str
    missing: str
    record: str
    traces: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Advice(Tabular):
    """What to change, the highest ceiling first.

    Attributes:
        findings: 7 at most.
        more: how many there were beyond those.
        under_noise: how many had a ceiling under `noise_ns`.
        noise_ns: the gain that requests of this trace can't be told from none.
        requests: how many requests it is of.
        abstentions: the rules that couldn't look, and why.
        traces: of several traces their names.
        hidden: the findings that aren't shown: `more` with lower ceilings, and then those under the noise.
    """

    findings: tuple[Finding, ...]
    more: int
    under_noise: int
    noise_ns: float
    requests: int
    abstentions: tuple[Abstention, ...]
    traces: tuple[str, ...] = ()
    hidden: tuple[Finding, ...] = ()

    def headline(self) -> str:
        """What the result is, in a line."""
        of = f" of {counted(len(self.traces), 'trace')}" if self.traces else ""
        return f"Advice: {counted(len(self.findings), 'finding')} over {counted(self.requests, 'request')}{of}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per finding, the highest ceiling first."""
        for finding in self.findings:
            low, high = finding.ceiling.interval_ns
            yield {
                "rule": finding.rule,
                "change": finding.change,
                "where": finding.where,
                "layer": finding.place.layer,
                "op": finding.place.op,
                "line": finding.place.line,
                "evidence": finding.evidence,
                "ceiling_ns": finding.ceiling.mean_ns,
                "ceiling_low_ns": low,
                "ceiling_high_ns": high,
                "ceiling_pct": finding.ceiling.pct,
                "ttft_ceiling_ns": finding.ceiling.ttft_ns,
                "ttft_ceiling_pct": finding.ceiling.ttft_pct,
                "confidence": finding.confidence.value,
                "check": finding.check,
                "source": finding.source,
                "traces": list(finding.traces),
            }


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """The highest ceiling first; of equal ones by the rule's name."""
    return sorted(findings, key=lambda finding: (-finding.ceiling.mean_ns, finding.rule, finding.where))
