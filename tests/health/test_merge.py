"""The findings of several traces name the traces that they are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.health.findings import Finding, Health, Severity, listed
from gemma_trace.health.merge import in_few_lines, merged, told_apart
from gemma_trace.report.markdown import as_it_is
from tests.trace_builder import TraceBuilder


def odd(message: str, count: int = 1, *, code: str = "odd", severity: Severity = Severity.INFO) -> Health:
    return Health((Finding(code, severity, count, message, "look at it"),))


def said(*healths: Health) -> list[tuple[str, int]]:
    labels = [chr(ord("a") + place) for place in range(len(healths))]
    return [(finding.said, finding.count) for finding in merged(healths, labels).findings]


def test_of_one_trace_the_findings_stay_as_they_are() -> None:
    assert said(odd("spans: 3", 3)) == [("spans: 3", 3)]
    assert merged([odd("spans: 3")], ["a"]).findings[0].traces == ()


def test_equal_findings_are_one_and_name_their_traces() -> None:
    assert said(odd("it is odd"), odd("it is odd"), odd("it is odd")) == [("3 traces (a, b, c): it is odd", 3)]
    assert said(odd("it is odd"), Health()) == [("a: it is odd", 1)]


def test_findings_that_differ_in_numbers_alone_are_one_with_the_sum_as_count() -> None:
    assert said(odd("spans: 1,200 of 5 (9.50%)", 1200), odd("spans: 86 of 5 (10.2%)", 86), odd("no number")) == [
        ("2 traces (a, b): spans: 86 to 1,200 of 5 (9.50 to 10.2%)", 1286),
        ("c: no number", 1),
    ]


def test_what_differs_otherwise_stays_apart() -> None:
    assert said(odd("sm80_gemm is odd"), odd("sm90_gemm is odd")) == [
        ("a: sm80_gemm is odd", 1),
        ("b: sm90_gemm is odd", 1),
    ]
    assert len(said(odd("odd: 1", code="x"), odd("odd: 2", code="y"))) == 2
    assert len(said(odd("odd: 1"), odd("odd: 2", severity=Severity.ERROR))) == 2


def test_the_worst_comes_first_whichever_trace_it_is_of() -> None:
    found = merged([odd("fine"), odd("bad", severity=Severity.ERROR)], ["a", "b"])
    assert ([finding.said for finding in found.findings], found.verdict) == (["b: bad", "a: fine"], "error")


def test_a_trace_with_two_findings_alike_is_named_once() -> None:
    twice = Health((*odd("lane 1: 5", 5).findings, *odd("lane 2: 7", 7).findings))
    assert said(twice, Health()) == [("a: lane 1 to 2: 5 to 7", 12)]


def test_a_line_names_three_of_many_and_the_finding_has_all() -> None:
    labels = [f"run{place}" for place in range(40)]
    found = merged([odd(f"spans: {place}") for place in range(40)], labels).findings[0]
    assert found.said == "40 traces (run0, run1, run2 and 37 more): spans: 0 to 39"
    assert found.traces == tuple(labels)
    assert listed(["a", "b", "c", "d"]) == "a, b, c, d"


def test_many_findings_of_a_kind_in_words_of_their_own_are_few_lines() -> None:
    words = [odd(f"the longest is {chr(ord('a') + place)}_kernel", 2) for place in range(10)]
    healths = [*words, odd("fine", code="other")]
    found = merged(healths, [f"run{place}" for place in range(11)]).findings
    lines = in_few_lines(found)
    assert len(found) == 11
    assert [(line.said, line.count) for line in lines[2:]] == [
        ("run2: the longest is c_kernel", 2),
        (
            "7 traces (run3, run4, run5 and 4 more): 7 more findings of this kind (odd), each worded differently",
            14,
        ),
        ("run10: fine", 1),
    ]
    four = merged(words[:4], "abcd").findings
    assert in_few_lines(four) == list(four), "one line more says more than how many are left"
    alone = Health(tuple(finding for health in words for finding in health.findings)).findings
    assert in_few_lines(alone) == list(alone), "all of one trace is shown"


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/x.json", "a/y.json"], ["run [x.json]", "run [y.json]"]),
        (["a/x.json", "b/x.json"], ["run [a/x.json]", "run [b/x.json]"]),
        (["a/c/x.json", "b/c/x.json", "b/d/y.json"], ["run [a/c/x.json]", "run [b/c/x.json]", "run [b/d/y.json]"]),
        (["a/x.json", "a/x.json"], ["run [x.json 1]", "run [x.json 2]"]),
    ],
)
def test_labels_of_one_name_are_told_apart_by_their_path(paths: list[str], expected: list[str]) -> None:
    found = told_apart(["other", *["run"] * len(paths)], [Path("z.json"), *map(Path, paths)])
    assert found == ["other", *expected]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four traces of one name in folders of their own, with 1 to 4 spans that cross another; the fifth has none."""
    for place in range(5):
        built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 5000)
        for crossing in range(place):
            built.op("aten::a", 100 + 100 * crossing, 50).op("aten::b", 120 + 100 * crossing, 60)
        built.write(tmp_path / "in" / f"f{place}" / "same.json")
    return tmp_path / "in"


def test_summarize_in_every_format(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"same [f{place}/same.json]" for place in range(1, 5)]
    line = f"4 traces ({', '.join(names)}): host spans that cross another span of their thread and were clipped: 1 to 4"
    for form, expected in (("table", line), ("markdown", as_it_is(line))):
        assert cli.main(["summarize", str(folder), "-f", form]) == 0
        assert expected in " ".join(capsys.readouterr().out.split())
    assert cli.main(["summarize", str(folder), "-f", "json"]) == 0
    findings = json.loads(capsys.readouterr().out)["health"]["findings"]
    crossing = next(finding for finding in findings if "cross another span" in finding["message"])
    assert (crossing["traces"], crossing["count"]) == (names, 10)


def test_diff_tells_two_sides_of_one_name_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sides = [str(folder / name / "same.json") for name in ("f0", "f3")]
    assert cli.main(["diff", *sides, "-f", "markdown"]) == 0
    assert (
        "**: same after: host spans that cross another span of their thread and were clipped: 3"
        in capsys.readouterr().out
    )


def test_one_trace_alone_is_not_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summarize", str(folder / "f2"), "-f", "markdown"]) == 0
    assert "**: host spans that cross" in capsys.readouterr().out
    assert cli.main(["check", str(folder / "f2"), "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == found["health"]["findings"]
    assert "traces" not in found["rows"][0]
