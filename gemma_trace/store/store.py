"""A store as programs and notebooks use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from gemma_trace.arguments import checked
from gemma_trace.remote import is_url, path_of
from gemma_trace.remote_errors import shown_url
from gemma_trace.stages import StageRule
from gemma_trace.store.compact import Compaction, compact
from gemma_trace.store.engine import outcomes
from gemma_trace.store.indexing import Outcome, job_for
from gemma_trace.store.layout import VERSION, live_files
from gemma_trace.store.reading import read_table
from gemma_trace.store.result import IndexResult
from gemma_trace.store.schema import TABLES, table_named
from gemma_trace.tabular import nullable

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """What many traces say, in a folder or behind a URL. It is made by indexing the first trace.

    Args:
        path: a folder, or a URL such as `s3://bucket/store`, which needs gemma-trace[scale].

    >>> store = gemma_trace.Store("store")      # doctest: +SKIP
    >>> store.index("traces"); store.runs(); store.stages()      # doctest: +SKIP
    """

    @checked
    def __init__(self, path: str | Path) -> None:
        self.path = str(getattr(path, "url", path))

    @checked
    def index(
        self,
        paths: str | Path | Sequence[str | Path],
        rules: Sequence[StageRule] = (),
        *,
        keep_names: bool = False,
        retry: bool = False,
        jobs: int | None = None,
        on_outcome: Callable[[Outcome], None] | None = None,
    ) -> IndexResult:
        """Add traces; those whose content is in the store already are passed over.

        Args:
            paths: files, or folders with all that lies below them; also as URLs.
            rules: which spans are ranges of which stage, on top of those that are known; see `stage_rule`. Traces that
                are in the store already keep the stages that they have there.
            keep_names: leave the names of runs, hosts, users and folders in.
            retry: try again what failed before.
            jobs: how many processes; None as GEMMA_TRACE_JOBS says, else one a core.
            on_outcome: hears what became of each trace.

        Raises:
            UnreadableError: there is no trace at the paths, or the store can't be read.
            OutputError: the store can't be written.
            ConfigError: a rule can't be held against a trace's names within its time.
        """
        from gemma_trace.trace.folders import find_traces

        sources = [paths] if isinstance(paths, str | Path) else paths
        files = without_own(find_traces([path_of(path) for path in sources]), self.path)
        result = IndexResult(shown_url(self.path), has_rules=bool(rules))
        job = job_for(self.path, keep_names=keep_names, retry=retry, rules=rules)
        for outcome in outcomes(job, files, jobs):
            result.add(outcome)
            if on_outcome:
                on_outcome(outcome)
        return result

    def compact(self) -> Compaction:
        """Merge the small files into larger ones, a day at a time.

        Raises:
            OutputError: the store can't be written.
        """
        return compact(self.path)

    @checked
    def files(self, table: str) -> list[str]:
        """The paths or URLs of the Parquet files that hold a table; other programs read them as they are.

        Raises:
            ConfigError: there is no such table.
            UnreadableError: the store can't be read.
        """
        return live_files(self.path, table_named(table).name)

    @checked
    def table(self, name: str, where: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
        """A table; `schema.TABLES` says what its columns are.

        Args:
            where: columns of text with the values that they have in the rows that are kept, e.g. {"stage": "prefill"};
                empty keeps all rows.

        Raises:
            ConfigError: there is no such table, or it has no such column of text.
            UnreadableError: the store can't be read.
        """

        # A column of integers that has NULLs stays one: as floats they would lose their last digits.
        frame: pd.DataFrame = read_table(self.path, name, where).to_pandas(types_mapper=nullable)
        return frame

    @checked
    def sql(self, query: str, *, timeout_s: float = 60.0, memory_limit_bytes: float = 2_000_000_000) -> pd.DataFrame:
        """The result of a SELECT on the tables; of their files what the query needs is read.

        Args:
            timeout_s, memory_limit_bytes: what the query may take.

        Raises:
            InputError: the query is no single SELECT, or fails, or takes more than that; or the store can't be read.
            MissingExtraError: DuckDB, of gemma-trace[scale], isn't installed.

        >>> store.sql("SELECT device_name, median(ttft_ns) FROM runs GROUP BY device_name")      # doctest: +SKIP
        """
        from gemma_trace.sql.frames import sql_frame
        from gemma_trace.sql.limits import Limits
        from gemma_trace.sql.sources import StoreSource

        return sql_frame(StoreSource(self.path), query, Limits(timeout_s, memory_limit_bytes))

    def runs(self) -> pd.DataFrame:
        """One row per trace."""
        return self.table("runs")

    def stages(self) -> pd.DataFrame:
        """One row per stage of each request."""
        return self.table("stages")

    def kernels(self) -> pd.DataFrame:
        """One row per kernel of each stage."""
        return self.table("kernels")

    def samples(self) -> pd.DataFrame:
        """One row per measure of each request."""
        return self.table("samples")

    def failures(self) -> pd.DataFrame:
        """One row per file that is no trace, or can't be read."""
        return self.table("failures")

    def __repr__(self) -> str:
        return f"<Store {shown_url(self.path)}: {', '.join(TABLES)}>"


def without_own(paths: Sequence[Path], store: str) -> list[Path]:
    """The files that are none of a store's own, which may lie in a folder of traces."""
    if is_url(store):
        below = f"{shown_url(store).rstrip('/')}/{VERSION}/"
        return [path for path in paths if not str(path).startswith(below)]
    inside = os.path.join(os.path.abspath(store), VERSION, "")  # noqa: PTH100, PTH118  a million of paths are many
    return [path for path in paths if not os.path.abspath(path).startswith(inside)]  # noqa: PTH100
