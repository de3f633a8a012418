"""A `Report`'s rows as JSON, CSV, Parquet or a DataFrame. Numbers are raw, names carry their units."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import RANDOM_WEIGHTS
from gemma_trace.printable import encodable, path_text, printable, printable_json
from gemma_trace.report.table import SCHEMA_VERSION, Col, Report, Table

if TYPE_CHECKING:
    import pandas as pd

FLAT_STATISTICS: Final = ("n", "median", "mean", "std", "min", "max", "q1", "q3")
"""What a distribution becomes in a flat file: a column `<name>_<statistic>` for each."""

_WEIGHTS: Final = "weights"
_FORMULA: Final = re.compile(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""How a text begins that a spreadsheet takes for a formula; some take the wide forms of the signs too."""
_NUMBER: Final = re.compile(r"[+-]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?%?", re.ASCII)


def to_json(report: Report) -> str:
    """The whole report as one JSON object; it says how many rows there are, and how many of them it shows."""
    rows = report.data.records()
    value = {
        "schema_version": SCHEMA_VERSION,
        "command": report.command,
        "source": list(report.source),
        "rows_total": len(rows) + report.data.left_out,
        "rows_shown": len(rows),
        "rows": _plain(rows),
        "totals": _plain(report.totals),
        "health": {
            "verdict": report.health.verdict,
            "findings": [finding.record() for finding in report.health.findings],
        },
    }
    return printable_json(msgspec.json.format(_encoded(value), indent=2).decode()) + "\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it: a table is its records, a distribution an object."""
    if isinstance(value, Table):
        return _plain(value.records())
    if isinstance(value, Distribution):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file's name that is no UTF-8
        return msgspec.json.encode(encodable(value))


def to_csv(report: Report, *, raw: bool = False) -> str:
    """The rows, a line each, under a line of names; texts are printable.

    Args:
        raw: leave a text as it is that a spreadsheet would take for a formula; else an apostrophe stands before it.
    """
    names, rows = flat_rows(report)
    out = io.StringIO()
    writer = csv.writer(out)
    cell = printable_cell if raw else inert_cell
    writer.writerow(map(cell, names))
    writer.writerows(map(cell, row) for row in rows)
    return out.getvalue()


def printable_cell(value: Any) -> Any:
    """A value as a cell: a number as it is, all else as text that is printable."""
    return value if value is None or isinstance(value, int | float) else printable(str(value))


def inert_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula.

    >>> inert_cell("=1+1"), inert_cell("-5"), inert_cell(-5), inert_cell("\\tx")
    ("'=1+1", '-5', -5, "'\\\\tx")
    """
    cell = printable_cell(value)
    return f"'{cell}" if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value) else cell


def to_parquet(report: Report) -> bytes:
    """The rows as an Apache Parquet file; its metadata has `rows_total` and `rows_shown`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, rows = flat_rows(report)
    columns = [[row[place] for row in rows] for place in range(len(names))]
    try:
        table = pa.table(columns, names=names)
    except UnicodeEncodeError:  # a file's name that is no UTF-8
        table = pa.table([encodable(column) for column in columns], names=[path_text(name) for name in names])
    counts = {"rows_total": str(len(rows) + report.data.left_out), "rows_shown": str(len(rows))}
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(counts), out)
    return out.getvalue()


def to_frame(report: Report) -> pd.DataFrame:
    """The rows as a DataFrame, with the columns of a flat file."""
    import pandas as pd

    names, rows = flat_rows(report)
    return pd.DataFrame(rows, columns=pd.Index(names))


def flat_rows(report: Report) -> tuple[list[str], list[list[Any]]]:
    """The columns' names and the rows without nesting; the names are there without a row, too.

    A distribution becomes a column per statistic, which is empty where a row has none. Of random weights each row says
    so, since flat files carry no findings.
    """
    table = report.data
    is_marked = any(finding.code == RANDOM_WEIGHTS for finding in report.health.findings)
    mark = ["random"] if is_marked and _WEIGHTS not in {col.key for col in table.cols} else []
    names = [name for col in table.cols for name in _flat_names(col)] + [_WEIGHTS for _ in mark]
    rows = [[cell for col in table.cols for cell in _flat_cells(col, col.raw(row))] + mark for row in table.rows]
    return names, rows


def _flat_names(col: Col) -> list[str]:
    return [f"{col.key}_{statistic}" for statistic in FLAT_STATISTICS] if col.unit.is_measure else [col.key]


def _flat_cells(col: Col, raw: Any) -> list[Any]:
    return [getattr(raw, statistic, None) for statistic in FLAT_STATISTICS] if col.unit.is_measure else [raw]
