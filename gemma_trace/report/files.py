"""A `Report`'s records as JSON, CSV or Parquet. Numbers are raw, names carry their units."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import RANDOM_WEIGHTS
from gemma_trace.printable import encodable, path_text, printable, printable_json
from gemma_trace.report.model import SCHEMA_VERSION, Report

FLAT_STATISTICS: Final = ("n", "median", "mean", "std", "min", "max", "q1", "q3")
"""What a distribution becomes in a flat file, each a column `<name>_<statistic>`."""

_FORMULA: Final = re.compile(r"[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""How a text begins that a spreadsheet takes for a formula; some take the wide forms of the signs too."""
_NUMBER: Final = re.compile(r"[+-]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?%?", re.ASCII)


def to_json(report: Report) -> str:
    """The whole report as one JSON object."""
    value = {
        "schema_version": SCHEMA_VERSION,
        "command": report.command,
        "source": list(report.source),
        "rows": [_plain(record) for record in report.records],
        "totals": _plain(report.totals),
        "health": {
            "verdict": report.health.verdict,
            "findings": [finding.record() for finding in report.health.findings],
        },
    }
    return printable_json(msgspec.json.format(_encoded(value), indent=2).decode()) + "\n"


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:  # a file's name that is no UTF-8
        return msgspec.json.encode(encodable(value))


def to_csv(report: Report, *, raw: bool = False) -> str:
    """The records, a line each, under a line of names; texts are printable.

    Args:
        raw: leave a text as it is that a spreadsheet would take for a formula; else an apostrophe stands before it.
    """
    records = _marked(report)
    out = io.StringIO()
    writer = csv.writer(out)
    names = list(dict.fromkeys(name for record in records for name in record))
    cell = printable_cell if raw else inert_cell
    writer.writerow(map(cell, names))
    writer.writerows([cell(record.get(name)) for name in names] for record in records)
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
    """The records as an Apache Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = _marked(report)
    names = list(dict.fromkeys(name for record in records for name in record))
    try:
        table = pa.table({name: [record.get(name) for record in records] for name in names})
    except UnicodeEncodeError:  # a file's name that is no UTF-8
        table = pa.table({path_text(name): [encodable(record.get(name)) for record in records] for name in names})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _marked(report: Report) -> list[dict[str, Any]]:
    """The flat records; of random weights each says so, since these files carry no findings."""
    records = flat_records(report.records)
    if any(finding.code == RANDOM_WEIGHTS for finding in report.health.findings):
        for record in records:
            record.setdefault("weights", "random")
    return records


def flat_records(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records without nesting: a distribution becomes a column a statistic, empty where a record has none."""
    measures = {name for record in records for name, value in record.items() if isinstance(value, Distribution)}
    flat: list[dict[str, Any]] = []
    for record in records:
        values: dict[str, Any] = {}
        for name, value in record.items():
            if name in measures:
                values |= {f"{name}_{statistic}": getattr(value, statistic, None) for statistic in FLAT_STATISTICS}
            else:
                values[name] = value
        flat.append(values)
    return flat


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.to_dict() if isinstance(value, Distribution) else value for name, value in record.items()}
