"""The parts of TTFT over the requests' sizes, as a chart: x in percent of its width, y in pixels from the top."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemma_trace.analysis.size_curve import SizePoint, size_curve
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.report.html.charts import Tick, axis, round_ticks
from gemma_trace.report.html.model import RunView
from gemma_trace.report.html.text import full_name
from gemma_trace.report.number_text import spread
from gemma_trace.report.table import Table
from gemma_trace.report.tables.requests import by_series, size_table

CURVE_PX: Final = 220
MOST_CHARTS: Final = 8
"""So many series are drawn; the table has all."""

_LINES: Final = (
    ("TTFT", "ttft_ms", "curve-ttft"),
    ("encoder", "encoder_ms", "s-vision_tower"),
    ("prefill", "prefill_ms", "s-prefill"),
    ("preprocessing", "preprocessing_ms", "s-preprocessing"),
    ("image load", "image_load_ms", "s-image_load"),
)
_ROOM: Final = 1.05
"""What the axes reach, as a share of the largest value."""


@dataclass(frozen=True)
class CurveDot:
    """The median at one size, with its quartiles."""

    x_pct: float
    y_px: float
    low_px: float
    high_px: float
    title: str


@dataclass(frozen=True)
class CurveLine:
    """One part of TTFT over the sizes, from left to right."""

    name: str
    classes: str
    dots: tuple[CurveDot, ...]


@dataclass(frozen=True)
class CurveChart:
    """One series of a curve.

    Attributes:
        title: "" where there is only one.
        across: what the x axis is of.
        levels: lines across, as pixels from the top, with their numbers.
    """

    title: str
    across: str
    lines: tuple[CurveLine, ...]
    ticks: tuple[Tick, ...]
    levels: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Curve:
    """All series and their table."""

    charts: tuple[CurveChart, ...]
    table: Table[Any]


def curve_of(runs: Sequence[RunView]) -> Curve | None:
    """The curve of the requests of these runs; None where their sizes don't differ enough."""
    points = size_curve([run.sized for run in runs])
    if not points:
        return None
    curves = by_series(points)
    charts = [chart_of(curve, series if len(curves) > 1 else "") for series, curve in curves.items()]
    return Curve(tuple(charts[:MOST_CHARTS]), size_table(points))


def chart_of(points: Sequence[SizePoint], title: str) -> CurveChart:
    """The places of a series' points: over pixels if those differ, else over tokens."""
    by_pixels = len({point.image_pixels for point in points}) > 1
    sizes = [point.image_pixels / 1e6 if by_pixels else point.prompt_tokens for point in points]
    right = max(sizes) * _ROOM
    top = max((dist.q3 for point in points for _, dist in _values(point)), default=1.0) * _ROOM or 1.0
    across = "megapixels of a prompt's images" if by_pixels else "tokens of a prompt"

    def dot(name: str, size: float, ms: Distribution) -> CurveDot:
        y, low, high = (CURVE_PX * (1 - value / top) for value in (ms.median, ms.q1, ms.q3))
        said = f"{name}: {spread(ms)} ms at {size:,.3g} {'MP' if by_pixels else 'tokens'}"
        return CurveDot(100 * size / right, y, low, high, full_name(said))

    lines = []
    for name, key, classes in _LINES:
        dots = [dot(name, size, ms) for size, point in zip(sizes, points, strict=True) if (ms := getattr(point, key))]
        lines += [CurveLine(name, classes, tuple(dots))] if dots else []
    levels = tuple((CURVE_PX * (1 - value / top), f"{value:,g}") for value in round_ticks(top, 5))
    return CurveChart(title, across, tuple(lines), axis(right, "MP" if by_pixels else ""), levels)


def _values(point: SizePoint) -> Iterator[tuple[str, Distribution]]:
    for name, key, _ in _LINES:
        if (value := getattr(point, key)) is not None:
            yield name, value
