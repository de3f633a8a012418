"""Data → geometry, in percent of a chart's width, so that a chart is as wide as its box without a script.

Heights are in CSS pixels. Whether a text has room depends on the box's width, which only the browser knows: each text
gets the class of the narrowest box that holds it (`from-3`), and the style sheet shows it in those (`WIDTHS_PX`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gemma_trace.analysis.stage_splits import Split
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.report.html.model import DecodeSeries, DrawnLane, Headline
from gemma_trace.report.html.text import stage_class
from gemma_trace.report.number_text import milliseconds, significant

WIDTHS_PX: Final = (0, 300, 380, 480, 600, 750, 900, 1050)
"""Of boxes, each of a class `from-N` and one `until-N`; the style sheet has the same."""

CHARACTER_PX: Final = 7.2
"""About the width of a character of a chart's text."""

NEVER: Final = "never"

LANE_PX: Final = 40
DECODE_PX: Final = 150
_LEAST_PCT: Final = 0.02


@dataclass(frozen=True)
class Text:
    """A text in a bar, shown where the box is as wide as its classes say."""

    text: str
    classes: str


@dataclass(frozen=True)
class Rect:
    """A bar of a chart, in percent of its lane.

    Attributes:
        x_pct, width_pct: of the chart's width.
        title: what it is, in full.
        texts: what stands in it, one for each range of widths.
    """

    x_pct: float
    width_pct: float
    classes: str
    title: str
    texts: tuple[Text, ...] = ()


@dataclass(frozen=True)
class Tick:
    """A line across, with its number.

    Attributes:
        at_pct: along the axis.
        anchor: SVG's `text-anchor`, so that the last number stays inside.
        classes: when there is room for the number.
    """

    at_pct: float
    text: str
    anchor: str
    classes: str


@dataclass(frozen=True)
class Dot:
    """A value drawn as a dot."""

    at_pct: float
    title: str


@dataclass(frozen=True)
class Strip:
    """Values along a line, with their median and its interval.

    Attributes:
        interval: from and to, in percent; None where there are too few values.
    """

    dots: tuple[Dot, ...]
    median_pct: float
    interval: tuple[float, float] | None
    low: str
    high: str


@dataclass(frozen=True)
class Step:
    """A token's interval: the median, and from the smallest to the largest. y is in pixels from the top."""

    x_pct: float
    y_px: float
    top_px: float
    bottom_px: float
    title: str


@dataclass(frozen=True)
class Steps:
    """The decode series.

    Attributes:
        levels: lines across with their numbers; `at_pct` is of the height.
        numbers: the tokens' numbers along the axis.
    """

    steps: tuple[Step, ...]
    levels: tuple[Tick, ...]
    numbers: tuple[Tick, ...]


def round_ticks(length: float, most: int = 8) -> list[float]:
    """Round numbers from 0 up to a length, `most` steps at most.

    >>> round_ticks(267.1)
    [0.0, 50.0, 100.0, 150.0, 200.0, 250.0]
    """
    if length <= 0:
        return [0.0]
    power = math.pow(10, math.floor(math.log10(length / most)))
    step = next(power * factor for factor in (1, 2, 5, 10) if length / (power * factor) <= most)
    return [round(step * place, 12) for place in range(int(length / step + 1e-9) + 1)]


def axis(length: float, unit: str = "ms") -> tuple[Tick, ...]:
    """Ticks along a chart that is `length` long; every other number goes where there is little room."""
    values = round_ticks(length)
    ticks = []
    for place, value in enumerate(values):
        at = 100 * value / length if length else 0.0
        anchor = "start" if not place else "end" if at > 96 else "middle"
        text = f"{value:,g}" + (f" {unit}" if not place else "")
        ticks.append(Tick(at, text, anchor, "from-4" if place % 2 else ""))
    return tuple(ticks)


def lane_rects(lane: DrawnLane, scale_ns: int) -> tuple[Rect, ...]:
    """The bars of a lane.

    Args:
        scale_ns: what the chart's width stands for.
    """
    rects = []
    for bar in lane.stretches:
        width = 100 * (bar.end_ns - bar.start_ns) / scale_ns
        if width < _LEAST_PCT / 10:
            continue  # a thousandth of a pixel; the stage has its row in the table
        length = milliseconds(bar.own_ns)
        title = f"{bar.stage}: {length} ms, from {milliseconds(bar.start_ns)} to {milliseconds(bar.end_ns)} ms"
        if bar.own_ns < bar.end_ns - bar.start_ns:
            title = f"{bar.stage}: {length} ms between {milliseconds(bar.start_ns)} and {milliseconds(bar.end_ns)} ms"
        texts = fitting((f"{bar.stage} {length} ms", bar.stage), width)
        rects.append(Rect(100 * bar.start_ns / scale_ns, width, stage_class(bar.stage), title, texts))
    return tuple(rects)


