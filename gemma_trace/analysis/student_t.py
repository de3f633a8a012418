"""Student's t distribution: what a mean of few values may differ by.

Its distribution function has a closed integral: with t = √df · tan θ the density becomes a power of a cosine,
P(|T| < t) = ∫ cos^(df-1) / ∫ cos^(df-1) from 0 to θ and to π/2 (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4 are its
finite sums). It is integrated by Gauss-Legendre quadrature, so that the degrees of freedom need not be whole.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

_POINTS: Final = 200
_LARGE: Final = 1e4
"""From so many degrees of freedom on it is the normal distribution, to four digits."""


def two_sided_p(t: float, df: float) -> float:
    """The probability that |T| is at least |t|.

    Args:
        df: degrees of freedom, above 0.

    >>> round(two_sided_p(2.7764451, 4), 6), round(two_sided_p(1.0, 1), 6)
    (0.05, 0.5)
    """
    if math.isinf(t):
        return 0.0
    if df >= _LARGE:
        return math.erfc(abs(t) / math.sqrt(2))
    angle = math.atan2(abs(t), math.sqrt(df))
    outside, whole = _power_of_cosine(angle, math.pi / 2, df), _power_of_cosine(0, math.pi / 2, df)
    return min(1.0, outside / whole)


@lru_cache(maxsize=256)
def critical_value(level: float, df: float) -> float:
    """The t that |T| exceeds with a probability of 1 - `level`, found by bisection.

    >>> round(critical_value(0.95, 4), 4), round(critical_value(0.95, 1e9), 4)
    (2.7764, 1.96)
    """
    low, high = 0.0, 1.0
    while two_sided_p(high, df) > 1 - level:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, df) > 1 - level else (low, middle)
    return high


def _power_of_cosine(start: float, end: float, df: float) -> float:
    """∫ cos^(df-1). The substitution of the distance to π/2 by its square takes the root at the end away."""
    # With u² = π/2 - θ: cos θ = sin(u²), dθ = 2u du; smooth for every df > 0.5.
    first, last = 0.0, math.sqrt(math.pi / 2 - start)
    if end < math.pi / 2:
        first = math.sqrt(math.pi / 2 - end)
    nodes, weights = _quadrature()
    u = (last - first) / 2 * nodes + (last + first) / 2
    return float((last - first) / 2 * np.sum(weights * np.sin(u**2) ** (df - 1) * 2 * u))


@cache
def _quadrature() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The nodes on [-1, 1] and their weights, float64 [_POINTS] each."""
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    return nodes, weights
