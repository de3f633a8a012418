"""`Distribution`: a sample and what is said of it, everywhere the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

NOISY_IQR_SHARE: Final = 0.10
"""An interquartile range over this share of the median is flagged, as torch.utils.benchmark does."""

MIN_N_FOR_INTERVAL: Final = 5
"""Below this many values a bootstrap interval of the median says nothing."""

MIN_N_FOR_P90: Final = 10
"""Below this many values there is no 90th percentile."""

MIN_N_FOR_P99: Final = 100
"""Below this many values there is no 99th percentile."""

BOOTSTRAP_RESAMPLES: Final = 2000


@dataclass(frozen=True)
class Distribution:
    """A sample of one quantity.

    Attributes:
        values: in the order they were measured; at least one.
        unit: of the values, e.g. "ms".

    >>> d = Distribution((1.0, 2.0, 3.0, 4.0), "ms")
    >>> d.median, d.std, d.iqr
    (2.5, 1.2909944487358056, 1.5)
    """

    values: tuple[float, ...]
    unit: str

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a distribution requires at least one value")

    @property
    def n(self) -> int:
        """How many values."""
        return len(self.values)

    @cached_property
    def median(self) -> float:
        """The median."""
        return float(np.median(self.values))

    @cached_property
    def mean(self) -> float:
        """The arithmetic mean."""
        return float(np.mean(self.values))

    @cached_property
    def std(self) -> float | None:
        """The sample's standard deviation, with n - 1 below; None for one value."""
        return float(np.std(self._deviations, ddof=1)) if self.n > 1 else None

    @cached_property
    def population_std(self) -> float:
        """The standard deviation with n below, as the reference study has it."""
        return float(np.std(self._deviations))

    @property
    def _deviations(self) -> npt.NDArray[np.float64]:
        """Taken from the median first, so that equal values deviate by nothing at all."""
        return np.asarray(self.values) - self.median

    @property
    def min(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def max(self) -> float:
        """The largest value."""
        return max(self.values)

    @cached_property
    def q1(self) -> float:
        """The first quartile, interpolated linearly."""
        return float(np.percentile(self.values, 25))

    @cached_property
    def q3(self) -> float:
        """The third quartile, interpolated linearly."""
        return float(np.percentile(self.values, 75))

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self.q3 - self.q1

    @cached_property
    def max_deviation(self) -> float:
        """The largest distance of a value from the median."""
        return float(np.abs(self._deviations).max())

    @cached_property
    def p90(self) -> float | None:
        """The 90th percentile; None under 10 values."""
        return float(np.percentile(self.values, 90)) if self.n >= MIN_N_FOR_P90 else None

    @cached_property
    def p99(self) -> float | None:
        """The 99th percentile; None under 100 values."""
        return float(np.percentile(self.values, 99)) if self.n >= MIN_N_FOR_P99 else None

    @cached_property
    def median_interval(self) -> tuple[float, float] | None:
        """A 95% interval of the median by the percentile bootstrap (Efron 1979), of a fixed seed; None under n = 5."""
        if self.n < MIN_N_FOR_INTERVAL:
            return None
        drawn = np.random.default_rng(0).choice(np.asarray(self.values), (BOOTSTRAP_RESAMPLES, self.n))
        low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
        return float(low), float(high)

    @property
    def is_noisy(self) -> bool:
        """Whether the interquartile range is over a tenth of the median."""
        return self.iqr > NOISY_IQR_SHARE * abs(self.median)

    def to_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        return {
            "values": list(self.values),
            "unit": self.unit,
            "n": self.n,
            "median": self.median,
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "q1": self.q1,
            "q3": self.q3,
            "iqr": self.iqr,
            "max_deviation": self.max_deviation,
            "p90": self.p90,
            "p99": self.p99,
            "median_interval": self.median_interval,
            "is_noisy": self.is_noisy,
        }


def median_difference_interval(before: Distribution, after: Distribution) -> tuple[float, float] | None:
    """A 95% interval of the median of `after` less that of `before`, by the percentile bootstrap of a fixed seed.

    The two samples are drawn from independently.

    Returns:
        None where one of them has fewer than 5 values.
    """
    if min(before.n, after.n) < MIN_N_FOR_INTERVAL:
        return None
    random = np.random.default_rng(0)
    drawn = [
        np.median(random.choice(np.asarray(sample.values), (BOOTSTRAP_RESAMPLES, sample.n)), axis=1)
        for sample in (before, after)
    ]
    low, high = np.percentile(drawn[1] - drawn[0], [2.5, 97.5])
    return float(low), float(high)


def distribution_ms(values_ns: Sequence[int]) -> Distribution | None:
    """Integer nanoseconds as a distribution in milliseconds; None for no values."""
    return Distribution(tuple(value / 1e6 for value in values_ns), "ms") if values_ns else None
