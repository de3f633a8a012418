"""Results that are tables: what a notebook shows of them, and their rows as a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gemma_trace.wording import counted

if TYPE_CHECKING:
    import pandas as pd

HEAD: Final = 8
"""So many rows of a result are shown where it is printed."""

_WIDEST: Final = 44

Row = TypeVar("Row")


class Tabular:
    """A result that is a table. A subclass says what its rows are."""

    def records(self) -> Iterable[Mapping[str, Any]]:
        """The rows, each by the name of its columns; all have the same."""
        raise NotImplementedError

    def headline(self) -> str:
        """What the result is, in a line."""
        return type(self).__name__

    def to_frame(self) -> pd.DataFrame:
        """All rows as a DataFrame: one row per row, times in integer ns where the column's name ends in `_ns`."""
        import pandas as pd

        return pd.DataFrame(list(self.records()))

    def __repr__(self) -> str:
        rows = iter(self.records())
        shown = [{name: _text(value) for name, value in row.items()} for row in islice(rows, HEAD)]
        more = sum(1 for _ in rows)
        if not shown:
            return f"{self.headline()}: no rows"
        widths = {name: max(len(name), *(len(row[name]) for row in shown)) for name in shown[0]}
        lines = ["  ".join(f"{name:>{width}}" for name, width in widths.items())]
        lines += ["  ".join(f"{row[name]:>{width}}" for name, width in widths.items()) for row in shown]
        return "\n".join(
            [self.headline(), *lines, *([f"… and {more:,} more rows; to_frame() has all"] if more else [])]
        )

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.headline())}</p>{self.to_frame().to_html(max_rows=2 * HEAD, notebook=True)}"


class Rows(Tabular, list[Row]):
    """A list of results of one kind, each a dataclass, which is a table of a row each as well."""

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per result, with its fields."""
        return (dict(fields_of(row)) for row in self)

    def headline(self) -> str:
        """How many there are, of what."""
        return f"{counted(len(self), 'row')} of {type(self[0]).__name__}" if self else type(self).__name__


def fields_of(row: object) -> Iterator[tuple[str, Any]]:
    """The fields of a row that is a dataclass, in order."""
    assert is_dataclass(row)
    yield from ((field.name, getattr(row, field.name)) for field in fields(row))


def nullable(kind: object) -> object:
    """What pandas is to make of an Arrow type: a column of integers that has NULLs stays one; None is the usual."""
    import pandas as pd
    import pyarrow as pa

    return {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}.get(kind)


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.3f}"
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
