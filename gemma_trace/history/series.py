"""The runs of a store as series, one per configuration and measure, with their changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.errors import ConfigError, InputError, UnreadableError
from gemma_trace.history.change_points import Shift, shifts
from gemma_trace.history.measures import Measure, values_of
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.layout import is_store
from gemma_trace.store.schema import RUNS
from gemma_trace.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

BY: Final = ("model", "weights", "dtype", "device", "device_name", "image_backend", "framework")
"""What makes runs comparable, if nothing else is said: all but versions, whose changes are named."""
VERSIONS: Final = ("driver", "cuda", "torch", "transformers", "python", "framework_version")
LEAST_PCT: Final = 1.0
"""A change of less than this is not shown, however certain it is."""

_CAN_BE_BY: Final = frozenset(
    column.key for column in RUNS.columns if column.type in ("string", "int32")
) - {"run_id", "file", "verdict", "timing"}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One run of a series.

    Attributes:
        value: the measure, in its unit; the median over the requests.
        low, high: their quartiles.
        versions: by the names in `VERSIONS`, in their order; "" where the trace doesn't tell.
    """

    run_id: str
    name: str
    created_ns: int
    value: float
    low: float
    high: float
    samples: int
    versions: tuple[str, ...]

    @property
    def date(self) -> str:
        """When it was captured, in UTC."""
        return date_text(self.created_ns)


@dataclass(frozen=True)
class ChangePoint:
    """A change in a series.

    Attributes:
        first: the first run after it.
        versions: what changed between it and the run before, e.g. "torch 2.12 → 2.13".
    """

    shift: Shift
    first: Point
    versions: tuple[str, ...]

    @property
    def pct(self) -> float:
        """The difference in percent of the level before; infinite where that is 0."""
        return _pct(self.shift.difference, self.shift.before)

    @property
    def interval_pct(self) -> tuple[float, float]:
        """Its 95% interval."""
        return _pct(self.shift.low, self.shift.before), _pct(self.shift.high, self.shift.before)


@dataclass(frozen=True)
class Series:
    """The runs of one configuration, by the time of their capture.

    Attributes:
        configuration: by the names that the runs were grouped by; only those that any run has.
        timing: `timed` or `profiled`: without the profiler, or under it.
        changes: in order of time.
        smaller: how many changes are under the least that is shown.
    """

    measure: Measure
    configuration: dict[str, str]
    timing: str
    points: tuple[Point, ...]
    changes: tuple[ChangePoint, ...]
    smaller: int

    @property
    def label(self) -> str:
        """The configuration in a line."""
        return " ".join(text for text in self.configuration.values() if text) or "(nothing is known of it)"

    @cached_property
    def level(self) -> float:
        """The mean since the last change."""
        return self.changes[-1].shift.after if self.changes else float(np.mean([point.value for point in self.points]))

    @property
    def scatter_pct(self) -> float | None:
        """The median over the runs of the distance between the quartiles, in percent; None of single figures."""
        if all(point.samples == 1 for point in self.points):
            return None
        return float(np.median([_pct(point.high - point.low, point.value) for point in self.points]))


@dataclass(frozen=True)
class History:
    """What `gemma-trace history` found.

    Attributes:
        undated: runs that are left out, since their traces don't say when they were captured.
        other_ranks: runs that are left out, since they are ranks of a job other than rank 0.
    """

    store: str
    series: tuple[Series, ...]
    undated: int
    other_ranks: int
    least_pct: float


def history_of(
    store: str | Path,
    measures: Sequence[Measure],
    *,
    by: Sequence[str] = BY,
    since_ns: int | None = None,
    least_pct: float = LEAST_PCT,
) -> History:
    """The series of some measures, the longest first.

    Args:
        by: columns of the table `runs`: runs that differ in one are in different series.
        since_ns: only runs that were captured then or later, in ns since 1970.
        least_pct: changes of less than this are counted, and not shown.

    Raises:
        ConfigError: `by` names no such column.
        InputError: no run has a measure, or none is left.
        UnreadableError: there is no store, or it can't be read.
    """
    if unknown := [name for name in by if name not in _CAN_BE_BY]:
        raise ConfigError(
            f"--by {unknown[0]!r} is not a column that tells runs apart; it can be {', '.join(sorted(_CAN_BE_BY))}"
        )
    runs = Store(store).runs()
    if runs.empty and not is_store(store):
        raise UnreadableError(f"no store at {shown_url(str(store))}; gemma-trace index creates one")
    dated = runs[runs["created_ns"].notna()]
    chosen = dated if "rank" in by else dated[dated["rank"].isna() | (dated["rank"] == 0)]
    recent = chosen if since_ns is None else chosen[chosen["created_ns"] >= since_ns]
    if chosen.empty:
        none = f"none of the runs in {shown_url(str(store))} says when it was captured"
        raise InputError(
            f"{none}, and history orders runs by that; captures of gemma-trace and of a recent torch.profiler do"
        )
    if recent.empty:
        last = date_text(int(chosen["created_ns"].max()))
        raise InputError(
            f"no run in {shown_url(str(store))} is that recent: the last one is from {last} (UTC); check --since"
        )
    measured = [
        series
        for measure in measures
        for series in _series_of(recent, values_of(store, measure), measure, by, least_pct)
    ]
    return History(shown_url(str(store)), tuple(measured), len(runs) - len(dated), len(dated) - len(chosen), least_pct)


def date_text(created_ns: int) -> str:
    """An instant in ns since 1970 as a date and a time, in UTC."""
    return datetime.fromtimestamp(created_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


def _series_of(
    runs: pd.DataFrame, values: pd.DataFrame, measure: Measure, by: Sequence[str], least_pct: float
) -> Iterator[Series]:
    rows = runs.drop(columns="timing").merge(values, on="run_id").sort_values(["created_ns", "run_id"])
    known = [name for name in by if rows[name].notna().any()]
    for name in known:
        rows[name] = rows[name].astype("string").fillna("")
    groups = [group for _, group in rows.groupby([*known, "timing"], sort=True)]
    for group in sorted(groups, key=len, reverse=True):
        points = tuple(_points(group))
        shifted = shifts(np.array([point.value for point in points]))
        changes = [ChangePoint(each, points[each.place], _newer(points, each.place)) for each in shifted]
        shown = tuple(each for each in changes if abs(each.pct) >= least_pct)
        configuration = {name: str(group[name].iloc[0]) for name in known}
        yield Series(measure, configuration, group["timing"].iloc[0], points, shown, len(changes) - len(shown))


def _points(rows: pd.DataFrame) -> Iterator[Point]:
    versions = rows[list(VERSIONS)].astype("string").fillna("")
    columns = [rows[name].tolist() for name in ("run_id", "name", "created_ns", "value", "low", "high", "samples")]
    yield from map(Point, *columns, versions.itertuples(index=False, name=None))


def _newer(points: Sequence[Point], place: int) -> tuple[str, ...]:
    """The versions that are others in a run than in the one before."""
    both = zip(VERSIONS, points[place - 1].versions, points[place].versions, strict=True)
    return tuple(f"{name} {before or '?'} → {after or '?'}" for name, before, after in both if before != after)


def _pct(part: float, whole: float) -> float:
    if whole == 0:
        return 0.0 if part == 0 else float(np.copysign(np.inf, part))
    return 100 * part / whole
