"""`advise --explain`: what every rule made of a trace, and by which thresholds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.advice.advise import advise
from gemma_trace.advice.explaining import Outcome, explained
from gemma_trace.advice.findings import Advice, Ceiling, Confidence, Finding
from gemma_trace.advice.merge import Looked, advice_of
from gemma_trace.advice.registry import RULES
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def outcomes(advice: Advice) -> dict[str, Outcome]:
    return {row.rule.name: row.outcome for row in explained(advice)}


def test_every_rule_is_explained(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100 * MS).range("image_load", 0, 40 * MS)
    built.range("tokenization", 41 * MS, MS // 2)
    rows = explained(advise(built.load(tmp_path)))
    assert sorted({row.rule.name for row in rows}) == [rule.name for rule in RULES]
    first, second, *rest = rows
    assert (first.rule.name, first.outcome, first.ceiling_ns) == ("image_load", Outcome.ADVISED, 40 * MS)
    assert "loading images takes 40.000 ms" in first.figures
    assert (second.rule.name, second.outcome, second.ceiling_ns) == ("prompt_processing", Outcome.NOISE, MS // 2)
    assert {row.outcome for row in rest} == {Outcome.SILENT}


def test_findings_beyond_the_seventh_are_told_from_those_under_the_noise() -> None:
    names = [rule.name for rule in RULES][:10]
    found = [
        Finding(name, "", "", "", Ceiling((gain,), (100,)), Confidence.LOW, "", "")
        for name, gain in zip(names, [0, *range(11, 2, -1)], strict=True)
    ]
    advice = advice_of([Looked("", (100,), (), tuple(found), ())])
    assert (len(advice.findings), advice.more, advice.under_noise) == (7, 2, 1)
    told = outcomes(advice)
    assert [told[name] for name in names] == [
        Outcome.NOISE,
        *[Outcome.ADVISED] * 7,
        *[Outcome.LOWER] * 2,
    ]


def test_where_all_rules_abstain_each_says_so(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100 * MS)
    for place in range(40):
        built.launch(place + 1, (50 + place) * MS, 9000)
    advice = advise(built.load(tmp_path))
    assert set(outcomes(advice).values()) == {Outcome.ABSTAINED}
    (doubt,) = advice.abstentions
    told = outcomes(replace(advice, abstentions=(replace(doubt, rule="all but cold_start"),)))
    assert [name for name, outcome in told.items() if outcome is not Outcome.ABSTAINED] == ["cold_start"]


def test_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(TraceBuilder().range("request", 0, 100 * MS).range("image_load", 0, 40 * MS).write(tmp_path / "t.json"))
    assert cli.main(["advise", path, "--explain", "--no-cache", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["totals"]["explanations"]
    assert len(rows) == len(RULES)
    by_rule = {row["rule"]: row for row in rows}
    assert by_rule["low_occupancy"]["outcome"] == "found nothing"
    assert "fewer blocks than the device has multiprocessors" in by_rule["low_occupancy"]["looks_for"]
    assert cli.main(["advise", path, "--explain", "--no-cache"]) == 0
    shown = capsys.readouterr().out
    assert "What every rule made of it" in shown
    assert all(f" {rule.name} " in shown for rule in RULES), "names are whole, however narrow the terminal is"
    assert "How to check them" in shown
    assert cli.main(["advise", path, "--no-cache", "--format", "json"]) == 0
    assert "explanations" not in json.loads(capsys.readouterr().out)["totals"]
