"""How far two sides differ whose requests are nested in processes, and how sure that is.

Requests of one process share its luck: where its memory lies, which cores it got, what else the machine did. A sample
of many requests in one process says how much they scatter around *that* process's median, and nothing about the next
process. So the spread between processes has to come from several of them, and where there is one there is no interval
of a difference that anybody should believe; see `noise.py` for what is said then.

The standard error comes from a bootstrap on two levels (Davison & Hinkley 1997, "Bootstrap Methods and their
Application", 3.8): processes are drawn with replacement, and of each the requests, in blocks that wrap around (the
circular block bootstrap, Politis & Romano 1992), since requests in a row resemble each other; blocks are as long as the
cube root of the sample's size (Hall, Horowitz & Jing 1995). Drawn among k processes the variance comes out too small
by (k - 1) / k, and is set right by that. The interval is Student's with k - 1 degrees of freedom where rounds pair
the processes, and with Welch and Satterthwaite's where they don't.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.statistics import MIN_N_FOR_INTERVAL
from gemma_trace.analysis.student_t import critical_value, two_sided_p

LEVEL: Final = 0.95
"""Of every interval."""

RESAMPLES: Final = 1000
"""A standard error from so many is off by 2%, and a quantile by less than the sample itself."""

_ROUNDING: Final = 1e-9
"""Standard errors below this share of the values are what is left of floating-point arithmetic."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """The difference of two sides: after less before, in the unit of the values.

    Attributes:
        value: the difference of the means of the processes' medians; of one process per side, of their medians.
        interval: of 95%; None where there is nothing to take one from.
        p_value: two-sided, of no difference at all; None where one side has one process.
        processes: how many each side has.
        is_paired: whether process i of one side ran in the same round as process i of the other.
    """

    value: float
    interval: tuple[float, float] | None
    p_value: float | None
    processes: tuple[int, int]
    is_paired: bool

    @property
    def is_between_processes(self) -> bool:
        """Whether run-to-run variation is in the interval."""
        return min(self.processes) > 1


def difference(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], *, paired: bool) -> Difference:
    """How far two sides differ.

    Args:
        before, after: a sequence of values per process, in the order in which they were measured; none is empty.
        paired: process i of the two sides ran in one round. Both sides have as many then.
    """
    counts = (len(before), len(after))
    if min(counts) == 1:
        value = _center(after) - _center(before)
        return Difference(
            value, _within_one_process(before[0], after[0]) if counts == (1, 1) else None, None, counts, False
        )
    value = _center(after) - _center(before)
    random = np.random.default_rng(0)
    if paired:
        drawn = _drawn_means(before, after, random)
        variances = [_unbiased_variance(drawn[1] - drawn[0], counts[0])]
        error, df = variances[0] ** 0.5, float(counts[0] - 1)
    else:
        variances = [_unbiased_variance(_drawn_means(side, None, random)[0], len(side)) for side in (before, after)]
        error = sum(variances) ** 0.5
        below = sum(variance**2 / (count - 1) for variance, count in zip(variances, counts, strict=True))
        df = sum(variances) ** 2 / below if below else float(sum(counts) - 2)
    if error <= _ROUNDING * max(abs(_center(before)), abs(_center(after))):
        return Difference(value, (value, value), 0.0 if abs(value) > error else 1.0, counts, paired)
    reach = critical_value(LEVEL, round(df, 3)) * error
    return Difference(value, (value - reach, value + reach), two_sided_p(value / error, df), counts, paired)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979): called at 5%, at most 5% of all such families have one false alarm or more.

    It holds for stages that depend on each other, as those of one request do.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = highest
    return adjusted


def _center(processes: Sequence[Sequence[float]]) -> float:
    return float(np.mean([np.median(values) for values in processes]))


def _unbiased_variance(drawn: Floats, processes: int) -> float:
    return float(np.var(drawn)) * processes / (processes - 1)


def _drawn_means(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]] | None, random: np.random.Generator
) -> list[Floats]:
    """Means over drawn processes of the medians of their drawn requests, float64 [resamples], of one side or of two.

    Two sides are drawn by rounds: the same processes of both.
    """
    count = len(first)
    chosen = random.integers(count, size=(RESAMPLES, count))
    means = []
    for side in (first, second) if second is not None else (first,):
        medians = np.empty((RESAMPLES, count))
        for process, values in enumerate(side):
            here = chosen == process
            medians[here] = _drawn_medians(np.asarray(values, dtype=np.float64), int(here.sum()), random)
        means.append(medians.mean(axis=1))
    return means


def _drawn_medians(values: Floats, times: int, random: np.random.Generator) -> Floats:
    """The medians of samples that are drawn in blocks, float64 [times]."""
    n = len(values)
    if n == 1:
        return np.full(times, values[0])
    length = max(1, round(n ** (1 / 3)))
    blocks = -(-n // length)
    starts = random.integers(n, size=(times, blocks))
    places = (starts[:, :, None] + np.arange(length)).reshape(times, -1)[:, :n] % n
    ordered = np.sort(values[places], axis=1)  # of short rows quicker than a median by partition
    return (ordered[:, (n - 1) // 2] + ordered[:, n // 2]) / 2


def _within_one_process(before: Sequence[float], after: Sequence[float]) -> tuple[float, float] | None:
    """How well the requests of the two processes tell their medians apart: without what processes differ by."""
    if min(len(before), len(after)) < MIN_N_FOR_INTERVAL:
        return None
    random = np.random.default_rng(0)
    drawn = [_drawn_medians(np.asarray(side, dtype=np.float64), RESAMPLES, random) for side in (before, after)]
    low, high = np.percentile(drawn[1] - drawn[0], [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2])
    return float(low), float(high)
