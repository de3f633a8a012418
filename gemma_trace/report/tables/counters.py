"""What counters were during each stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gemma_trace.analysis.counter_means import CounterMean, CounterUse
from gemma_trace.report.table import Col, Table, holding
from gemma_trace.report.units import LABEL, NUMBER, PCT

MOST_ROWS: Final = 40
"""Series that people see at most."""

SEVERAL_SOURCES: Final = "the series are of several devices or processes"
_NOTE: Final = (
    "Means over the time that each stage accounts for. A value holds until the next one of its series; before the "
    "first one, nothing is known."
)


def known_pct(mean: CounterMean) -> float | None:
    """The share of the time in which a value is known, in percent; None where there is no time."""
    return 100 * mean.known_ns / mean.time_ns if mean.time_ns else None


COUNTER: Final = Col(
    "counter",
    "counter",
    LABEL,
    definition="the counter's name, its id if it has one, and the argument's name unless it is `value`",
)
SOURCE: Final = Col(
    "of",
    "of",
    LABEL,
    definition="the device whose activities share its process, else the process",
    priority=1,
    when=SEVERAL_SOURCES,
    value="source",
)
MEAN: Final = Col(
    "mean",
    "all",
    NUMBER,
    definition="over the wall time of the requests shown, where a value is known, weighted by time",
)
KNOWN: Final = Col(
    "known_pct",
    "known",
    PCT,
    definition="100 · time since the series' first value / that wall time",
    priority=1,
    value=known_pct,
)

MEAN_FILE: Final = (
    MEAN,
    Col("min", definition="the least value in that time"),
    Col("max", definition="the largest"),
    KNOWN,
)
"""What is said of a series, in all and by stage."""


def _by_stage(use: CounterUse) -> list[dict[str, Any]]:
    return [{"stage": stage} | {col.key: col.raw(mean) for col in MEAN_FILE} for stage, mean in use.stages.items()]


COUNTER_FILE: Final = (
    COUNTER,
    SOURCE,
    Col("samples", definition="how many values the trace has"),
    *(col.within("total") for col in MEAN_FILE),
    Col("stages", definition="the same four by `stage`, over the instants of its `time_ns`", value=_by_stage),
)
"""A row per series."""


def _mean_in(stage: str, use: CounterUse) -> float | None:
    return use.stages[stage].mean if stage in use.stages else None


def counter_table(counters: Sequence[CounterUse]) -> Table[CounterUse]:
    """A row per series, a column per stage."""
    stages = dict.fromkeys(stage for use in counters for stage in use.stages)
    cols = (
        COUNTER,
        SOURCE,
        MEAN.within("total"),
        *(
            Col(f"mean in {stage}", stage, NUMBER, priority=2 + place, value=partial(_mean_in, stage))
            for place, stage in enumerate(stages)
        ),
        KNOWN.within("total"),
    )
    conditions = holding({SEVERAL_SOURCES: len({use.source for use in counters}) > 1})
    table = Table("Counters", cols, counters, notes=(_NOTE,), conditions=conditions).cut(MOST_ROWS, "")
    if not table.left_out:
        return table
    return replace(table, notes=(*table.notes, f"{table.left_out} more series are in JSON."))


def counter_data(counters: Sequence[CounterUse]) -> Table[CounterUse]:
    """For files: all series."""
    return Table("Counters", COUNTER_FILE, counters)
