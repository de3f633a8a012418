"""How far the times of ranks scatter, and what stands out from that.

A rank is held against the scatter of the others alone, or it would hide itself. An excess stands out where chance
would bring one about in a share `FALSE_ALARMS` of all jobs, over all stages and ranks (Bonferroni), by Student's t for
the few ranks or requests that the scatter is known from.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.student_t import critical_value
from gemma_trace.ranks.clocks import MAD_TO_SIGMA
from gemma_trace.trace.events import BoolArray, IntArray

FALSE_ALARMS: Final = 0.001
"""How likely it is that a job without a straggler has one named."""

MARGIN: Final = 1.5
"""Times scatter wider than a normal distribution does; so much farther must an excess stand out."""

MEDIAN_ERROR: Final = 1.2533
"""The standard error of a median over that of a mean, for normal values: the square root of π/2."""

FEW_RANKS: Final = 3
"""So few ranks say nothing of how ranks scatter; there a rank is held against its own scatter over the requests."""

MANY_RANKS: Final = 32
"""Of so many ranks one more or less changes nothing: the scatter of all stands for that of the others."""


@dataclass(frozen=True)
class Scatter:
    """What a rank's excesses are held against.

    Attributes:
        typical_sigma_ns: the standard error of the median of a rank's excesses.
        typical_freedom: how many degrees of freedom that is known with; 0 where it isn't known.
        single_sigma_ns: the standard deviation of one excess.
        single_freedom: the same of that.
    """

    typical_sigma_ns: float
    typical_freedom: int
    single_sigma_ns: float
    single_freedom: int

    @property
    def tells_typical(self) -> bool:
        """Whether anything can be said of a rank's median."""
        return self.typical_freedom > 0

    @property
    def tells_single(self) -> bool:
        """Whether anything can be said of one request."""
        return self.single_freedom > 0

    def typical_ns(self, comparisons: int) -> float:
        """What the median of a rank's excesses has to exceed, of so many that are looked at."""
        return _limit(self.typical_sigma_ns, self.typical_freedom, comparisons)

    def single_ns(self, comparisons: int) -> float:
        """What the excess in one request has to exceed, of so many that are looked at."""
        return _limit(self.single_sigma_ns, self.single_freedom, comparisons)


class Scatters:
    """The scatter of a stage's own times.

    Args:
        own_ns, there: [ranks, requests], the times, and which there are.
    """

    def __init__(self, own_ns: IntArray, there: BoolArray) -> None:
        self._own_ns, self._there = own_ns, there
        self._present = np.flatnonzero(there.any(axis=1))
        self._all = self._around(self._present) if len(self._present) > MANY_RANKS else None

    def of(self, rank: int, excess_ns: IntArray) -> Scatter:
        """What a rank is held against.

        Args:
            excess_ns: int64, its excess in each of its requests.
        """
        if len(self._present) <= FEW_RANKS:
            return _within(excess_ns)
        return self._all or self._around(self._present[self._present != rank])

    def _around(self, ranks: IntArray) -> Scatter:
        """How some ranks scatter around their median in each request."""
        requests = np.flatnonzero(self._there[ranks].any(axis=0))
        there = self._there[np.ix_(ranks, requests)]
        values = np.where(there, self._own_ns[np.ix_(ranks, requests)], np.nan)
        rest = values - np.nanmedian(values, axis=0)
        single = _sigma(rest[there])
        count = int(there.sum(axis=1).max())
        between = _sigma(np.nanmedian(rest, axis=1))
        typical = max(between, single * (MEDIAN_ERROR / np.sqrt(count) if count > 1 else 1.0))
        return Scatter(typical, len(ranks) - 1, single, int(there.sum()) - 1)


def _within(excess_ns: IntArray) -> Scatter:
    """How a rank's excess scatters over the requests."""
    count = len(excess_ns)
    if count < 2:
        return Scatter(0.0, 0, 0.0, 0)
    sigma = float(np.std(excess_ns, ddof=1))
    return Scatter(sigma * MEDIAN_ERROR / float(np.sqrt(count)), count - 1, sigma, count - 1)


def _sigma(values: npt.NDArray[np.float64]) -> float:
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def _limit(sigma_ns: float, freedom: int, comparisons: int) -> float:
    if freedom < 1 or sigma_ns == 0:
        return 0.0
    return MARGIN * sigma_ns * _quantile(FALSE_ALARMS / max(comparisons, 1), freedom)


@cache
def _quantile(share: float, freedom: int) -> float:
    """The t that is exceeded, upwards, with this probability."""
    return critical_value(1 - 2 * share, freedom)
