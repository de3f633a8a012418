"""A column, a table of raw rows, and a report: the types between the analysis and every renderer.

A column is declared once, with its name in files, its header, its unit and its definition. A table is a choice of
columns and the rows that the analysis found. Renderers ask it for text (`Table.as_text`) or for values
(`Table.records`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

from gemma_trace.health.findings import Health
from gemma_trace.report.number_text import NOISY_MARK, NOISY_NOTE
from gemma_trace.report.text_table import TextColumn, TextTable
from gemma_trace.report.units import TEXT, Unit
from gemma_trace.store.columns import StoreColumn

SCHEMA_VERSION: Final = 1
"""The version of the JSON; it is raised when a key changes its meaning."""

Row = TypeVar("Row", covariant=True)


@dataclass(frozen=True)
class Col:
    """A column. Tables are passed between processes, so its functions are those of modules, not lambdas.

    Attributes:
        key: its name in files, with the unit.
        header: its name in tables, without the unit.
        unit: what its values are; how they read in a table, unless `show` says it.
        show: a value other than None as text.
        definition: in Markdown, for analysis/README.md and the page; "" where the column is in no file.
        priority: a column of priority 0 is always shown; where the terminal is narrow the highest go first.
        when: the condition of the table under which people see the column; "" is always.
        value: what a row has in it: a function of the row, or the name of an attribute; dotted where it is an attribute
            of an attribute, which may be None. The default is the attribute `key`.
        is_sum: whether the rows are sums over the requests, of which people see the mean.
        is_grouped: whether people see a value only where it differs from the one above.
    """

    key: str
    header: str = ""
    unit: Unit = TEXT
    show: Callable[[Any], str] | None = None
    definition: str = ""
    priority: int = 0
    when: str = ""
    value: str | Callable[[Any], Any] | None = None
    is_sum: bool = False
    is_grouped: bool = False

    @classmethod
    def stored(cls, column: StoreColumn, header: str = "", unit: Unit = TEXT, **more: Any) -> Col:
        """A column that a store has too, where its name and its definition are declared.

        Args:
            more: any other attributes.
        """
        return cls(column.key, header, unit, **{"definition": column.definition, **more})

    @property
    def head(self) -> str:
        """The header with the unit."""
        return f"{self.header} {self.unit.suffix}".strip()

    def raw(self, row: Any) -> Any:
        """What a row has in this column."""
        if callable(self.value):
            return self.value(row)
        value = row
        for name in (self.value or self.key).split("."):
            value = None if value is None else getattr(value, name)
        return value

    def text(self, raw: Any, per: float = 1) -> str:
        """A value as people read it.

        Args:
            per: how many requests a sum is of.
        """
        if raw is None:
            return self.unit.absent
        return (self.show or self.unit.show)(raw / per if self.is_sum else raw)

    def at(self, priority: int, when: str | None = None) -> Col:
        """This column with another priority, and another condition if one is given."""
        return replace(self, priority=priority, when=self.when if when is None else when)

    def of(self, value: str | Callable[[Any], Any], show: Callable[[Any], str] | None = None) -> Col:
        """This column with another value, and another text for it if one is given."""
        return replace(self, value=value, show=show or self.show)

    def within(self, attribute: str) -> Col:
        """This column for rows that hold the original row in an attribute."""
        if callable(self.value):
            return replace(self, value=partial(_inside, attribute, self.value))
        return replace(self, value=f"{attribute}.{self.value or self.key}")


def _inside(attribute: str, value: Callable[[Any], Any], row: Any) -> Any:
    inner = getattr(row, attribute)
    return None if inner is None else value(inner)


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Columns and rows. Rows are what the analysis found; every value is raw.

    Attributes:
        totals: a last row set apart: values by the column's key.
        notes: the lines under the table.
        conditions: which of the columns' `when` hold.
        per: how many requests the sums in its columns are of.
        rows_total: how many rows there were before some were left out; None where all are there.

    Raises:
        ValueError: there is a total of a column that the table doesn't have.
    """

    title: str
    cols: tuple[Col, ...]
    rows: Sequence[Row]
    totals: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    conditions: frozenset[str] = frozenset()
    per: float = 1
    rows_total: int | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.totals) - {col.key for col in self.cols}:
            raise ValueError(f"totals of columns that the table {self.title!r} doesn't have: {', '.join(unknown)}")

    @property
    def shown(self) -> tuple[Col, ...]:
        """The columns that people see."""
        return tuple(col for col in self.cols if not col.when or col.when in self.conditions)

    @property
    def left_out(self) -> int:
        """How many rows there were that aren't in it."""
        return 0 if self.rows_total is None else self.rows_total - len(self.rows)

    def cut(self, top: int, note: str = "{} more rows: --top 0 shows all.") -> Table[Row]:
        """The table with its first rows alone, and a note that counts the others.

        Args:
            top: how many rows; 0 is all.
            note: where `{}` stands for the number of the others; "" is no note.
        """
        if not top or len(self.rows) <= top:
            return self
        left = len(self.rows) - top
        notes = (note.format(f"{left:,}"), *self.notes) if note else self.notes
        return replace(self, rows=self.rows[:top], rows_total=len(self.rows), notes=notes)

    def texts(self, row: Any) -> tuple[str, ...]:
        """The cells of a row as people read them."""
        return tuple(col.text(col.raw(row), self.per) for col in self.shown)

    def footer(self) -> tuple[str, ...] | None:
        """The totals as people read them; None where there are none."""
        if not self.totals:
            return None
        return tuple(col.text(self.totals[col.key], self.per) if col.key in self.totals else "" for col in self.shown)

    def as_text(self) -> TextTable:
        """The table as people read it; a note says so where a measure is noisy."""
        shown = self.shown
        rows = [self.texts(row) for row in self.rows]
        measures = [place for place, col in enumerate(shown) if col.unit.holds == "measure"]
        is_noisy = any(row[place].endswith(NOISY_MARK) for row in rows for place in measures)
        return TextTable(
            self.title,
            tuple(
                TextColumn(col.head, col.priority, col.unit.align, col.unit.overflow, col.unit.holds) for col in shown
            ),
            tuple(_ungrouped(shown, rows)),
            self.footer(),
            (*self.notes, *((NOISY_NOTE,) if is_noisy else ())),
        )

    def records(self) -> list[dict[str, Any]]:
        """For files: a mapping per row, raw values by the columns' keys."""
        return [{col.key: col.raw(row) for col in self.cols} for row in self.rows]


