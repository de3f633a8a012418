"""A table whose cells are text already: what the terminal and Markdown lay out, and nobody calculates with."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Align = Literal["left", "right"]
Overflow = Literal["never", "fold", "ellipsis"]
Holds = Literal["text", "name", "stage", "number", "bar", "measure", "status"]


@dataclass(frozen=True)
class TextColumn:
    """A column of a table for people.

    Attributes:
        header: with the unit.
        priority: a column of priority 0 is never dropped; where the terminal is narrow the highest go first.
        overflow: what happens to cells for which there is no room: none may lack it, or they go on in the next
            line, or they end in an ellipsis.
        holds: what a renderer may mark: bars, measures that are noisy, stages, and words like "slower".
    """

    header: str
    priority: int = 0
    align: Align = "right"
    overflow: Overflow = "never"
    holds: Holds = "text"


@dataclass(frozen=True)
class TextTable:
    """A table for people: cells are text already.

    Attributes:
        footer: a last row set apart, e.g. the sum.
        notes: the lines under the table.
        about: of the notes that speak of some columns alone, the places of these columns.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    title: str
    columns: tuple[TextColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    about: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in (*self.rows, *([self.footer] if self.footer else [])):
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {len(row)} cells in a table of {len(self.columns)} columns")

    def notes_beside(self, kept: Container[int]) -> tuple[str, ...]:
        """The notes without those that speak of columns alone of which none is kept.

        Args:
            kept: the places of the columns that there is room for.
        """
        return tuple(
            note for note in self.notes if note not in self.about or any(place in kept for place in self.about[note])
        )

    def mapped(self, change: Callable[[str], str]) -> TextTable:
        """The table with every text in it changed."""
        return TextTable(
            change(self.title),
            tuple(replace(column, header=change(column.header)) for column in self.columns),
            tuple(tuple(map(change, row)) for row in self.rows),
            None if self.footer is None else tuple(map(change, self.footer)),
            tuple(map(change, self.notes)),
            {change(note): places for note, places in self.about.items()},
        )
