"""A store's tables, put together from the files that count."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gemma_trace.errors import ConfigError, UnreadableError
from gemma_trace.store.layout import contents
from gemma_trace.store.places import Place, open_place
from gemma_trace.store.schema import TABLES, StoreTable
from gemma_trace.store.tables import decoded

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

DAY: Final = "day"
"""The column that a table has beside its own: the folder's."""

_DAY: Final = re.compile(r"/day=(\d{4}-\d\d-\d\d)/")
_TRIES: Final = 5


def read_table(store: str | Path, name: str) -> pa.Table:
    """A table of a store with all its rows, with the column `day` behind its own; by run.

    Raises:
        ConfigError: there is no such table.
        UnreadableError: the store can't be read, or is of a newer gemma-trace.
    """
    if name not in TABLES:
        raise ConfigError(f"a store has no table {name!r}; it has {', '.join(TABLES)}")
    table, place = TABLES[name], open_place(store)
    try:
        return listed_anew(lambda: _joined(table, [(file, place.read(file)) for file in _files(place, name)], place))
    except OSError as error:
        raise UnreadableError(f"can't read {store}: {error.strerror or error}; check the store") from error


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


def _joined(table: StoreTable, files: list[tuple[str, bytes]], place: Place) -> pa.Table:
    import pyarrow as pa

    schema = table.arrow_schema().append(pa.field(DAY, pa.string(), nullable=False))
    found = [schema.empty_table(), *_with_days(table, files, place)]
    return pa.concat_tables([each.cast(schema) for each in found]).sort_by("run_id")


def _with_days(table: StoreTable, files: list[tuple[str, bytes]], place: Place) -> Iterator[pa.Table]:
    import pyarrow as pa

    for name, data in files:
        content = decoded(data, table, place.full(name))
        day = _DAY.search(name)
        yield content.append_column(DAY, pa.array([day[1] if day else None] * content.num_rows, pa.string()))
