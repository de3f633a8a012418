"""One SELECT on the tables of a source, in a DuckDB in memory that opens no file, no network and no extension."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from gemma_trace.errors import InputError, MissingExtraError
from gemma_trace.sql.limits import Limits, Watch, watched
from gemma_trace.sql.sources import Source

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from gemma_trace.store.columns import StoreTable

_BATCH_ROWS: Final = 65_536
_TRIES: Final = 5
_MOST_NESTED: Final = 500
"""DuckDB reads brackets in brackets in a time that grows with their square, and refuses more than 1,000 anyway."""

_UNKNOWN: Final = re.compile(r"does not exist|not found|Referenced (?:table|column)")
_KIND: Final = re.compile(r"^(?:INTERRUPT|[A-Z][A-Za-z ]+) Error: ")
_ADVICE: Final = "gemma-trace sql --schema lists tables and columns"


def query(
    source: Source, sql: str, limits: Limits | None = None, give_up: Callable[[str], None] = lambda reason: None
) -> pa.Table:
    """The result of one SELECT.

    Sums of whole numbers, which DuckDB makes 128 bits wide, are int64 where all of them fit; decimals are float64.

    Args:
        give_up: is told why, in another thread, where a query is over its limits and doesn't end when it is told to.

    Raises:
        InputError: the SQL is no single SELECT, or fails, or takes more than it may; or a table can't be read.
        MissingExtraError: DuckDB isn't installed.
    """
    limits = limits or Limits()
    refuse_all_but_one_select(sql)
    names = named_in(sql, source.tables)
    for _ in range(_TRIES - 1):
        try:
            return _answered(source.opened(names), sql, limits, give_up, source)
        except InputError:
            if not source.has_changed():
                raise
    return _answered(source.opened(names), sql, limits, give_up, source)


def refuse_all_but_one_select(sql: str) -> None:
    """Raise unless a text is one statement that reads.

    Raises:
        InputError: it isn't.
        MissingExtraError: DuckDB isn't installed.
    """
    duckdb = _duckdb()
    if _depth(sql) > _MOST_NESTED:
        raise InputError(f"the SQL has more than {_MOST_NESTED} nested brackets; check the SQL")
    try:
        statements = duckdb.extract_statements(sql)
    except (duckdb.Error, RuntimeError) as error:
        raise InputError(_line(error)) from None
    except (TypeError, UnicodeError):  # halves of pairs
        raise InputError("the SQL has characters that UTF-8 can't encode; check the SQL") from None
    if len(statements) != 1:
        raise InputError(f"the SQL is {len(statements) or 'no'} statements; give one SELECT")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise InputError(f"{kind.name} is refused: traces and stores are only read; give one SELECT")


def _depth(sql: str) -> int:
    """How deep brackets are in one another at most; those in texts count too."""
    steps = ((character in "([{") - (character in ")]}") for character in sql if character in "([{)]}")
    return max(accumulate(steps), default=0)


def named_in(sql: str, tables: Mapping[str, StoreTable]) -> list[str]:
    """The tables that a statement may read: those whose names stand in it; all where it makes SQL itself."""
    if re.search(r"query", sql, re.IGNORECASE):
        return list(tables)
    return [name for name in tables if re.search(rf"(?<!\w){name}(?!\w)", sql, re.IGNORECASE)]


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise MissingExtraError("duckdb", "scale") from None
    return duckdb


def _connected(limits: Limits) -> duckdb.DuckDBPyConnection:
    """A database in memory that reaches nothing outside of it."""
    config = {
        "enable_external_access": "false",
        "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
        "allow_community_extensions": "false",
        "allow_unsigned_extensions": "false",
        "python_enable_replacements": "false",
        "temp_directory": "",
        "memory_limit": f"{max(1, int(limits.memory_bytes // 10**6))}MB",
    }
    connection: duckdb.DuckDBPyConnection = _duckdb().connect(":memory:", config=config)
    return connection


def _answered(
    opened: Mapping[str, Any], sql: str, limits: Limits, give_up: Callable[[str], None], source: Source
) -> pa.Table:
    import pyarrow as pa

    duckdb = _duckdb()
    with _connected(limits) as connection:
        for name, table in source.tables.items():
            connection.register(name, opened[name] if name in opened else table.arrow_schema().empty_table())
        connection.execute("SET lock_configuration = true")
        with watched(connection, limits, give_up) as watch:
            try:
                rows = _rows(connection, sql, limits)
            except InputError:
                raise
            except (MemoryError, duckdb.OutOfMemoryException):
                raise InputError(limits.memory_text) from None
            except (duckdb.Error, pa.ArrowException, RuntimeError, OSError, ValueError) as error:
                raise InputError(_said(error, watch)) from None
    return narrowed(rows)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> pa.Table:
    """All rows of a result, as long as they fit the limit of memory.

    Raises:
        InputError: they don't.
    """
    import pyarrow as pa

    reader = connection.sql(sql).to_arrow_reader(_BATCH_ROWS)
    schema, batches, size_bytes = reader.schema, [], 0
    for batch in reader:
        batches.append(batch)
        size_bytes += batch.nbytes
        if size_bytes > limits.memory_bytes:
            raise InputError(limits.memory_text)
    return pa.Table.from_batches(batches, schema)


def narrowed(table: pa.Table) -> pa.Table:
    """The table with 128-bit integers as int64 where they fit, decimals as float64, and no name of a column twice."""
    import pyarrow as pa

    columns = []
    for column in table.columns:
        if pa.types.is_decimal(column.type):
            try:
                column = column.cast(pa.int64() if column.type.scale == 0 else pa.float64())
            except pa.ArrowInvalid:  # too large
                column = column.cast(pa.float64())
        columns.append(column)
    return pa.table(columns, names=distinct(table.column_names))


def distinct(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that were there before.

    >>> distinct(["a", "a", "a_1", "a"])
    ['a', 'a_1', 'a_1_1', 'a_2']
    """
    taken: list[str] = []
    for name in names:
        fresh, number = name, 0
        while fresh in taken:
            number += 1
            fresh = f"{name}_{number}"
        taken.append(fresh)
    return taken


def _said(error: Exception, watch: Watch) -> str:
    return watch.reason or _line(error)


def _line(error: Exception) -> str:
    """The first line of a message, without its kind, and what to do about it."""
    line = _KIND.sub("", (str(error).strip().splitlines() or [type(error).__name__])[0]).rstrip(" .!")
    if "disabled by configuration" in line:
        return f"{line}; SQL can use only the tables: {_ADVICE}"
    if _UNKNOWN.search(line):
        return f"{line}; {_ADVICE}"
    return f"{line}; check the SQL"
