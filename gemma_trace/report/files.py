"""A `Report`'s records as JSON, CSV or Parquet. Numbers are raw, names carry their units."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import RANDOM_WEIGHTS
from gemma_trace.report.model import SCHEMA_VERSION, Report

FLAT_STATISTICS: Final = ("n", "median", "mean", "std", "min", "max", "q1", "q3")
"""What a distribution becomes in a flat file, each a column `<name>_<statistic>`."""


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
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def to_csv(report: Report) -> str:
    """The records, a line each, under a line of names."""
    records = _marked(report)
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(dict.fromkeys(name for record in records for name in record)))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def to_parquet(report: Report) -> bytes:
    """The records as an Apache Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = _marked(report)
    names = list(dict.fromkeys(name for record in records for name in record))
    table = pa.table({name: [record.get(name) for record in records] for name in names})
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
