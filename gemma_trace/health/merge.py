"""The findings of several traces as one list, each with the traces that it is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from gemma_trace.health.findings import MOST_NAMED, Finding, Health, Severity

_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
"""A number that stands by itself; those inside of names are parts of them."""


def merged(healths: Sequence[Health], labels: Sequence[str]) -> Health:
    """The findings of several traces, the worst first; those that differ in their numbers alone are one.

    Its count is the sum; where a number differs, its message says from the least to the largest. Of one trace alone
    the findings stay as they are.

    Args:
        labels: the traces' names, one a health, each different; see `told_apart`.
    """
    if len(healths) == 1:
        return healths[0]
    alike: dict[tuple[str, ...], list[tuple[str, Finding]]] = {}
    for label, health in zip(labels, healths, strict=True):
        for finding in health.findings:
            texts = (_NUMBER.sub("#", text) for text in (finding.message, finding.advice))
            alike.setdefault((finding.code, finding.severity.value, *texts), []).append((label, finding))
    return Health().plus(_as_one(group) for group in alike.values())


def in_few_lines(findings: Sequence[Finding]) -> list[Finding]:
    """The findings for a table: of several traces' findings of one code and severity that differ in their words, the
    first `MOST_NAMED`, and one that counts the rest. A single trace's findings stay as they are."""
    kinds = Counter((finding.code, finding.severity) for finding in findings if finding.traces)
    seen: Counter[tuple[str, Severity]] = Counter()
    rest: dict[tuple[str, Severity], list[Finding]] = {}
    shown: list[Finding | tuple[str, Severity]] = []
    for finding in findings:
        kind = (finding.code, finding.severity)
        seen[kind] += 1
        if kinds[kind] <= MOST_NAMED + 1 or seen[kind] <= MOST_NAMED:
            shown.append(finding)
        elif kind in rest:
            rest[kind].append(finding)
        else:
            rest[kind] = [finding]
            shown.append(kind)
    return [item if isinstance(item, Finding) else _counted(rest[item]) for item in shown]


def _counted(rest: Sequence[Finding]) -> Finding:
    return replace(
        rest[0],
        count=sum(finding.count for finding in rest),
        message=f"{len(rest)} more findings of this kind ({rest[0].code}), each worded differently",
        advice="--format json lists them all",
        traces=tuple(dict.fromkeys(label for finding in rest for label in finding.traces)),
    )


def _as_one(group: Sequence[tuple[str, Finding]]) -> Finding:
    first = group[0][1]
    return Finding(
        code=first.code,
        severity=first.severity,
        count=sum(finding.count for _, finding in group),
        message=_spanned([finding.message for _, finding in group]),
        advice=_spanned([finding.advice for _, finding in group]),
        traces=tuple(dict.fromkeys(label for label, _ in group)),
    )


def _spanned(texts: Sequence[str]) -> str:
    """Texts that differ in their numbers alone as one, a number that differs as "least to largest".

    >>> _spanned(["3 of 9 are odd", "12 of 9 are odd"])
    '3 to 12 of 9 are odd'
    """
    columns = zip(*(_NUMBER.findall(text) for text in texts), strict=True)
    spans = iter([_span(sorted(dict.fromkeys(column), key=_value)) for column in columns])
    return _NUMBER.sub(lambda _: next(spans), texts[0])


def _span(numbers: Sequence[str]) -> str:
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def told_apart(labels: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """The labels, those of one name with as much of the file's path as it takes to tell them apart.

    >>> told_apart(["run", "run", "other"], [Path("a/x.json"), Path("b/x.json"), Path("c.json")])
    ['run [a/x.json]', 'run [b/x.json]', 'other']
    """
    names = list(labels)
    for label in dict.fromkeys(labels):
        alike = [place for place, other in enumerate(labels) if other == label]
        if len(alike) == 1:
            continue
        parts = [paths[place].absolute().parts for place in alike]
        depth = next((n for n in range(1, max(map(len, parts)) + 1) if len({p[-n:] for p in parts}) == len(parts)), 1)
        for number, (place, part) in enumerate(zip(alike, parts, strict=True), 1):
            tail = "/".join(part[-depth:])
            # The same file twice.
            again = f" {number}" if len({p[-depth:] for p in parts}) < len(parts) else ""
            names[place] = f"{label} [{tail}{again}]"
    return names
