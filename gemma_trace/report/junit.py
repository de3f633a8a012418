"""What a gate found as JUnit XML: a test per limit, as the test reports of CI servers show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from gemma_trace.analysis.gate import Held, Verdict
from gemma_trace.printable import printable

_ANSWERS: Final = {"exceeded": "failure", "inconclusive": "skipped"}


def to_junit(labels: Sequence[str], verdicts: Sequence[Verdict], unmatched: Sequence[str]) -> str:
    """One suite per comparison; what is over its limit failed, what can't be known was skipped.

    Args:
        labels: of the comparisons.
        unmatched: runs of one side only, each a line.
    """
    root = ElementTree.Element("testsuites", name="gemma-trace")
    for label, verdict in zip(labels, verdicts, strict=True):
        suite = ElementTree.SubElement(root, "testsuite", name=printable(label))
        for row in verdict.held:
            _case(suite, row.change.stage, row.answer, _said(row))
        for reason in verdict.reasons:
            _case(suite, "comparable", "inconclusive", reason)
        _count(suite)
    if unmatched:
        suite = ElementTree.SubElement(root, "testsuite", name="unmatched runs")
        for line in unmatched:
            _case(suite, line.partition(",")[0], "exceeded", f"{line}, so it can't be compared")
        _count(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, name: str, answer: str, said: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname="gemma_trace", name=printable(name), time="0")
    if answer in _ANSWERS:
        ElementTree.SubElement(case, _ANSWERS[answer], message=printable(said))
    else:
        ElementTree.SubElement(case, "system-out").text = printable(said)


def _count(suite: ElementTree.Element) -> None:
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _said(row: Held) -> str:
    change = row.change
    if not (change.before and change.after):
        return "exists on one side only"
    relative = "" if change.relative_pct is None else f" ({change.relative_pct:+.1f}%)"
    seen = "" if row.detectable_ms is None else f"; changes from {row.detectable_ms:.3g} ms on could be seen"
    return f"{change.difference_ms:+.3f} ms{relative}, limit {row.limit}{seen}"
