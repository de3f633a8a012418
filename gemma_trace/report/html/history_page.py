"""Series over time → one HTML file: a chart per series with its changes, and the tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gemma_trace.history.series import VERSIONS, History, Point, Series
from gemma_trace.report.html.page import rendered
from gemma_trace.report.html.text import full_name
from gemma_trace.report.tables.history import history_report, value_text
from gemma_trace.report.units import signed_share

HEIGHT_PX: Final = 170
MOST_CHARTS: Final = 50
"""So many series are drawn, those with the most runs; the table has all."""

_MARGIN: Final = 0.08
"""Of the values' range, above and below."""


@dataclass(frozen=True)
class Mark:
    """A run on a chart, in percent from the left and pixels from the top.

    Attributes:
        row: what its row in the table of runs is called.
        low_px, high_px: of its quartiles.
        is_first: whether it is the first run after a change.
    """

    row: str

    x_pct: float
    y_px: float
    low_px: float
    high_px: float
    title: str
    is_first: bool


@dataclass(frozen=True)
class Level:
    """The level between two changes: a line."""

    from_pct: float
    to_pct: float
    y_px: float


@dataclass(frozen=True)
class RunRow:
    """A run in the table of runs.

    Attributes:
        id: what its dot links to.
        versions: of torch, its driver and so on.
    """

    id: str
    date: str
    name: str
    run_id: str
    value: str
    quartiles: str
    versions: str


@dataclass(frozen=True)
class Chart:
    """A series, drawn.

    Attributes:
        rows: its runs, the last first.
        ticks: heights in pixels with what stands there.
        dates: places in percent, with their anchors and texts.
        said: the changes in sentences.
    """

    title: str
    marks: tuple[Mark, ...]
    levels: tuple[Level, ...]
    ticks: tuple[tuple[float, str], ...]
    dates: tuple[tuple[float, str, str], ...]
    said: tuple[str, ...]
    rows: tuple[RunRow, ...]


def render_history(history: History) -> bytes:
    """The page as UTF-8; it loads nothing, and all texts are escaped."""
    drawn = sorted(history.series, key=_runs, reverse=True)[:MOST_CHARTS]
    charts = [chart_of(series, f"s{place}") for place, series in enumerate(drawn)]
    left = len(history.series) - len(charts)
    text = rendered(
        "history.html", ("history",), report=history_report(history), charts=charts, left=left, HEIGHT_PX=HEIGHT_PX
    )
    return text.encode("utf-8", "replace")


def chart_of(series: Series, name: str) -> Chart:
    """The places of a series' runs and levels.

    Args:
        name: what its runs' rows are called by.
    """
    points = series.points
    low, high = min(point.low for point in points), max(point.high for point in points)
    room = (high - low or abs(high) or 1.0) * _MARGIN
    bottom, top = low - room, high + room

    def y_px(value: float) -> float:
        return HEIGHT_PX * (top - value) / (top - bottom)

    first = {change.shift.place for change in series.changes}
    across = _across(points)
    marks = tuple(
        Mark(
            f"{name}-{place}",
            x,
            y_px(point.value),
            y_px(point.low),
            y_px(point.high),
            _title(series, point),
            place in first,
        )
        for place, (x, point) in enumerate(zip(across, points, strict=True))
    )
    edges = [0, *sorted(first), len(points)]
    heights = [*(change.shift.before for change in series.changes), series.level]
    levels = tuple(
        Level(across[a], across[b - 1], y_px(height)) for a, b, height in zip(edges, edges[1:], heights, strict=False)
    )
    rows = tuple(_row(series, point, f"{name}-{place}") for place, point in enumerate(points))[::-1]
    ticks = tuple((y_px(value), value_text(series.measure.unit, value)) for value in dict.fromkeys((high, low)))
    return Chart(_name(series), marks, levels, ticks, tuple(_dates(points)), tuple(_said(series)), rows)


def _runs(series: Series) -> int:
    return len(series.points)


def _name(series: Series) -> str:
    return f"{series.measure.name}: {series.label} ({series.timing})"


def _across(points: Sequence[Point]) -> list[float]:
    """Where each run is in time, in percent of the time between the first and the last."""
    begin, length = points[0].created_ns, points[-1].created_ns - points[0].created_ns
    return [1 + 98 * (point.created_ns - begin) / length if length else 50.0 for point in points]


def _dates(points: Sequence[Point]) -> Iterator[tuple[float, str, str]]:
    begin, length = points[0].created_ns, points[-1].created_ns - points[0].created_ns
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")) if length else ((0.5, "middle"),):
        at = datetime.fromtimestamp((begin + int(share * length)) // 10**9, UTC)
        yield 1 + 98 * share, anchor, f"{at:%Y-%m-%d %H:%M}" if length < 2 * 86_400 * 10**9 else f"{at:%Y-%m-%d}"


def _row(series: Series, point: Point, row: str) -> RunRow:
    unit = series.measure.unit
    versions = ", ".join(f"{name} {text}" for name, text in zip(VERSIONS, point.versions, strict=True) if text)
    quartiles = f"{value_text(unit, point.low)} to {value_text(unit, point.high)}" if point.samples > 1 else ""
    return RunRow(row, point.date, point.name, point.run_id, value_text(unit, point.value), quartiles, versions)


def _title(series: Series, point: Point) -> str:
    unit = series.measure.unit
    spread = f", {value_text(unit, point.low)} to {value_text(unit, point.high)}" if point.samples > 1 else ""
    return full_name(f"{point.name}, {point.date}: {value_text(unit, point.value)}{spread}")


def _said(series: Series) -> Iterator[str]:
    for change in series.changes:
        low, high = change.interval_pct
        size = f"{signed_share(change.pct)}% ({signed_share(low)} to {signed_share(high)})"
        versions = f"; {', '.join(change.versions)}" if change.versions else "; no version changed"
        yield full_name(f"{change.first.date}: {size} from run {change.first.name} on{versions}")
