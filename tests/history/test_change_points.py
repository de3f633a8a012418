"""Changes of level in series of numbers: by hand, planted in noise, and false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.history.change_points import FEWEST, drawn_in, shifts
from tests.conftest import thorough

NOISE = 0.02


def noisy(seed: int, *levels: tuple[int, float]) -> np.ndarray:
    random = np.random.default_rng(seed)
    means = np.concatenate([np.full(count, level) for count, level in levels])
    return means * (1 + NOISE * random.standard_normal(len(means)))


def test_a_step_without_noise_is_found_to_the_run() -> None:
    (shift,) = shifts(np.array([10.0] * 7 + [12.0] * 5))
    assert (shift.place, shift.before, shift.after, shift.p_value) == (7, 10.0, 12.0, 0.0)
    assert (shift.low, shift.high) == (2.0, 2.0)


def test_the_interval_is_students_by_hand() -> None:
    side = np.array([1.0, 2.0, 3.0, 2.0, 2.0, 2.0, 2.0])
    (shift,) = shifts(np.append(side, 100 + side))
    # Each side has the variance 1/3: the error is sqrt(2 / 3 / 7), with t = 2.1788 for 12 degrees of freedom.
    assert shift.difference == pytest.approx(100)
    assert shift.high - shift.difference == pytest.approx(2.1788128 * (2 / 21) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [3.0] * 50, [0.0] * 20])
def test_too_few_or_equal_values_have_no_change(values: list[float]) -> None:
    assert shifts(np.array(values, dtype=float)) == []


@pytest.mark.parametrize("after", [FEWEST, 60, *thorough([10])])
def test_a_tenth_in_noise_of_a_fiftieth_is_found_at_its_place(after: int) -> None:
    found = [[shift.place for shift in shifts(noisy(seed, (60, 1.0), (after, 1.1)))] for seed in range(20)]
    assert sum(60 in places for places in found) >= 19
    assert sum(len(places) for places in found) <= 22


def test_a_change_that_was_undone_is_two() -> None:
    found = shifts(noisy(3, (40, 1.0), (10, 1.1), (40, 1.0)))
    assert [shift.place for shift in found] == [40, 50]
    assert found[0].low < 0.1 < found[0].high
    assert found[1].difference < -0.08


def test_series_without_a_change_show_one_as_rarely_as_said() -> None:
    alarms = sum(bool(shifts(noisy(seed, (60, 1.0)))) for seed in range(200))
    assert alarms <= 6, "1 in 100 is what is said; of 200 more than 6 have a probability of 0.4%"


def test_single_bad_nights_are_no_change() -> None:
    values = noisy(5, (60, 1.0))
    values[[20, 40]] = 2.0
    assert shifts(values) == []
    assert drawn_in(values).max() < 1.15


def test_the_same_series_has_the_same_changes_whatever_its_unit() -> None:
    values = noisy(7, (30, 1.0), (30, 1.04))
    places = [shift.place for shift in shifts(values)]
    assert places == [shift.place for shift in shifts(values)]
    assert places == [shift.place for shift in shifts(1e9 * values)]


@settings(max_examples=60)
@given(st.lists(st.floats(-1e12, 1e12) | st.sampled_from([0.0, 1.0]), max_size=40))
def test_whatever_the_values_changes_are_in_order_and_far_enough_apart(values: list[float]) -> None:
    found = shifts(np.array(values))
    edges = [0, *(shift.place for shift in found), len(values)]
    if found:
        assert min(np.diff(edges)) >= FEWEST
    for shift in found:
        assert np.isfinite([shift.before, shift.after, shift.low, shift.high]).all()
        assert shift.low <= shift.difference <= shift.high
