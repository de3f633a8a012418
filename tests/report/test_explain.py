"""`stages --explain`: the rule, the thresholds and the figures behind each verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.bindings import Doubt, binding
from gemma_trace.analysis.longest import LongCall
from gemma_trace.analysis.reasons import Kind, Part, StageReason
from gemma_trace.report.tables.explain import figures_of, rule_of
from tests.trace_builder import TraceBuilder


def reason(longest: LongCall | None = None, cold_ns: int = 0, **kinds: int) -> StageReason:
    parts = tuple(Part(Kind(kind), kind, time_ns) for kind, time_ns in kinds.items())
    return StageReason("prefill", sum(kinds.values()), parts, 12, 4, 5e3, 1, cold_ns, longest)


@pytest.mark.parametrize(
    ("stage", "rule"),
    [
        (reason(device=50, host=50), "the largest kind decides, since it takes 50% or more"),
        (reason(device=49, host=31, launch=20), "mixed, since no kind takes 50%; kinds under 5% aren't named"),
        (
            reason(LongCall("load", 25, cold=False, usual_ns=None), device=60, host=40),
            "a long call is named where it takes 25%; the largest kind decides, since it takes 50% or more",
        ),
        (
            reason(LongCall("load", 60, cold=True, usual_ns=None), 70, host=100),
            "a first call of its kind is named alone where it takes 25% and 80% of all such calls; those calls decide, "
            "since they take 50% or more",
        ),
        (
            reason(LongCall("load", 20, cold=True, usual_ns=None), 40, host=30, device=70),
            "first calls of their kind are named where they take 25% together; the largest kind decides, since it "
            "takes 50% or more",
        ),
        (reason(), "a stage that took no time has no verdict"),
    ],
)
def test_the_rule_that_decided_is_named_with_its_thresholds(stage: StageReason, rule: str) -> None:
    assert rule_of(binding(stage)) == rule


def test_a_doubt_is_the_rule() -> None:
    assert rule_of(binding(reason(host=10), Doubt.CLOCKS)) == "no verdict, since the clocks of host and device disagree"


def test_the_figures_are_shares_of_the_stage() -> None:
    stage = reason(LongCall("load", 250, cold=True, usual_ns=None), 300, device=625, host=375)
    expected = "device 62.5%, host 37.5%, cold 30.0%, longest call 25.0% (load), 12 activities by 4 launches"
    assert figures_of(binding(stage)) == expected
    assert figures_of(binding(reason())) == ""


def test_the_command_shows_a_row_per_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(TraceBuilder().range("request", 0, 100).range("prefill", 20, 50).write(tmp_path / "t.json"))
    assert cli.main(["stages", path, "--explain", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["totals"]["explanations"]
    assert [(row["stage"], row["rule"]) for row in rows] == [
        ("prefill", "the largest kind decides, since it takes 50% or more"),
        ("unattributed", "the largest kind decides, since it takes 50% or more"),
    ]
    assert cli.main(["stages", path, "--explain", "--stage", "prefill"]) == 0
    assert "How the verdicts were reached" in capsys.readouterr().out
    assert cli.main(["stages", path]) == 0
    assert "How the verdicts were reached" not in capsys.readouterr().out
