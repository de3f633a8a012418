"""A store's rows as dicts, of some runs alone: through the source that SQL uses, which reads only the files needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def rows_of_store(store: str | Path, table: str, runs: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a table, of some runs or, for None, of all.

    Raises:
        UnreadableError: the store can't be read.
    """
    import pyarrow.compute as pc

    from gemma_trace.sql.sources import StoreSource

    found = StoreSource(store).opened([table])[table]
    if runs is not None:
        found = found.filter(pc.field("run_id").isin(list(runs)))
    found = found if hasattr(found, "to_pylist") else found.to_table()
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows
