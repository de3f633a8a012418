"""Intervals of a difference between sides of nested requests, beside closed forms and beside what was planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gemma_trace.analysis.nested import difference, holm
from gemma_trace.analysis.noise import DEFAULT_PCT, NoiseFloor, measured_floor
from gemma_trace.analysis.student_t import critical_value, two_sided_p
from gemma_trace.errors import InputError

TABLE = [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799)]
"""The 97.5% quantiles of Student's t (Abramowitz & Stegun 1964, table 26.10)."""


@pytest.mark.parametrize(("df", "expected"), TABLE)
def test_quantiles_are_those_of_the_table(df: int, expected: float) -> None:
    assert critical_value(0.95, df) == pytest.approx(expected, abs=6e-5)
    assert two_sided_p(expected, df) == pytest.approx(0.05, abs=5e-6)


def test_of_one_and_two_degrees_the_distribution_is_closed() -> None:
    for t in (0.1, 1.0, 7.0, 300.0):
        assert two_sided_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), rel=1e-6)
        assert two_sided_p(-t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-6)
    assert two_sided_p(math.inf, 3) == 0
    assert two_sided_p(0, 3) == pytest.approx(1)


def test_single_requests_paired_are_students_interval() -> None:
    """Of one request per process nothing is left but the paired t-test: its interval, in closed form."""
    before, after = [10.0, 12.0, 11.0, 14.0, 13.0], [10.5, 12.9, 11.2, 15.1, 13.3]
    apart = np.subtract(after, before)
    reach = critical_value(0.95, 4) * apart.std(ddof=1) / math.sqrt(5)
    found = difference([[value] for value in before], [[value] for value in after], paired=True)
    assert found.value == pytest.approx(apart.mean())
    assert found.interval is not None
    assert found.interval == pytest.approx((apart.mean() - reach, apart.mean() + reach), rel=0.08)
    assert found.is_between_processes


def test_one_process_a_side_has_an_interval_of_its_requests_and_no_p_value() -> None:
    found = difference([[1.0, 2.0, 3.0, 4.0, 5.0]], [[11.0, 12.0, 13.0, 14.0, 15.0]], paired=False)
    assert found.value == 10
    assert found.interval is not None
    assert 6 <= found.interval[0] < 10 < found.interval[1] <= 14
    assert found.p_value is None
    assert not found.is_between_processes
    assert difference([[1.0] * 4], [[2.0] * 9], paired=False).interval is None


def test_what_is_the_same_in_every_process_is_certain() -> None:
    found = difference([[5.0, 5.0]] * 3, [[7.0, 7.0]] * 3, paired=False)
    assert (found.value, found.interval, found.p_value) == (2.0, (2.0, 2.0), 0.0)
    assert difference([[5.0]] * 3, [[5.0]] * 3, paired=True).p_value == 1.0


def test_requests_that_resemble_each_other_widen_the_interval() -> None:
    """Twelve requests that come in threes hold what four do."""
    random = np.random.default_rng(3)
    fours = random.normal(100, 5, size=(2, 4))
    alike = [np.repeat(side, 3).tolist() for side in fours]
    mixed = [random.permutation(side).tolist() for side in alike]
    widths = []
    for sides in (alike, mixed):
        interval = difference([sides[0]], [sides[1]], paired=False).interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] > 1.15 * widths[1]


@pytest.mark.parametrize("paired", [True, False])
def test_false_alarms_stay_at_five_percent_and_a_planted_change_is_found(paired: bool) -> None:
    """80 pairs of sides of 5 processes with 8 requests, whose processes and rounds differ by 3% each."""
    random = np.random.default_rng(11)

    def side(rounds: np.ndarray, factor: float) -> list[list[float]]:
        processes = 100 * factor * np.exp(rounds + random.normal(0, 0.03, 5))
        return [(process * np.exp(random.normal(0, 0.02, 8))).tolist() for process in processes]

    false = found = 0
    for _ in range(80):
        rounds = random.normal(0, 0.03 if paired else 0, 5)
        before = side(rounds, 1)
        false += (difference(before, side(rounds, 1), paired=paired).p_value or 0) < 0.05
        found += (difference(before, side(rounds, 1.15), paired=paired).p_value or 0) < 0.05
    assert false <= 9, "more than 11% of 80 would be beyond the chance of a rate of 5%"
    assert found >= 70


def test_holm_steps_down() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_noise_floor_is_a_prediction_interval() -> None:
    """Medians of 100, 110 and 121: logarithms 0.0953 apart, so s = 0.0953; t of 2 degrees is 4.3027."""
    runs = [{"ttft": [median], "rare": [median]} for median in (100.0, 110.0, 121.0)]
    del runs[0]["rare"]
    floor = measured_floor(runs, "nightly")
    assert floor.limits_pct == {"ttft": pytest.approx(100 * 4.3027 * math.sqrt(2) * math.log(1.1), rel=1e-4)}
    assert floor.limit_pct("rare") == floor.limit_pct("ttft"), "what has no figure gets the largest of the others"
    with pytest.raises(InputError, match="nightly has 2 runs"):
        measured_floor(runs[:2], "nightly")


def test_a_floor_is_a_share_of_the_row_and_at_least_a_thousandth_of_the_whole() -> None:
    assert NoiseFloor().limit_ms("prefill", 40, 100) == pytest.approx(40 * DEFAULT_PCT / 100)
    assert NoiseFloor().limit_ms("tokenization", 0.01, 1000) == pytest.approx(1.0)
