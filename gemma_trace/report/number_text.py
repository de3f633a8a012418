"""Numbers as people read them: four significant digits at most, no exponent."""

from __future__ import annotations

from gemma_trace.analysis.statistics import Distribution

NOISY_MARK = "!"
NO_FIGURE = "–"
NOISY_NOTE = f"{NOISY_MARK} noisy: the interquartile range is over 10% of the median."


def decimals(value: float) -> int:
    """How many decimals a number of this size has: three below 10, none from 1000 on."""
    size = abs(value)
    return 3 if size < 9.9995 else 2 if size < 99.995 else 1 if size < 999.95 else 0


def significant(value: float) -> str:
    """A number with the decimals that its size calls for.

    >>> significant(3.14159), significant(199.33), significant(12345.6)
    ('3.142', '199.3', '12,346')
    """
    return f"{value:,.{decimals(value)}f}"


def milliseconds(ns: float) -> str:
    """Nanoseconds as milliseconds."""
    return significant(ns / 1e6)


def microseconds(ns: float) -> str:
    """Nanoseconds as microseconds."""
    return significant(ns / 1e3)


def percent(part: float, whole: float) -> str:
    """A share, with one decimal."""
    return f"{100 * part / whole:.1f}" if whole else NO_FIGURE


def spread(measured: Distribution | None) -> str:
    """Median ± half the interquartile range; marked where it is noisy.

    >>> spread(Distribution((10.0, 20.0, 30.0), "ms"))
    '20.00 ±5.00!'
    """
    if measured is None:
        return NO_FIGURE
    if measured.n == 1:
        return significant(measured.median)
    half = f"{measured.iqr / 2:,.{decimals(measured.median)}f}"
    return f"{significant(measured.median)} ±{half}{NOISY_MARK if measured.is_noisy else ''}"
