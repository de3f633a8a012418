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

    dataset = StoreSource(store).opened([table])[table]
    if runs is not None:
        dataset = dataset.filter(pc.field("run_id").isin(list(runs)))
    dataset = dataset if hasattr(dataset, "to_pylist") else dataset.to_table()
    rows: list[dict[str, Any]] = dataset.to_pylist()
    return rows
