"""A table's rows ↔ a Parquet file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gemma_trace.errors import UnreadableError
from gemma_trace.store.columns import StoreTable

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSION: Final = "zstd"

_SMALL: Final = {"store_schema": False, "write_statistics": False, "use_dictionary": False}
"""What takes more room than it saves in a file of a few rows."""


def table_of(rows: Iterable[Mapping[str, Any]], table: StoreTable) -> pa.Table:
    """Rows, each by its columns, as an Arrow table; what a row doesn't have is NULL."""
    import pyarrow as pa

    return pa.Table.from_pylist(list(rows), table.arrow_schema())


def encoded(content: pa.Table, *, small: bool = False) -> bytes:
    """A table as a Parquet file of one row group; the same rows give the same bytes.

    Args:
        small: it has a few rows, and is always read whole.
    """
    import pyarrow.parquet as pq

    out = io.BytesIO()
    options = _SMALL if small else {}
    pq.write_table(content, out, compression=COMPRESSION, row_group_size=max(1, content.num_rows), **options)
    return out.getvalue()


def decoded(data: bytes, table: StoreTable, name: str) -> pa.Table:
    """A table out of a Parquet file, with the columns of this version: those that it lacks are NULL.

    Args:
        name: the file's, for the message.

    Raises:
        UnreadableError: it is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not from a path: what lies in a folder "day=…" would get a column of that name.
        content = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        schema = table.arrow_schema()
        if content.schema.equals(schema):
            return content.replace_schema_metadata(schema.metadata)
        columns = [
            content[field.name].cast(field.type)
            if field.name in content.column_names
            else pa.nulls(content.num_rows, field.type)
            for field in schema
        ]
    except (pa.ArrowException, OSError, ValueError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnreadableError(f"{name} is no table of a store: {line}; index its traces anew") from None
    return pa.table(columns, schema=schema)
