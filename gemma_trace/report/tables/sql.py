"""The result of a query, and the tables that queries find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from gemma_trace.printable import printable
from gemma_trace.report.number_text import significant
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import LABEL, WORDS, Unit
from gemma_trace.store.columns import StoreTable

if TYPE_CHECKING:
    import pyarrow as pa

ON_A_SCREEN: Final = 100
"""So many rows people see, unless they ask for another number."""


def _whole_text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _value_text(value: Any) -> str:
    return significant(value) if isinstance(value, float) and value - value == 0 else str(value)


_WHOLE: Final = Unit("", _whole_text)
_FLOAT: Final = Unit("", _value_text)
_TEXT: Final = Unit("", _value_text, "left", "fold", "text")


def sql_report(table: pa.Table, source: Sequence[str], top: int | None) -> Report:
    """A result with its columns as the query calls them.

    Args:
        top: so many rows are shown, and in files; 0 is all; None is all in files, and on a screen the first.
    """
    cols = tuple(_col(place, name, kind) for place, (name, kind) in enumerate(zip(*_columns(table), strict=True)))
    values = [column.to_pylist() for column in table.columns]
    data: Table[Any] = Table("Result", cols, list(zip(*values, strict=True)))
    shown = data.cut(ON_A_SCREEN if top is None else top)
    return Report("sql", source, (shown,), data if top is None else shown)


def _columns(table: pa.Table) -> tuple[list[str], list[pa.DataType]]:
    return table.column_names, table.schema.types


def _col(place: int, name: str, kind: pa.DataType) -> Col:
    import pyarrow as pa

    unit = _WHOLE if pa.types.is_integer(kind) else _FLOAT if pa.types.is_floating(kind) else _TEXT
    return Col(name, printable(name), unit, value=itemgetter(place))


@dataclass(frozen=True)
class _Line:
    """A column of a table."""

    table: str
    column: str
    type: str
    unit: str
    definition: str


SCHEMA_COLS: Final = (
    Col("table", "table", definition="the table", is_grouped=True),
    Col("column", "column", definition="its column"),
    Col("type", "type", definition="`string`, `int64`, `int32`, `float64` or `bool`, as Arrow calls them"),
    Col("unit", "unit", definition="`ns`, `bytes` or `%`; empty where there is none"),
    Col("definition", "definition", WORDS, definition="what it is, in Markdown"),
)
"""A row per column; of `--schema`."""

_TABLE_COLS: Final = (Col("table", "table"), Col("definition", "a row is", LABEL))


def schema_report(tables: Mapping[str, StoreTable], source: Sequence[str], title: str) -> Report:
    """Which columns the tables have: for people each table with what a row is, for files a row per column."""
    lines = [
        _Line(name, column.key, column.type, column.unit, column.definition)
        for name, table in tables.items()
        for column in table.columns
    ]
    data: Table[Any] = Table(title, SCHEMA_COLS, lines)
    about: Table[Any] = Table(
        f"{title}: tables", _TABLE_COLS, [_Line(name, "", "", "", table.definition) for name, table in tables.items()]
    )
    definitions = {name: table.definition for name, table in tables.items()}
    return Report("sql", source, (about, data), data, {"tables": definitions})
