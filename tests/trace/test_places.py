"""The rows of a value, looked up."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis.strategies import integers, lists

from gemma_trace.trace.places import Places, distinct


@given(lists(integers(-3, 2**40), max_size=30))
def test_the_places_of_each_value_are_those_that_a_search_finds(values: list[int]) -> None:
    column = np.array(values, dtype=np.int64)
    places = Places(column)
    assert [value for value, _ in places] == sorted(set(values))
    for value, found in places:
        assert found.tolist() == np.flatnonzero(column == value).tolist() == places.of(value).tolist()
    assert places.of(-4).tolist() == []
    assert distinct(column).tolist() == np.unique(column).tolist() == sorted(set(values))
    assert distinct(column.reshape(1, -1) > 2).tolist() == sorted({value > 2 for value in values})
