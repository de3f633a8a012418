from __future__ import annotations

import re

import pytest

from gemma_trace.store.columns import StoreTable
from gemma_trace.store.schema import TABLES
from gemma_trace.store.tables import decoded, encoded, table_of

ENDINGS = {"ns": "_ns", "bytes": "_bytes", "%": "_pct"}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_columns_name_says_its_unit_and_times_are_whole_ns(table: StoreTable) -> None:
    assert table.keys[0] == "run_id"
    assert len(set(table.keys)) == len(table.keys)
    for column in table.columns:
        assert column.definition
        assert re.fullmatch(r"[a-z_]+", column.key)
        ending = next((unit for unit, end in ENDINGS.items() if column.key.endswith(end)), "")
        assert column.unit == ending, column.key
        if column.unit in ("ns", "bytes"):
            assert column.type == "int64", column.key


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_what_was_written_comes_back(table: StoreTable, small: bool) -> None:
    values = {"string": "a\x1b\u202eß", "int64": 2**62 + 1, "int32": 2**31 - 1, "float64": 0.1}
    full = {column.key: values[column.type] for column in table.columns}
    sparse = {column.key: None if column.is_optional else values[column.type] for column in table.columns}
    content = table_of([full, sparse], table)
    assert decoded(encoded(content, small=small), table, "x").to_pylist() == [full, sparse]
    assert encoded(content, small=small) == encoded(content, small=small)


def test_a_column_that_a_file_lacks_is_null_and_one_that_it_has_beside_ours_is_passed_over() -> None:
    import pyarrow as pa

    table = TABLES["decode"]
    row = {"run_id": "a", "series": 1, "source": "timed", "batch": 1, "intervals": 1, "sum_ns": 1, "tpot_ns": 1}
    content = table_of([row], table).drop_columns(["jitter_pct"])
    later = encoded(content.append_column("of_a_later_version", pa.array([1])))
    assert decoded(later, table, "x").to_pylist() == [dict.fromkeys(table.keys) | row]
