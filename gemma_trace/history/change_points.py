"""Where the level of a series of values changes.

Circular binary segmentation: of all stretches of a series the one is taken whose mean differs most from that of the
rest, and it is believed where so large a difference is rare among shuffled copies of the series; then the parts are cut
again (Olshen, Venkatraman, Lucito & Wysowski 2004, Biostatistics 5, 557-572). A stretch has two ends, so that a
change that was undone later is found as well as one that stays. A change that doesn't stand up to the values on both of
its sides alone is taken back. Values far from their neighbours are drawn in first: one bad night is no change.

Nights are often like the night before. With a correlation of ρ between neighbours a mean of n values varies as one of
n (1 - ρ) / (1 + ρ) independent ones (Bartlett 1946, J. R. Stat. Soc. Suppl. 8, 27-41), so differences have to be so
much larger; ρ is that of what is left when the levels are taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.student_t import critical_value, two_sided_p

LEVEL: Final = 0.01
"""How often a series without a change may show one."""
FEWEST: Final = 3
"""So many values have to stand on each side of a change."""

_SHUFFLES: Final = 999
_FIRST_SHUFFLES: Final = 99
_HOPELESS: Final = 0.05
"""A stretch that so many of the first shuffles beat isn't held against the others."""
_FAR: Final = 4.0
"""A value is drawn in to so many standard deviations from the median of its neighbours."""
_NEIGHBOURS: Final = 2
_ALL_LENGTHS: Final = 64
"""Stretches up to this length are all tried, longer ones in steps of a twentieth; the ends are found exactly later."""
_MOST_CORRELATED: Final = 0.9
_TO_SIGMA: Final = 1.4826  # of a median absolute deviation, for normal values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """A change of level.

    Attributes:
        place: of the first value after it.
        before, after: the means of the values up to the change before it, and up to the one after it.
        low, high: the 95% interval of `after` - `before` (Student; the noise is taken to be the same all over the
            series, so that few values after a change are enough).
        p_value: how rare so large a difference is between two samples of the same mean.
    """

    place: int
    before: float
    after: float
    low: float
    high: float
    p_value: float

    @property
    def difference(self) -> float:
        """`after` - `before`."""
        return self.after - self.before


def shifts(values: Floats, seed: int = 0) -> list[Shift]:
    """The changes of a series, in its order.

    Args:
        values: float64 [n], in the order of time; all finite.
        seed: of the shuffles; the same series has the same changes.
    """
    if len(values) < 2 * FEWEST:
        return []
    drawn = drawn_in(values)
    random = np.random.default_rng(seed)
    places = sorted(_cut(drawn, 0, len(drawn), random))
    places = _moved(drawn, _pruned(drawn, places))
    return _shifts_at(drawn, places)


def drawn_in(values: Floats) -> Floats:
    """float64 [n], two or more values, those far from the median of themselves and their neighbours brought nearer."""
    sigma = _noise(values)
    padded = np.pad(values, _NEIGHBOURS, constant_values=np.nan)
    middle = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1), axis=1)
    return np.clip(values, middle - _FAR * sigma, middle + _FAR * sigma)


def _noise(values: Floats) -> float:
    """The standard deviation around the level, whatever steps that has: from the differences of neighbours."""
    steps = np.abs(np.diff(values))
    return float(_TO_SIGMA * np.median(steps) / math.sqrt(2))


def _cut(values: Floats, low: int, high: int, random: np.random.Generator) -> list[int]:
    """The places between `low` and `high` at which the values between them are cut."""
    part = values[low:high]
    if len(part) < 2 * FEWEST or np.ptp(part) == 0:
        return []
    centred = part - part.mean()
    most, start, end = _best_stretch(centred)
    inside = np.zeros(len(part), dtype=bool)
    inside[start:end] = True
    left = centred - np.where(inside, centred[inside].mean(), centred[~inside].mean())
    if not _is_rare(centred, most / _inflation(left), random):
        return []
    ends = [low + place for place in (start, end) if 0 < place < len(part)]
    edges = [low, *ends, high]
    inner = [place for a, b in pairwise(edges) for place in _cut(values, a, b, random)]
    return [*ends, *inner]


def _inflation(left: Floats) -> float:
    """By how much the variance of means is larger than it were if the values had nothing to do with their neighbours.

    Args:
        left: float64 [n], what is left of the values when their levels are taken off.
    """
    squares = float(left @ left)
    correlation = float(left[1:] @ left[:-1]) / squares if squares else 0.0
    correlation = min(max(correlation, 0.0), _MOST_CORRELATED)
    return (1 + correlation) / (1 - correlation)


def _lengths(n: int) -> list[int]:
    """How long the stretches are that are tried, and what they leave."""
    lengths = list(range(FEWEST, min(_ALL_LENGTHS, n // 2) + 1))
    while lengths[-1] < n // 2:
        lengths.append(min(n // 2, int(lengths[-1] * 1.05) + 1))
    return sorted({*lengths, *(n - length for length in lengths)})


def _of_length(sums: Floats, length: int) -> Floats:
    """[…, n - length + 1], by start: how far a stretch's mean is from the rest's, squared, times what they weigh.

    Args:
        sums: float64 […, n + 1], sums of the first values, which add up to 0.
    """
    n = sums.shape[-1] - 1
    statistic: Floats = (sums[..., length:] - sums[..., :-length]) ** 2 * (n / (length * (n - length)))
    left = statistic.shape[-1]
    for rest in range(1, FEWEST):  # too few values would be left at an end
        statistic[..., rest : rest + 1] = -1
        statistic[..., left - 1 - rest : left - rest] = -1
    return statistic


def _best_stretch(centred: Floats) -> tuple[float, int, int]:
    """The stretch that differs most from the rest: by how much, its start and its end."""
    sums = np.append(0.0, np.cumsum(centred))
    best = (-1.0, 0, 0)
    for length in _lengths(len(centred)):
        statistic = _of_length(sums, length)
        start = int(np.argmax(statistic))
        best = max(best, (float(statistic[start]), start, start + length))
    return best


def _is_rare(centred: Floats, most: float, random: np.random.Generator) -> bool:
    """Whether at most `LEVEL` of the shuffled copies have a stretch that differs by so much."""
    beaten = _beating(centred, most, _FIRST_SHUFFLES, random)
    if beaten > _HOPELESS * _FIRST_SHUFFLES:
        return False
    beaten += _beating(centred, most, _SHUFFLES - _FIRST_SHUFFLES, random)
    return (1 + beaten) / (1 + _SHUFFLES) <= LEVEL


def _beating(centred: Floats, most: float, count: int, random: np.random.Generator) -> int:
    """How many of so many shuffled copies have a stretch that differs by `most`."""
    copies = random.permuted(np.tile(centred, (count, 1)), axis=1)
    sums = np.concatenate((np.zeros((count, 1)), np.cumsum(copies, axis=1)), axis=1)
    highest = np.full(count, -1.0)
    for length in _lengths(len(centred)):
        np.maximum(highest, _of_length(sums, length).max(axis=1), out=highest)
    return int((highest >= most * (1 - 1e-9)).sum())


def _around(places: list[int], n: int) -> list[tuple[int, int, int]]:
    """Each place between the one before it and the one after it."""
    edges = [0, *places, n]
    return list(zip(edges, edges[1:], edges[2:], strict=False))


def _pruned(values: Floats, places: list[int]) -> list[int]:
    """The places without those that don't stand up to the values on both sides alone, the weakest taken back first."""
    while places:
        p_values = [shift.p_value for shift in _shifts_at(values, places)]
        weakest = int(np.argmax(p_values))
        if p_values[weakest] <= LEVEL:
            break
        places = [*places[:weakest], *places[weakest + 1 :]]
    return places