def holding(conditions: Mapping[str, bool]) -> frozenset[str]:
    """Those of the conditions that hold."""
    return frozenset(name for name, holds in conditions.items() if holds)


def _ungrouped(shown: Sequence[Col], rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows, with a grouped cell left blank where it and the grouped ones before it are like those above."""
    grouped = [place for place, col in enumerate(shown) if col.is_grouped]
    rows_of_text: list[tuple[str, ...]] = []
    for place, row in enumerate(rows):
        cells = list(row)
        for column in grouped if place else ():
            if row[column] != rows[place - 1][column]:
                break
            cells[column] = ""
        rows_of_text.append(tuple(cells))
    return rows_of_text


@dataclass(frozen=True)
class Report:
    """What a command has to say.

    Attributes:
        source: the files that it is of, as they were named.
        tables: what people see.
        data: what files have: its rows, with all their columns.
        totals: what files have beside the rows; a table among them stands for its records.
    """

    command: str
    source: Sequence[str]
    tables: tuple[Table[Any], ...]
    data: Table[Any]
    totals: Mapping[str, Any] = field(default_factory=dict)
    health: Health = field(default_factory=Health)

    def extended(self, tables: Sequence[Table[Any]], totals: Mapping[str, Any]) -> Report:
        """The report with more tables at its end, and what they are of among the totals."""
        return replace(self, tables=(*self.tables, *tables), totals={**self.totals, **totals})
