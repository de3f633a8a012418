"""A store's tables, put together from the files that count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from gemma_trace.errors import ConfigError, UnreadableError
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.columns import StoreTable
from gemma_trace.store.layout import contents
from gemma_trace.store.places import Place, open_place
from gemma_trace.store.schema import table_named
from gemma_trace.store.tables import decoded

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

DAY: Final = "day"
"""The column that a table has beside its own: the folder's."""

_DAY: Final = re.compile(r"/day=(\d{4}-\d\d-\d\d)/")
_TRIES: Final = 5


def read_table(store: str | Path, name: str, where: Mapping[str, str] = MappingProxyType({})) -> pa.Table:
    """A table of a store, with the column `day` behind its own; by run.

    Args:
        where: columns with the values that they have in the rows that are kept, so that no more is in memory than those
            and one file; empty keeps all.

    Raises:
        ConfigError: there is no such table, or it has no column of text that `where` names.
        UnreadableError: the store can't be read, or is of a newer gemma-trace.
    """
    table, place = table_named(name), open_place(store)
    texts = [*(column.key for column in table.columns if column.type == "string"), DAY]
    for column in where:
        if column not in texts:
            raise ConfigError(f"the table {name} has no column of text {column!r}; it has {', '.join(texts)}")
    try:
        return listed_anew(lambda: _joined(table, _files(place, name), place, where))
    except OSError as error:
        raise UnreadableError(
            f"can't read {shown_url(str(store))}: {error.strerror or error}; check the store"
        ) from error


def listed_anew(read: Callable[[], T]) -> T:
    """What `read` gives, which lists a store and opens its files: a compaction may take them away between the two.

    Raises:
        FileNotFoundError: files went each time.
    """
    for _ in range(_TRIES - 1):
        try:
            return read()
        except FileNotFoundError:
            continue
    return read()


def _files(place: Place, name: str) -> list[str]:
    return contents(place, [name]).files(name)


def _joined(table: StoreTable, files: Sequence[str], place: Place, where: Mapping[str, str]) -> pa.Table:
    import pyarrow as pa

    schema = table.arrow_schema().append(pa.field(DAY, pa.string(), nullable=False))
    parts = [schema.empty_table(), *(each.cast(schema) for each in _with_days(table, files, place, where))]
    return pa.concat_tables(parts).sort_by("run_id")


def _with_days(table: StoreTable, files: Iterable[str], place: Place, where: Mapping[str, str]) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in files:
        content = decoded(place.read(name), table, place.full(name))
        day = _DAY.search(name)
        content = content.append_column(DAY, pa.array([day[1] if day else None] * content.num_rows, pa.string()))
        for column, value in where.items():
            content = content.filter(pc.field(column) == value)
        yield content
