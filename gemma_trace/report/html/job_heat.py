"""A job's grid → the heat map of ranks by stage: what each cell says, and which colour it has.

A cell has a colour of few: each step is twice the one before, so that one rank that is late stands out, and what is
half as late can still be told from it. The page's policy allows no style of an element's own; a colour is a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.ranks.grid import Array3, Grid
from gemma_trace.ranks.stragglers import over_others
from gemma_trace.report.number_text import milliseconds
from gemma_trace.trace.events import BoolArray, IntArray

STEPS: Final = 4
"""How many colours there are on either side of the one for next to nothing."""

LEAST_SHARE: Final = 0.01
"""The darkest colour of an excess is kept for this share of a request, however little the ranks differ."""

ABSENT_CODE: Final = "x"
_ABOVE: Final = "01234"
_BELOW: Final = "0abcd"

MOST_TALL: Final = 64
"""Up to so many ranks, rows are as tall as a line of text."""

MOST_MEDIUM: Final = 256
"""Up to so many, each row has its number beside it; of more, every eighth."""


@dataclass(frozen=True)
class Shade:
    """A colour of the legend.

    Attributes:
        code: the last letter of its class.
        text: what it stands for.
    """

    code: str
    text: str


@dataclass(frozen=True)
class Measure:
    """Something that cells show.

    Attributes:
        key: its name in the page's data.
        name: what people read.
        values_ns: int64 [ranks, stages], per request, the mean over those of a rank.
        codes: by rank a letter per stage: the colour's, or `ABSENT_CODE`.
        legend: the colours, from the least to the most.
    """

    key: str
    name: str
    values_ns: IntArray
    codes: tuple[str, ...]
    legend: tuple[Shade, ...]


@dataclass(frozen=True)
class HeatRow:
    """A row of the heat map: one rank.

    Attributes:
        rank: its global rank.
        codes: the colours of what is shown first.
        title: the stage in which it is latest, and by how much.
        data: by the measure's key its codes, a bar, and its values in ns.
    """

    rank: int
    codes: str
    title: str
    data: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HeatMap:
    """Ranks by stages.

    Attributes:
        stages: the columns.
        measures: what can be shown, the excess first.
        rows: by rank, or where there are more than a screen has room for, the latest first.
        order: how they are sorted: `rank` or `largest`.
        size: `tall`, `medium` or `thin`: how high the rows are.
        summary: what there is to see, for who doesn't see it.
    """

    stages: tuple[str, ...]
    measures: tuple[Measure, ...]
    rows: tuple[HeatRow, ...]
    order: str
    size: str
    summary: str


def heat_map(grid: Grid, numbers: Sequence[int]) -> HeatMap:
    """The heat map of a job.

    Args:
        numbers: the global rank of each place.
    """
    there = np.logical_or.reduce(grid.is_there, axis=1)
    wall_ns = int(np.median(grid.wall_ns.max(axis=0))) if grid.wall_ns.size else 0
    measures = [_excess(grid, there, wall_ns)]
    for key, name, values in (
        ("time", "time", grid.time_ns),
        ("wait", "exposed wait for other ranks", grid.wait_ns),
        ("communication", "exposed communication", grid.communication_ns),
    ):
        measures.append(_measure(key, name, _mean(values, grid), there, 0))
    excess = measures[0].values_ns
    titles = [_latest(grid.stages, excess[place], there[place]) for place in range(len(numbers))]
    rows = [
        HeatRow(rank, measures[0].codes[place], f"rank {rank}: {titles[place]}", _data(measures, place))
        for place, rank in enumerate(numbers)
    ]
    count = len(numbers)
    size = "tall" if count <= MOST_TALL else "medium" if count <= MOST_MEDIUM else "thin"
    order = "rank" if size == "tall" else "largest"
    if order == "largest":
        largest = np.where(there, excess, np.iinfo(np.int64).min).max(axis=1)
        rows = [rows[place] for place in np.argsort(-largest.astype(np.float64), kind="stable").tolist()]
    summary = _summary(grid, numbers, excess, titles)
    return HeatMap(grid.stages, tuple(measures), tuple(rows), order, size, summary)


def excess_ns(grid: Grid) -> IntArray:
    """int64 [ranks, stages], a rank's own time less the median of the other ranks' in the same request, the mean."""
    over = np.stack(
        [
            over_others(grid.own_ns[:, :, stage], grid.is_there[:, :, stage])  # ranks by requests
            for stage in range(len(grid.stages))
        ],
        axis=2,
    )
    return _mean(over, grid)


def _excess(grid: Grid, there: BoolArray, wall_ns: int) -> Measure:
    name = "own time over the others' median"
    return _measure("excess", name, excess_ns(grid), there, int(LEAST_SHARE * wall_ns), signed=True)


def _mean(values: Array3, grid: Grid) -> IntArray:
    """int64 [ranks, stages], the mean over the requests that a rank has."""
    requests = np.maximum((grid.wall_ns > 0).sum(axis=1), 1)[:, None]
    mean: IntArray = np.rint(values.sum(axis=1) / requests).astype(np.int64)
    return mean


def _measure(
    key: str, name: str, values: IntArray, there: BoolArray, least_top_ns: int, *, signed: bool = False
) -> Measure:
    top_ns = max(int(np.abs(values[there]).max(initial=0)), least_top_ns, 1)
    return Measure(key, name, values, _codes(values, there, top_ns), _legend(top_ns, signed=signed))


def _codes(values: IntArray, there: BoolArray, top_ns: int) -> tuple[str, ...]:
    """By rank the letters of its cells."""
    factors = 2 ** np.arange(1, STEPS + 1)
    steps = (np.abs(values)[:, :, None] * factors >= top_ns).sum(axis=2)
    return tuple(
        "".join(
            (_BELOW if value < 0 else _ABOVE)[step] if is_there else ABSENT_CODE
            for value, step, is_there in zip(*row, strict=True)
        )
        for row in zip(values.tolist(), steps.tolist(), there.tolist(), strict=True)
    )


def _legend(top_ns: int, *, signed: bool) -> tuple[Shade, ...]:
    """The colours with the least that each stands for."""
    sign = "+" if signed else ""
    least = [milliseconds(top_ns / 2 ** (STEPS + 1 - step)) for step in range(1, STEPS + 1)]
    above = [Shade(_ABOVE[step], f"{sign}{least[step - 1]}") for step in range(1, STEPS + 1)]
    below = [Shade(_BELOW[step], f"−{least[step - 1]}") for step in range(STEPS, 0, -1)] if signed else []
    return (*below, Shade(_ABOVE[0], "less"), *above)


def _data(measures: Sequence[Measure], place: int) -> tuple[tuple[str, str], ...]:
    return tuple(
        (each.key, f"{each.codes[place]}|{','.join(map(str, each.values_ns[place].tolist()))}") for each in measures
    )


def _latest(stages: Sequence[str], excess: IntArray, there: BoolArray) -> str:
    if not there.any():
        return "no stage"
    place = int(np.argmax(np.where(there, excess, np.iinfo(np.int64).min)))
    sign = "+" if excess[place] > 0 else ""
    return f"{stages[place]} {sign}{milliseconds(int(excess[place]))} ms"


def _summary(grid: Grid, numbers: Sequence[int], excess: IntArray, titles: Sequence[str]) -> str:
    if not numbers or not grid.stages:
        return "Heat map without a rank"
    latest = int(np.argmax(excess.max(axis=1)))
    return (
        f"Heat map of {len(numbers):,} ranks by {len(grid.stages)} stages. The largest excess over the median of the "
        f"other ranks is that of rank {numbers[latest]}: {titles[latest]}. The tables below have the figures."
    )
