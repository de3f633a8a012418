"""What counters were during each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gemma_trace.analysis.counter_means import CounterMean, CounterUse
from gemma_trace.report.model import Column, Section
from gemma_trace.report.numbers import ABSENT, percent, significant

MOST_ROWS = 40
"""Series that a table has at most."""


def counter_section(found: Sequence[CounterUse]) -> Section:
    """A row a series, a column a stage."""
    stages = list(dict.fromkeys(stage for use in found for stage in use.stages))
    sources = {use.source for use in found}
    columns = (
        Column("counter", align="left", overflow="ellipsis"),
        *((Column("of", 1, align="left", overflow="ellipsis"),) if len(sources) > 1 else ()),
        Column("all"),
        *(Column(stage, 2 + place) for place, stage in enumerate(stages)),
        Column("known %", 1),
    )
    rows = tuple(
        (
            use.counter,
            *((use.source,) if len(sources) > 1 else ()),
            _cell(use.total),
            *(_cell(use.stages[stage]) if stage in use.stages else ABSENT for stage in stages),
            percent(use.total.known_ns, use.total.time_ns),
        )
        for use in found[:MOST_ROWS]
    )
    notes = [
        "means over the time that each stage answers for; a value holds until the next of its series, and before the "
        "first nothing is known."
    ]
    if len(found) > MOST_ROWS:
        notes.append(f"{len(found) - MOST_ROWS} more series are in JSON.")
    return Section("Counters", columns, rows, notes=tuple(notes))


def counter_records(found: Sequence[CounterUse]) -> list[Mapping[str, Any]]:
    """All of it, for JSON."""
    return [
        {"counter": use.counter, "of": use.source, "samples": use.samples}
        | _record(use.total)
        | {"stages": [{"stage": stage} | _record(mean) for stage, mean in use.stages.items()]}
        for use in found
    ]


def _cell(found: CounterMean) -> str:
    return ABSENT if found.mean is None else significant(found.mean)


def _record(found: CounterMean) -> dict[str, Any]:
    known = 100 * found.known_ns / found.time_ns if found.time_ns else None
    return {"mean": found.mean, "min": found.min, "max": found.max, "known_pct": known}
