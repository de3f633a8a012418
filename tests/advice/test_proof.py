"""The arithmetic of `python -m analysis.prove_advice`: savings with their errors, and what is said of ceilings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.proof.cases import CASES, FAULTS, TOGETHER, Case, Model
from analysis.proof.end_to_end import Checked, checked_table, saved_by
from analysis.proof.outcomes import Outcome, Saving, alone_table, leads, outcomes_of, together_table, verdict
from gemma_trace.advice.findings import Abstention, Advice, Ceiling, Confidence, Finding
from gemma_trace.advice.registry import RULES

MS = 1_000_000


def advice(**ceilings_ms: int) -> Advice:
    """Findings of these rules in this order."""
    findings = tuple(
        Finding(rule, "", "", "", Ceiling((most * MS,) * 3, (900 * MS,) * 3), Confidence.HIGH, "", "")
        for rule, most in ceilings_ms.items()
    )
    return Advice(findings, 0, 0, 0.0, 3, (Abstention("low_precision", "no bfloat16", ""),))


def of(saved_ms: dict[str, list[float]], found: Advice) -> list[Outcome]:
    case = Case(TOGETHER, tuple(saved_ms), Model())
    return outcomes_of(case, [FAULTS[name] for name in saved_ms], saved_ms, found)


def test_every_fault_is_of_a_rule_and_has_a_case_of_its_own() -> None:
    assert {fault.rule for fault in FAULTS.values()} <= {rule.name for rule in RULES}
    assert sorted(case.name for case in CASES) == sorted([*FAULTS, TOGETHER])


def test_a_saving_is_a_median_that_outliers_do_not_move() -> None:
    assert Saving.of([10.0, 11.0, 9.0, 10.0, 5000.0]).median_ms == 10
    assert Saving.of([7.0] * 9) == Saving(7, 7, 7)
    wide = Saving.of([0.0, 100.0] * 10)
    assert wide.low_ms < wide.median_ms < wide.high_ms


@pytest.mark.parametrize(
    ("saved", "answer"),
    [
        ([50.0] * 9, "yes"),
        ([90.0] * 6 + [130.0] * 5, "yes, but not with its error"),
        ([90.0] * 5 + [130.0] * 6, "above, by less than its error"),
        ([130.0] * 9, "**no**"),
    ],
)
def test_a_ceiling_of_100_ms_holds_or_not(saved: list[float], answer: str) -> None:
    (outcome,) = of({"loader": saved}, advice(image_load=100))
    assert (outcome.within, outcome.place) == (answer, 1)
    assert of({"attention": saved}, advice(image_load=100))[0].within == "**not found**"
    noisy = replace(advice(), hidden=advice(image_load=100).findings, under_noise=1)
    (outcome,) = of({"loader": saved}, noisy)
    assert (outcome.within, outcome.place) == (answer, None)
    assert "under the noise" in alone_table([outcome])
    assert of({"float32": saved}, advice(image_load=100))[0].within == "abstains: no bfloat16"


def test_the_order_is_certain_where_each_saves_more_in_the_same_passes() -> None:
    # The passes differ by 400 ms, and within each the loader saves 10 ms more.
    slower = [float(place % 2 * 400) for place in range(20)]
    saved = {"attention": [90 + more for more in slower], "loader": [100 + more for more in slower]}
    found = of(saved, advice(image_load=900, unfused_attention=800))
    assert [outcome.fault.name for outcome in found] == ["loader", "attention"]
    assert leads(found) == [Saving(10, 10, 10)]
    assert verdict(found).startswith("The order of the savings is certain")
    assert "has the same order, and what saves most is its first" in verdict(found)
    assert "| 1 | 1 |" in together_table(found)
    turned = of(saved, advice(unfused_attention=900, image_load=800))
    assert "**another** order, and what saves most **is not** its first" in verdict(turned)
    unseen = of(saved, advice(image_load=900))
    assert "has the same order without 1 of the 2, and what saves most is its first" in verdict(unseen)
    alike = of({"loader": [100.0, 0.0] * 9, "attention": [0.0, 99.0] * 9}, advice(image_load=900))
    assert "**not certain**" in verdict(alike)


def test_what_a_command_said_is_read_off_its_answer() -> None:
    row = {"level": "stage", "stage": "ttft", "timing": "timed", "difference_ms": -30.0}
    answer = {"rows": [row | {"interval_low_ms": -50.0, "interval_high_ms": -10.0}]}
    assert saved_by(answer) == (30, 10, 50)
    assert saved_by({"rows": [row | {"timing": "profiled"}]}) is None
    checks = [
        Checked(FAULTS["threads"], "gemma-trace compare", 40.0, saved_by(answer)),
        Checked(FAULTS["float32"], "", 0.0, None, "the rule found nothing"),
    ]
    assert "| `gemma-trace compare` | 30.0 (10.0 to 50.0) | 40.0 |" in checked_table(checks)
    assert "| `low_precision` | – | the rule found nothing | – |" in checked_table(checks)