def _moved(values: Floats, places: list[int]) -> list[int]:
    """Each place where it divides the values around it best."""
    moved: list[int] = []
    for low, _, high in _around(places, len(values)):
        start = moved[-1] if moved else low
        part = values[start:high]
        sums = np.cumsum(part - part.mean())[FEWEST - 1 : len(part) - FEWEST]
        sizes = np.arange(FEWEST, len(part) - FEWEST + 1)
        moved.append(start + FEWEST + int(np.argmax(sums**2 / (sizes * (len(part) - sizes)))))
    return moved


def _shifts_at(values: Floats, places: list[int]) -> list[Shift]:
    """What changes at each of these places, by the values around it."""
    parts = np.split(values, places)
    df = len(values) - len(parts)
    left = np.concatenate([part - part.mean() for part in parts])
    noise = float(left @ left) / df * _inflation(left)
    return [_shift(place, *around, noise, df) for place, around in zip(places, pairwise(parts), strict=True)]


def _shift(place: int, first: Floats, second: Floats, noise: float, df: int) -> Shift:
    """What changes between two stretches.

    Args:
        noise: the variance of the values around their levels, by `df` degrees of freedom.
    """
    before, after = float(first.mean()), float(second.mean())
    difference = after - before
    error = math.sqrt(noise * (1 / len(first) + 1 / len(second)))
    if error == 0:
        return Shift(place, before, after, difference, difference, 0.0 if difference else 1.0)
    reach = critical_value(0.95, df) * error
    return Shift(place, before, after, difference - reach, difference + reach, two_sided_p(difference / error, df))
