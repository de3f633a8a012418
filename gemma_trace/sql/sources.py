"""What SQL is asked of: a trace, a folder of traces, or a store. Each gives the tables that a query names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from gemma_trace.errors import InputError, UnreadableError
from gemma_trace.foreign import NONE
from gemma_trace.printable import path_text
from gemma_trace.ranks.identity import identity_of
from gemma_trace.remote_errors import shown_url
from gemma_trace.sql.schema import RANK, RUN, TRACE_TABLES
from gemma_trace.sql.trace_tables import trace_table
from gemma_trace.store.columns import StoreColumn, StoreTable
from gemma_trace.store.layout import contents
from gemma_trace.store.places import open_place
from gemma_trace.store.reading import DAY
from gemma_trace.store.schema import TABLES
from gemma_trace.trace.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

_DAY_COLUMN: Final = StoreColumn(DAY, "string", "", "the day of the capture, in UTC: `2026-01-31`")


class Source(Protocol):
    """What has tables. DuckDB reads Arrow tables and datasets as they are."""

    @property
    def tables(self) -> Mapping[str, StoreTable]:
        """Its tables by name."""

    def opened(self, names: Sequence[str]) -> Mapping[str, Any]:
        """Some of them, as Arrow tables or datasets.

        Raises:
            InputError: they can't be read.
        """

    def has_changed(self) -> bool:
        """Whether what was opened may have gone since."""


class TraceSource:
    """A trace in hand as a source of tables."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.tables: Mapping[str, StoreTable] = TRACE_TABLES

    def opened(self, names: Sequence[str]) -> Mapping[str, pa.Table]:
        """The tables, opened; see `Source`."""
        return {name: trace_table(self._trace, name) for name in names}

    def has_changed(self) -> bool:
        """A trace in memory stays."""
        return False


class FolderSource:
    """Several traces, whose tables have one column more: the run or, of the ranks of one job, the rank.

    Args:
        paths: the files.
        load: reads one of them.
        is_job: they are the ranks of one job.
        on_unreadable: hears why a trace is left out.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[Path], Trace],
        *,
        is_job: bool,
        on_unreadable: Callable[[InputError], None],
    ) -> None:
        self._paths, self._load, self._on_unreadable = paths, load, on_unreadable
        self._is_job = is_job
        self.tables: Mapping[str, StoreTable] = traces_tables(is_job=is_job)

    def opened(self, names: Sequence[str]) -> Mapping[str, pa.Table]:
        """The tables, opened; see `Source`. One trace is in memory at a time, but for what its tables need of it."""
        import pyarrow as pa

        parts: list[tuple[Path, str, int, dict[str, pa.Table]]] = []
        for path in self._paths:
            try:
                trace = self._load(path)
            except InputError as error:
                self._on_unreadable(error)
                continue
            rank = identity_of(trace.distributed, path).rank
            parts.append((path, trace.label, rank, {name: trace_table(trace, name) for name in names}))
        if not parts:
            raise UnreadableError("none of the traces can be read; gemma-trace check says what is wrong with each")
        times = Counter(label for _, label, _, _ in parts)
        by_name: dict[str, list[pa.Table]] = {name: [] for name in names}
        for path, label, rank, tables in parts:
            run = label if times[label] == 1 else path_text(path)
            for name, table in tables.items():
                added = _ranks(rank, table.num_rows) if self._is_job else _runs(run, table.num_rows)
                by_name[name].append(table.add_column(0, (RANK if self._is_job else RUN).key, added))
        # DuckDB takes one dictionary a column.
        return {name: pa.concat_tables(tables).unify_dictionaries() for name, tables in by_name.items()}

    def has_changed(self) -> bool:
        """Traces in memory stay."""
        return False


def traces_tables(*, is_job: bool) -> dict[str, StoreTable]:
    """The tables of several traces."""
    first = RANK if is_job else RUN
    return {name: replace(table, columns=(first, *table.columns)) for name, table in TRACE_TABLES.items()}


def _ranks(rank: int, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.nulls(count, pa.int32()) if rank == NONE else pa.array(np.full(count, rank, dtype=np.int32))


def _runs(run: str, count: int) -> pa.Array:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([path_text(run)]))


class StoreSource:
    """A store. Of its files those columns and days are read that a query needs.

    Args:
        store: a folder or a URL.
    """

    def __init__(self, store: str | Path) -> None:
        self._name, self._place = shown_url(str(store)), open_place(store)
        self._listed: dict[str, list[str]] = {}
        self.tables: Mapping[str, StoreTable] = STORE_TABLES

    def opened(self, names: Sequence[str]) -> Mapping[str, Any]:
        """See `Source`."""
        self._listed = self._files(names)
        return {name: self._dataset(name, files) for name, files in self._listed.items()}

    def has_changed(self) -> bool:
        """Whether a compaction took files away."""
        with suppress(InputError):
            return self._files(list(self._listed)) != self._listed
        return False

    def _files(self, names: Sequence[str]) -> dict[str, list[str]]:
        try:
            held = contents(self._place, names)
        except OSError as error:
            raise UnreadableError(f"can't read {self._name}: {error.strerror or error}; check the store") from error
        return {name: held.files(name) for name in names}

    def _dataset(self, name: str, files: Sequence[str]) -> Any:
        import pyarrow as pa
        import pyarrow.dataset as ds

        schema = TABLES[name].arrow_schema().append(pa.field(DAY, pa.string())).remove_metadata()
        if not files:
            return schema.empty_table()
        system, root = self._place.arrow_files()
        days = [ds.field(DAY) == file.partition("/day=")[2][:10] for file in files]
        paths = [f"{root}/{file}" for file in files]
        return ds.FileSystemDataset.from_paths(paths, schema, ds.ParquetFileFormat(), system, days)


STORE_TABLES: Final[Mapping[str, StoreTable]] = {
    name: replace(table, columns=(*table.columns, _DAY_COLUMN)) for name, table in TABLES.items()
}
"""A store's tables as SQL has them: with the day."""
