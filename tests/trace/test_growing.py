"""Columns that grow, and those that take no memory while there is nothing in them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gemma_trace.trace import growing
from gemma_trace.trace.events import NONE, WIDE_COLUMNS
from gemma_trace.trace.growing import GrowingColumn, OptionalColumn, rows_of
from tests.trace.test_reader import event, read, text_of


def test_a_column_grows_beyond_what_it_began_with() -> None:
    column = GrowingColumn(np.int32)
    for start in range(0, 5000, 500):
        column.extend(range(start, start + 500))
    assert len(column) == 5000
    assert column.take().tolist() == list(range(5000))


def test_a_large_column_holds_little_more_than_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "LARGE_BYTES", 1 << 16)
    column = GrowingColumn(np.int64)
    shares = []
    tracemalloc.start()
    try:
        for start in range(0, 100_000, 500):
            column.extend(range(start, start + 500))
            shares.append(tracemalloc.get_traced_memory()[0] / (len(column) * 8))
    finally:
        tracemalloc.stop()
    assert max(shares[100:]) < 1.2
    assert column.take().tolist() == list(range(100_000))


def test_a_column_without_values_takes_no_memory_and_is_none_everywhere() -> None:
    column = OptionalColumn(np.int64)
    column.extend(3, [], ())
    column.extend(2, [1], [NONE])
    found = column.take()
    assert column.is_empty
    assert (found.tolist(), found.strides) == ([NONE] * 5, (0,))
    assert found.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


@pytest.mark.parametrize("before", [0, 3, 3000])
def test_the_first_value_fills_up_the_rows_before_it(before: int) -> None:
    column = OptionalColumn(np.int32)
    column.extend(before, [], ())
    column.extend(4, [1, 3], [7, NONE])
    column.extend(2, slice(None), [8, 9])
    column.extend(1, [], ())
    assert not column.is_empty
    assert column.take().tolist() == [NONE] * before + [NONE, 7, NONE, NONE, 8, 9, NONE]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**31 - 1, np.int32), (2**31, np.int64), (-(2**31), np.int32), (-(2**31) - 1, np.int64), (2**63 - 1, np.int64)],
)
@pytest.mark.parametrize("before", [[], [[5, NONE]], [[NONE]], [[5], [2**40, 6]]])
def test_a_column_is_as_wide_as_its_values_need(value: int, dtype: type, before: list[list[int]]) -> None:
    column = OptionalColumn(np.int64)
    for values in [*before, [value, 7]]:
        column.extend(len(values), slice(None), np.array(values, dtype=np.int64))
    found = column.take()
    given = [*(each for values in before for each in values), value, 7]
    assert found.tolist() == given
    assert found.dtype == (np.int64 if 2**40 in given else dtype)


def test_narrow_and_wide_parts_make_one_column() -> None:
    column = OptionalColumn(np.int64)
    for part in (np.array([1, 2], np.int32), np.array([2**35], np.int64), np.array([3], np.int32)):
        column.extend(len(part), slice(None), part)
    assert column.take().tolist() == [1, 2, 2**35, 3]


def test_what_fits_into_32_bits_is_kept_so_and_given_out_in_64(tmp_path: Path) -> None:
    events = read(tmp_path, text_of(event(args={"correlation": 2**31, "stream": 7}), event(ts=9))).events
    assert [events.correlation.dtype.itemsize, events.stream.dtype.itemsize] == [8, 4]
    assert events.correlation.tolist() == [2**31, NONE]
    frame = events.to_frame()
    assert {frame[name].dtype for name in WIDE_COLUMNS} == {np.dtype(np.int64)}


def test_rows_in_another_order_stay_one_value_where_it_is_one() -> None:
    nothing = OptionalColumn(np.int32)
    nothing.extend(4, [], ())
    assert rows_of(nothing.take(), np.array([3, 2, 1, 0])).strides == (0,)
    assert rows_of(np.array([4, 5, 6]), np.array([2, 0, 1])).tolist() == [6, 4, 5]


def test_only_columns_that_some_span_has_take_memory(tmp_path: Path) -> None:
    events = read(tmp_path, text_of(event(), event(ts=6, args={"stream": 7}), event(ts=7))).events
    assert events.stream.tolist() == [NONE, 7, NONE]
    assert events.correlation.tolist() == [NONE] * 3
    assert (events.stream.strides, events.correlation.strides) == ((4,), (0,))
    assert events.to_frame()["grid"].isna().all()
