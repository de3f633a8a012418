"""The critical paths of a trace's requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemma_trace.analysis.critical_path import CriticalPath, PathKind
from gemma_trace.report.model import Column, Section
from gemma_trace.report.numbers import milliseconds, percent

_NOTE = (
    "The chain that made the requests as long as they are; it adds up to the wall clock. host: the host works. launch: "
    "a launch reaches an idle device. device: activities. gap: the device runs none though one waits. sync: a call "
    "returns after what it waited for."
)


def critical_path_section(paths: Sequence[CriticalPath], first_tokens_ns: Sequence[int | None]) -> Section:
    """How much of each stage lies on the path, the mean a request.

    Args:
        paths: one a request.
        first_tokens_ns: when each request had its first token; where all are known there is a column of what of the
            path lies before.
    """
    records = critical_path_records(paths, first_tokens_ns)
    stages = [stage for stage in paths[0].stages if any(record["stage"] == stage for record in records)]
    count, wall_ns = len(paths), sum(path.request.wall_ns for path in paths)
    known = None not in first_tokens_ns
    columns = (
        Column("stage", align="left"),
        Column("path ms"),
        Column("%", 1),
        *((Column("to first token ms", 2),) if known else ()),
        *(Column(f"{kind.value} ms", 3) for kind in PathKind),
    )
    rows = []
    for stage in stages:
        mine = [record for record in records if record["stage"] == stage]
        sums = {key: sum(record[key] or 0 for record in mine) for key in mine[0] if key.endswith("_ns")}
        rows.append(
            (
                stage,
                milliseconds(sums["path_ns"] / count),
                percent(sums["path_ns"], wall_ns),
                *((milliseconds(sums["to_first_token_ns"] / count),) if known else ()),
                *(milliseconds(sums[f"{kind.value}_ns"] / count) for kind in PathKind),
            )
        )
    return Section("Critical path", columns, tuple(rows), notes=(_NOTE,))


def critical_path_records(paths: Sequence[CriticalPath], first_tokens_ns: Sequence[int | None]) -> list[dict[str, Any]]:
    """A record a request and stage on its path; `path_ns` adds up to the request's wall time."""
    records: list[dict[str, Any]] = []
    for path, first_ns in zip(paths, first_tokens_ns, strict=True):
        before = None if first_ns is None else path.by_stage_ns(first_ns)
        for stage, kinds in path.by_stage_ns().items():
            records.append(
                {
                    "request": path.request.index,
                    "stage": stage,
                    "path_ns": sum(kinds.values()),
                    "to_first_token_ns": None if before is None else sum(before.get(stage, {}).values()),
                    **{f"{kind.value}_ns": kinds.get(kind, 0) for kind in PathKind},
                }
            )
    return records
