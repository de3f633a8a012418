"""What is defined where: the columns of each table in analysis/README.md, and the page's own terms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gemma_trace.report.table import Col
from gemma_trace.report.tables.advice import ABSTENTION_FILE, ADVICE_FILE, RULES_FILE
from gemma_trace.report.tables.baselines import BASELINE_FILE
from gemma_trace.report.tables.check import DISTORTION_FILE, FINDING_FILE, TRACES
from gemma_trace.report.tables.cold_start import COLD_FILE
from gemma_trace.report.tables.counters import COUNTER_FILE
from gemma_trace.report.tables.critical_path import PATH_FILE
from gemma_trace.report.tables.decode import DECODE_FILE
from gemma_trace.report.tables.devices import DEVICE_FILE
from gemma_trace.report.tables.diff import DIFF_FILE
from gemma_trace.report.tables.doctor import CHECK_FILE
from gemma_trace.report.tables.energy import ENERGY_FILE
from gemma_trace.report.tables.explain import EXPLAIN_FILE
from gemma_trace.report.tables.floors import FLOOR_FILE
from gemma_trace.report.tables.history import HISTORY_FILE
from gemma_trace.report.tables.hta import HTA_FILE
from gemma_trace.report.tables.index import OUTCOME_FILE, PRUNE_FILE
from gemma_trace.report.tables.kernels import KERNEL_FILE
from gemma_trace.report.tables.memory import ALLOCATOR_FILE
from gemma_trace.report.tables.memory import STAGE_FILE as MEMORY_STAGE_FILE
from gemma_trace.report.tables.plan import PLAN_FILE
from gemma_trace.report.tables.rank_cols import (
    ALL_TO_ALL_COLS,
    COLLECTIVE_COLS,
    RANK_COLS,
    REQUEST_COLS,
    STAGE_COLS,
    STRAGGLER_COLS,
)
from gemma_trace.report.tables.reasons import KIND_COLS, REASON_FILE
from gemma_trace.report.tables.requests import REQUEST_ROW_FILE, SIZE_FILE
from gemma_trace.report.tables.roofline import ROOFLINE_FILE
from gemma_trace.report.tables.served import SERVED_FILE
from gemma_trace.report.tables.sql import SCHEMA_COLS
from gemma_trace.report.tables.stages import STAGE_FILE
from gemma_trace.report.tables.steps import STEP_FILE
from gemma_trace.report.tables.summary import INFLATION, MEASURE_FILE, RUN_FILE, STAGE_MS
from gemma_trace.report.tables.summary import STAGE as STAGE_OF_RUN
from gemma_trace.report.tables.tree import TREE_FILE
from gemma_trace.report.tables.what_if import WHAT_IF_FILE
from gemma_trace.sql.schema import TRACE_TABLES
from gemma_trace.store.columns import StoreColumn
from gemma_trace.store.schema import TABLES


@dataclass(frozen=True)
class Term:
    """What the page shows and no file has in a column. The definition is Markdown."""

    key: str
    definition: str


PAGE_TERMS: Final = (
    Term(
        "headline",
        "`ttft_ms` of the requests that ran without the profiler; if there are none, of the profiled ones; without "
        "a first token, the wall time of the profiled requests",
    ),
    Term(
        "median request",
        "the profiled request with the median TTFT (or wall time, if there is no TTFT); the faster one if two are "
        "in the middle. Lanes, stages, families, kernels and tree describe this request",
    ),
    Term("host lane", "the innermost stage open on the request's thread"),
    Term(
        "device lane", "the stage whose activity the device runs, the earliest started where several run; gaps are idle"
    ),
    Term(
        "cells",
        "if a lane has more stretches than the page has room for, it is cut into cells of equal length, each drawn "
        "as the stage that takes most of it; figures stay exact",
    ),
    Term(
        "bar of a run",
        "medians of the stages up to the first token, end to end; the line is the median TTFT, the box its quartiles. "
        "If a run has no TTFT: means of `time_ns` per profiled request",
    ),
    Term(
        "decode interval",
        "the time between a token and the one before it on the host, over the requests without the profiler; if "
        "there are none, the length of a `decode` range on the host",
    ),
)

Defined = Col | Term | StoreColumn

README_TABLES: Final[dict[str, tuple[str, Sequence[Defined]]]] = {
    "stages": ("column", STAGE_FILE),
    "devices": ("column", DEVICE_FILE),
    "split": ("part", KIND_COLS),
    "reasons": ("column", [col for col in REASON_FILE if col not in KIND_COLS]),
    "explanations": ("column", EXPLAIN_FILE),
    "critical path": ("column", PATH_FILE),
    "decode": ("key", DECODE_FILE),
    "floors": ("column", FLOOR_FILE),
    "counters": ("key", COUNTER_FILE),
    "steps": ("key", STEP_FILE),
    "served": ("column", SERVED_FILE),
    "allocators": ("key", ALLOCATOR_FILE),
    "memory by stage": ("key", MEMORY_STAGE_FILE),
    "tree": ("column", TREE_FILE),
    "diff": ("column", DIFF_FILE),
    "kernels": ("column", KERNEL_FILE),
    "ranks": ("column", RANK_COLS),
    "stages over ranks": ("column", STAGE_COLS),
    "stages by request": ("column", REQUEST_COLS),
    "stragglers": ("column", STRAGGLER_COLS),
    "collectives": ("column", COLLECTIVE_COLS),
    "all to all": ("column", ALL_TO_ALL_COLS),
    "roofline": ("column", ROOFLINE_FILE),
    "runs": ("column", (*RUN_FILE, *ENERGY_FILE)),
    "stage of a run": ("column", (STAGE_OF_RUN, STAGE_MS)),
    "requests of a run": ("column", REQUEST_ROW_FILE),
    "sizes": ("column", SIZE_FILE),
    "cold start": ("column", COLD_FILE),
    "measures": ("measure", (*MEASURE_FILE, INFLATION)),
    "report": ("what", PAGE_TERMS),
    "hta": ("column", HTA_FILE),
    "findings": ("column", (*FINDING_FILE, TRACES)),
    "distortions": ("column", DISTORTION_FILE),
    "advice": ("column", ADVICE_FILE),
    "abstentions": ("column", ABSTENTION_FILE),
    "rules of advice": ("column", RULES_FILE),
    "what-if": ("column", WHAT_IF_FILE),
    "doctor": ("column", CHECK_FILE),
    "plan": ("column", PLAN_FILE),
    "index": ("column", OUTCOME_FILE),
    "prune": ("column", PRUNE_FILE),
    "history": ("column", HISTORY_FILE),
    **{f"store {table.name}": ("column", table.columns) for table in TABLES.values()},
    "baseline": ("column", BASELINE_FILE),
    "sql": ("column", SCHEMA_COLS),
    **{f"sql {table.name}": ("column", table.columns) for table in TRACE_TABLES.values()},
}
"""The tables of analysis/README.md by their names in its markers, each with what its first column is called."""

_MARKED: Final = re.compile(
    r"(<!-- columns: (\w++(?:[ -]\w++)*+) -->\n)"
    r"(?:[^<]++|<(?!!-- (?:end of columns|columns:)))*+(<!-- end of columns -->)"
)


def with_tables(text: str) -> str:
    """A text of Markdown with the tables between its markers written anew.

    A table stands between the lines `<!-- columns: NAME -->` and `<!-- end of columns -->`.

    Raises:
        ValueError: a marker names no table, or a table has no marker or several.
    """
    names = [marked[2] for marked in _MARKED.finditer(text)]
    if sorted(names) != sorted(README_TABLES):
        wrong = sorted(set(names) ^ set(README_TABLES)) or sorted(name for name in names if names.count(name) > 1)
        raise ValueError(f"markers and tables differ: {', '.join(wrong)}; see README_TABLES in {__name__}")
    return _MARKED.sub(lambda marked: f"{marked[1]}{_markdown(*README_TABLES[marked[2]])}{marked[3]}", text)


def _markdown(head: str, defined: Sequence[Defined]) -> str:
    stored = [each for each in defined if isinstance(each, StoreColumn)]
    if stored:
        return _store_markdown(stored)
    lines = [f"| {head} | definition |", "|---|---|"]
    rows: dict[str, list[str]] = {}
    for each in defined:  # columns that are defined alike are one row
        rows.setdefault(each.definition, []).append(f"`{each.key}`")
    lines += [f"| {', '.join(keys)} | {definition.replace('|', chr(92) + '|')} |" for definition, keys in rows.items()]
    return "\n".join(lines) + "\n"


def _store_markdown(columns: Iterable[StoreColumn]) -> str:
    """Columns of a store's table, with what Parquet and SQL take them for."""
    lines = ["| column | type | unit | definition |", "|---|---|---|---|"]
    for column in columns:
        type_text = f"{column.type}, NULL" if column.is_optional else column.type
        lines.append(f"| `{column.key}` | {type_text} | {column.unit} | {column.definition} |")
    return "\n".join(lines) + "\n"


def undefined() -> list[str]:
    """Columns of files that have no definition."""
    return [each.key for _, table in README_TABLES.values() for each in table if not each.definition]
