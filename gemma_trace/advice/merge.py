"""What the rules found in one trace or in several, as one advice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Final

from gemma_trace.advice.findings import MOST_FINDINGS, Abstention, Advice, Ceiling, Finding, ranked

LEAST_PCT: Final = 1.0
"""What gains a smaller share of the requests is never advised."""

_Key = tuple[str, str, int]
"""A rule, a stage, and which of its findings there it is."""


@dataclass(frozen=True)
class Looked:
    """What the rules found in one trace.

    Attributes:
        label: the trace's name.
        walls_ns: the wall times of its requests.
        ttfts_ns: their times to the first token; empty where one isn't known, or nothing was found.
        findings: all of them, whatever they would gain.
    """

    label: str
    walls_ns: tuple[int, ...]
    ttfts_ns: tuple[int, ...]
    findings: tuple[Finding, ...]
    abstentions: tuple[Abstention, ...]

    def called(self, label: str) -> Looked:
        """This look under another name for its trace, which tells it from others."""
        return replace(self, label=label)

    def by_key(self) -> Iterator[tuple[_Key, Finding]]:
        """The findings, each with what it shares with the same one of another trace."""
        seen: Counter[tuple[str, str]] = Counter()
        for finding in self.findings:
            kind = (finding.rule, finding.where)
            yield (*kind, seen[kind]), finding
            seen[kind] += 1


def advice_of(looked: Sequence[Looked]) -> Advice:
    """The advice on some traces: a finding's ceiling is over the requests of all, 0 in those that don't have it."""
    with_requests = [each for each in looked if each.walls_ns]
    findings = list(_merged(with_requests))
    noise = _noise_ns([each.walls_ns for each in with_requests])
    heard = ranked([finding for finding, is_heard in findings if is_heard])
    shown = heard[:MOST_FINDINGS]
    unheard = ranked([finding for finding, is_heard in findings if not is_heard])
    return Advice(
        tuple(shown),
        len(heard) - len(shown),
        len(findings) - len(heard),
        noise,
        sum(len(each.walls_ns) for each in looked),
        _abstentions(looked),
        tuple(each.label for each in looked) if len(looked) > 1 else (),
        (*heard[MOST_FINDINGS:], *unheard),
    )


def _merged(looked: Sequence[Looked]) -> Iterator[tuple[Finding, bool]]:
    """One finding for all that are of one rule and stage, in the words of the trace in which it gains most.

    And whether its ceiling is over the noise, in one of the traces at least.
    """
    noise = [_noise_ns([each.walls_ns]) for each in looked]
    if len(looked) == 1:
        yield from ((finding, finding.ceiling.mean_ns >= noise[0]) for finding in looked[0].findings)
        return
    in_trace = [dict(each.by_key()) for each in looked]
    for key in dict.fromkeys(key for by_key in in_trace for key in by_key):
        findings = [by_key.get(key) for by_key in in_trace]
        said = max((each for each in findings if each), key=lambda each: each.ceiling.mean_ns)
        ceilings = [each.ceiling if each else _nothing(of) for each, of in zip(findings, looked, strict=True)]
        heard = [ceiling.mean_ns >= least for ceiling, least in zip(ceilings, noise, strict=True)]
        labels = tuple(of.label for of, is_heard in zip(looked, heard, strict=True) if is_heard)
        yield replace(said, ceiling=_together(ceilings), traces=labels), bool(labels)


def _nothing(looked: Looked) -> Ceiling:
    """The ceiling of what a trace doesn't have."""
    zeros = (0,) * len(looked.walls_ns)
    return Ceiling(zeros, looked.walls_ns, zeros if looked.ttfts_ns else (), looked.ttfts_ns)


def _together(ceilings: Sequence[Ceiling]) -> Ceiling:
    """The ceilings of several traces as one; without those of the first token where one lacks them."""

    def column(name: str) -> tuple[int, ...]:
        return tuple(value for each in ceilings for value in getattr(each, name))

    first_tokens = all(each.ttfts_ns for each in ceilings)
    return Ceiling(
        column("values_ns"),
        column("walls_ns"),
        column("ttft_values_ns") if first_tokens else (),
        column("ttfts_ns") if first_tokens else (),
        tuple(len(each.values_ns) for each in ceilings),
    )


def _abstentions(looked: Sequence[Looked]) -> tuple[Abstention, ...]:
    """Those of all traces, the ones that say the same as one."""
    if len(looked) == 1:
        return looked[0].abstentions
    labels: dict[Abstention, list[str]] = {}
    for each in looked:
        for abstention in each.abstentions:
            labels.setdefault(abstention, []).append(each.label)
    return tuple(replace(abstention, traces=tuple(of)) for abstention, of in labels.items())


def _noise_ns(walls_ns: Sequence[Sequence[int]]) -> float:
    """The gain that can't be told from none: of traces that differ, by the scatter within each.

    Args:
        walls_ns: the wall times of each trace's requests.
    """
    everything = [wall for walls in walls_ns for wall in walls]
    if not everything:
        return 0.0
    within = float(sum(len(walls) * variance(walls) for walls in walls_ns if len(walls) > 1))
    return max(LEAST_PCT / 100 * fmean(everything), math.sqrt(within) / len(everything))
