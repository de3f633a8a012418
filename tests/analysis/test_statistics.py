from __future__ import annotations

import math

import pytest

from gemma_trace.analysis.statistics import Distribution, distribution_ms


def test_values_worked_out_by_hand() -> None:
    found = Distribution((4.0, 1.0, 3.0, 2.0, 10.0), "ms")
    assert (found.n, found.median, found.mean, found.min, found.max) == (5, 3.0, 4.0, 1.0, 10.0)
    assert found.std == pytest.approx(math.sqrt((0 + 9 + 1 + 4 + 36) / 4))
    assert found.population_std == pytest.approx(math.sqrt(50 / 5))
    assert (found.q1, found.q3, found.iqr) == (2.0, 4.0, 2.0)
    assert found.max_deviation == 7.0
    assert found.is_noisy


def test_the_interval_holds_the_median_and_is_the_same_every_time() -> None:
    values = tuple(float(value) for value in range(1, 31))
    low, high = Distribution(values, "ms").median_interval or (0, 0)
    assert low < 15.5 < high
    assert low > 8
    assert high < 23
    assert Distribution(values, "ms").median_interval == (low, high)


def test_what_few_values_do_not_tell_is_none() -> None:
    assert Distribution((1.0,), "ms").std is None
    assert Distribution((1.0,) * 4, "ms").median_interval is None
    assert Distribution((1.0,) * 99, "ms").p99 is None
    assert Distribution(tuple(map(float, range(101))), "ms").p99 == 99.0


def test_no_values_are_no_distribution() -> None:
    assert distribution_ms([]) is None
    with pytest.raises(ValueError, match="at least one"):
        Distribution((), "ms")


def test_steady_values_are_not_noisy() -> None:
    assert not Distribution((100.0, 101.0, 102.0, 103.0), "ms").is_noisy
