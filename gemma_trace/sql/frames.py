"""Results of SQL as DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemma_trace.sql.engine import query
from gemma_trace.sql.limits import Limits
from gemma_trace.sql.sources import Source
from gemma_trace.tabular import nullable

if TYPE_CHECKING:
    import pandas as pd


def sql_frame(source: Source, sql: str, limits: Limits) -> pd.DataFrame:
    """The result of a SELECT as a DataFrame; integers stay integers where some are NULL.

    Raises:
        InputError: as `query` does.
    """
    frame: pd.DataFrame = query(source, sql, limits).to_pandas(types_mapper=nullable)
    return frame
