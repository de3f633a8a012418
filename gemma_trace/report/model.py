"""`Report`: the one type between the analysis and every renderer. Plain and serialisable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from gemma_trace.health.findings import Health

SCHEMA_VERSION: Final = 1
"""Of the JSON; raised when a key changes its meaning."""


@dataclass(frozen=True)
class Column:
    """A column of a table for people.

    Attributes:
        header: with the unit.
        priority: 0 is never dropped; where the terminal is narrow the highest go first.
        overflow: what happens to cells for which there is no room: none may lack it, or they go on in the next
            line, or they end in an ellipsis.
        holds: what a terminal may colour: the bars, measures that are marked as noisy, and words like "slower".
    """

    header: str
    priority: int = 0
    align: Literal["left", "right"] = "right"
    overflow: Literal["never", "fold", "ellipsis"] = "never"
    holds: Literal["text", "bar", "measure", "status"] = "text"


@dataclass(frozen=True)
class Section:
    """A table for people: cells are text already.

    Attributes:
        footer: a last row set apart, e.g. the sum.
        notes: lines under the table.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in (*self.rows, *([self.footer] if self.footer else [])):
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns")

    def mapped(self, change: Callable[[str], str]) -> Section:
        """The table with every text in it changed."""
        return Section(
            change(self.title),
            tuple(replace(column, header=change(column.header)) for column in self.columns),
            tuple(tuple(map(change, row)) for row in self.rows),
            None if self.footer is None else tuple(map(change, self.footer)),
            tuple(map(change, self.notes)),
        )


@dataclass(frozen=True)
class Report:
    """What a command has to say: tables for people, records for machines.

    Attributes:
        source: the files it is of, as they were named.
        records: a mapping a row, keys with their units, numbers raw.
        totals: of the records.
    """

    command: str
    source: Sequence[str]
    sections: tuple[Section, ...]
    records: Sequence[Mapping[str, Any]]
    totals: Mapping[str, Any] = field(default_factory=dict)
    health: Health = field(default_factory=Health)

    def extended(self, sections: Sequence[Section], totals: Mapping[str, Any]) -> Report:
        """The report with more tables at its end, and what they are of among the totals."""
        return replace(self, sections=(*self.sections, *sections), totals={**self.totals, **totals})