def fitting(texts: Sequence[str], width_pct: float) -> tuple[Text, ...]:
    """The longest of these texts that a bar has room for, at every width of the box.

    Args:
        texts: the longest first.
        width_pct: of the bar.
    """
    fits: list[Text] = []
    until = ""
    for text in texts:
        narrowest = narrowest_box(text, width_pct)
        if narrowest != NEVER and narrowest != until:
            fits.append(Text(text, " ".join(filter(None, (f"from-{narrowest}", until and f"until-{until}")))))
            until = narrowest
    return tuple(fits)


def narrowest_box(text: str, width_pct: float) -> str:
    """The place in `WIDTHS_PX` of the narrowest box in which a bar of this share has room for a text, or `NEVER`."""
    if width_pct <= 0:
        return NEVER
    needed = (len(text) * CHARACTER_PX + 12) / (width_pct / 100)
    return next((str(place) for place, width in enumerate(WIDTHS_PX) if width >= needed), NEVER)


def stacked(parts: Iterable[tuple[str, float]], scale: float, unit: str = "ms") -> tuple[Rect, ...]:
    """Parts end to end.

    Args:
        parts: a stage and its length each.
        scale: what the chart's width stands for, in the same unit.
    """
    rects = []
    at = 0.0
    for stage, length in parts:
        width = 100 * length / scale if scale else 0.0
        if width > 0:
            number = significant(length)
            texts = fitting((f"{stage} {number}", stage, number), width)
            rects.append(Rect(at, width, stage_class(stage), f"{stage}: {number} {unit}", texts))
            at += width
    return tuple(rects)


def stacked_split(split: Split, scale_ns: float) -> tuple[Rect, ...]:
    """A sum by stage as parts end to end, without texts."""
    rects = []
    at = 0.0
    for stage, ns in split.by_stage_ns:
        width = 100 * ns / scale_ns if scale_ns else 0.0
        rects.append(Rect(at, width, stage_class(stage), f"{stage}: {milliseconds(ns)} ms"))
        at += width
    return tuple(rects)


def strip(headline: Headline) -> Strip:
    """The headline's values along a line that is just as long as it must be."""
    measured = headline.measured
    ends: list[float] = [measured.min, measured.max, *(measured.median_interval or ())]
    low, high = min(ends), max(ends)
    room = (high - low) * 0.06 or 1.0

    def at(value: float) -> float:
        return 100 * (value - low + room) / (high - low + 2 * room)

    dots = tuple(
        Dot(at(value), f"{label}: {significant(value)} {measured.unit}")
        for value, label in zip(measured.values, headline.labels, strict=True)
    )
    between = measured.median_interval
    return Strip(
        dots,
        at(measured.median),
        (at(between[0]), at(between[1])) if between else None,
        significant(measured.min),
        significant(measured.max),
    )


def range_pct(measured: Distribution, scale: float) -> tuple[float, float, float]:
    """The first quartile, the median and the third quartile in percent of a chart's width."""
    q1, median, q3 = (100 * value / scale for value in (measured.q1, measured.median, measured.q3))
    return q1, median, q3


def decode_steps(series: DecodeSeries) -> Steps:
    """The series from 0 up, so that what looks twice as long is."""
    highest = max(step.intervals.max for step in series.steps) or 1.0
    levels = round_ticks(highest * 1.05, 4)
    top = highest * 1.05

    def y(value: float) -> float:
        return DECODE_PX * (1 - value / top)

    count = len(series.steps)
    steps = []
    numbers = []
    for place, step in enumerate(series.steps):
        x = 100 * (place + 0.5) / count
        name = f"token {step.first}" if step.first == step.last else f"tokens {step.first} to {step.last}"
        intervals = step.intervals
        title = f"{name}: {significant(intervals.median)} ms"
        if intervals.n > 1:
            title += f", {significant(intervals.min)} to {significant(intervals.max)} ms in {intervals.n} intervals"
        steps.append(Step(x, y(intervals.median), y(intervals.max), y(intervals.min), title))
        if place % -(-count // 8) == 0:
            numbers.append(Tick(x, str(step.first), "middle", ""))
    marks = tuple(Tick(100 * y(level) / DECODE_PX, f"{level:g}", "start", "") for level in levels)
    return Steps(tuple(steps), marks, tuple(numbers))
