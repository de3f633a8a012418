"""How measures went over time: a line per series, a line per change, and a row per run for files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

from gemma_trace.history.series import ChangePoint, History, Point, Series
from gemma_trace.report.number_text import significant
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, LABEL, NUMBER, TEXT, WORDS, signed_share
from gemma_trace.store import columns
from gemma_trace.wording import counted

SPARK_WIDTH: Final = 40
"""So many characters has a sparkline at most; of more runs each is the mean of several."""

FEWEST_RUNS: Final = 12
"""Of fewer, even a perfect step is among more than 1 in 100 of their orders."""

_SPARKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = SPARK_WIDTH) -> str:
    """Values as a line of blocks, from the least to the most.

    >>> sparkline([1.0, 2.0, 3.0])
    '▁▄█'
    """
    n = min(width, len(values))
    edges = [place * len(values) // n for place in range(n + 1)] if n else []
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    if high == low:
        return _SPARKS[3] * n
    return "".join(_SPARKS[int((mean - low) / (high - low) * (len(_SPARKS) - 1))] for mean in means)


@dataclass(frozen=True)
class _Row:
    """A run in its series, or a change."""

    series: Series
    point: Point
    change: ChangePoint | None = None
    level: float = 0.0


def value_text(unit: str, value: float) -> str:
    """A value of a measure with its unit.

    >>> value_text("ns", 1_500_000.0)
    '1.500 ms'
    """
    return f"{significant(value / 1e6)} {'MB' if unit == 'bytes' else 'ms'}"


def _value(attribute: str, row: Any) -> str:
    """A value of a change's shift, as text."""
    return value_text(row.series.measure.unit, getattr(row.change.shift, attribute))


def _sparks(series: Series) -> str:
    return sparkline([point.value for point in series.points])


def _runs(series: Series) -> int:
    return len(series.points)


def _level(series: Series) -> str:
    return value_text(series.measure.unit, series.level)


def _interval(row: _Row) -> str:
    assert row.change is not None
    low, high = row.change.interval_pct
    return f"{signed_share(low)} to {signed_share(high)}"


def _versions(row: _Row) -> str:
    assert row.change is not None
    return ", ".join(row.change.versions)


def _change(attribute: str, row: _Row) -> Any:
    return None if row.change is None else getattr(row.change, attribute)


def _shift(attribute: str, row: _Row) -> Any:
    return None if row.change is None else getattr(row.change.shift, attribute)


def _end(place: int, row: _Row) -> float | None:
    return None if row.change is None else row.change.interval_pct[place]


def _new_versions(row: _Row) -> str | None:
    return None if row.change is None else ", ".join(row.change.versions)


PCT: Final = Col("change_pct", "change %", NUMBER, signed_share, value="change.pct")

SERIES_COLS: Final = (
    Col("label", "configuration", LABEL),
    Col("measure", "measure", value="measure.name"),
    Col("timing", "pass", priority=2),
    Col("runs", "runs", COUNT, value=_runs, priority=1),
    Col("level", "now", TEXT, value=_level),
    Col("scatter_pct", "spread %", NUMBER, priority=3),
    Col("sparkline", "runs over time", value=_sparks),
)
CHANGE_COLS: Final = (
    Col("label", "configuration", LABEL, value="series.label", is_grouped=True),
    Col("measure", "measure", value="series.measure.name", is_grouped=True),
    Col("date", "since (UTC)", value="point.date"),
    PCT,
    Col("interval", "95% interval", value=_interval, priority=1),
    Col("before", "before", value=partial(_value, "before"), priority=2),
    Col("after", "after", value=partial(_value, "after"), priority=2),
    Col("run", "first run", value="point.name"),
    Col("versions", "new versions", WORDS, value=_versions),
)

HISTORY_FILE: Final = (
    Col(
        "configuration",
        definition="what the runs of a series have in common: the values of the columns of `--by`",
        value="series.label",
    ),
    Col("measure", definition="what is followed", value="series.measure.name"),
    Col("unit", definition="of `value` and the figures like it: `ns` or `bytes`", value="series.measure.unit"),
    Col.stored(columns.TIMING, value="series.timing"),
    Col("run_id", definition="the run's id in the store", value="point.run_id"),
    Col("name", definition="the run's name in the store", value="point.name"),
    Col.stored(columns.CREATED_NS, value="point.created_ns"),
    Col(
        "value",
        definition="the median over its requests; of `peak_memory` the most, of a family or a kernel the mean per "
        "request",
        value="point.value",
    ),
    Col("low", definition="the lower quartile over its requests", value="point.low"),
    Col("high", definition="the upper quartile over its requests", value="point.high"),
    Col("samples", definition="how many requests these were taken over", value="point.samples"),
    Col(
        "level",
        definition="the mean of the values between two changes, after values far from their neighbours are drawn in",
    ),
    Col(
        "change_pct",
        definition="if the run is the first after a change: the size of the change, in % of the level before",
        value=partial(_change, "pct"),
    ),
    Col("interval_low_pct", definition="the lower end of its 95% interval", value=partial(_end, 0)),
    Col("interval_high_pct", definition="the upper end of its 95% interval", value=partial(_end, 1)),
    Col(
        "p_value",
        definition="the probability of so large a difference between two stretches with the same mean",
        value=partial(_shift, "p_value"),
    ),
    Col(
        "new_versions",
        definition="if the run is the first after a change: the versions that differ from those of the run before",
        value=_new_versions,
    ),
)
"""A row per run of each series."""


def history_report(history: History) -> Report:
    """The series and their changes; for files a row per run."""
    changes = [_Row(series, change.first, change) for series in history.series for change in series.changes]
    tables: list[Table[Any]] = [
        Table(f"History of {history.store}", SERIES_COLS, history.series, notes=tuple(_notes(history, changes)))
    ]
    if changes:
        tables.append(Table("Changes", CHANGE_COLS, changes))
    data: Table[Any] = Table("Runs", HISTORY_FILE, [row for series in history.series for row in _rows(series)])
    totals = {
        "series": len(history.series),
        "changes": len(changes),
        "smaller_changes": sum(series.smaller for series in history.series),
        "undated": history.undated,
        "other_ranks": history.other_ranks,
    }
    return Report("history", [history.store], tuple(tables), data, totals)


def _rows(series: Series) -> Iterator[_Row]:
    """Each run with the level that it is at."""
    changes = {change.shift.place: change for change in series.changes}
    level = series.changes[0].shift.before if series.changes else series.level
    for place, point in enumerate(series.points):
        change = changes.get(place)
        level = change.shift.after if change else level
        yield _Row(series, point, change, level)


def _notes(history: History, changes: Sequence[_Row]) -> Iterator[str]:
    if not changes:
        yield "No change was found."
    if smaller := sum(series.smaller for series in history.series):
        yield f"Not shown: {counted(smaller, 'change')} below {history.least_pct:g}%; --least-pct 0 shows all."
    if history.undated:
        yield f"Left out: {counted(history.undated, 'run')} of traces that don't say when they were captured."
    if history.other_ranks:
        yield f"{history.other_ranks:,} runs are left out: they are ranks of a job, which its rank 0 stands for."
    if short := sum(len(series.points) < FEWEST_RUNS for series in history.series):
        yield f"{short:,} series have fewer than {FEWEST_RUNS} runs, too few to tell a change from noise."
