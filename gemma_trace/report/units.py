"""What the values of a column are, and how they read in a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gemma_trace.report.number_text import NO_FIGURE, decimals, microseconds, milliseconds, significant, spread
from gemma_trace.report.short_names import folded
from gemma_trace.report.text_table import Align, Holds, Overflow
from gemma_trace.stages import PREPROCESSING_PARTS

BAR_WIDTH: Final = 20
"""How many cells a bar of the whole has."""

_PARTS: Final = frozenset(part.value for part in PREPROCESSING_PARTS)


@dataclass(frozen=True)
class Unit:
    """A unit, or a kind of text.

    Attributes:
        suffix: what stands behind a header; "" where there is no unit.
        show: a value as people read it.
        holds: what a renderer may mark.
        absent: how a value reads that isn't there.
        is_measure: whether the values are `Distribution`s, which flat files have a column per statistic of.
    """

    suffix: str
    show: Callable[[Any], str]
    align: Align = "right"
    overflow: Overflow = "never"
    holds: Holds = "number"
    absent: str = NO_FIGURE
    is_measure: bool = False


def stage_text(stage: str) -> str:
    """A stage's name; the parts of preprocessing stand under it.

    >>> stage_text("prefill"), stage_text("tokenization")
    ('prefill', '  tokenization')
    """
    return f"  {stage}" if stage in _PARTS else stage


def is_part(stage: object) -> bool:
    """Whether a stage is a part of preprocessing."""
    return stage in _PARTS


def bar(share: float) -> str:
    """A share of one as a bar of up to `BAR_WIDTH` cells, to an eighth of a cell.

    >>> bar(0.5)
    '██████████'
    """
    eighths = round(max(0.0, min(1.0, share)) * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def count_text(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{value:,.0f}" if value == int(value) else significant(value)


def whole(value: float) -> str:
    """A mean of counts, rounded to a count."""
    return f"{value:,.0f}"


def one_decimal(value: float) -> str:
    """A share with one decimal."""
    return f"{value:.1f}"


def two_decimals(value: float) -> str:
    """A ratio with two decimals."""
    return f"{value:.2f}"


def megabytes(count: float) -> str:
    """Bytes as MB, 10⁶ bytes.

    >>> megabytes(3_072)
    '0.003'
    """
    return significant(count / 1e6)


def gigabytes(count: float) -> str:
    """Bytes as GB, 10⁹ bytes."""
    return f"{count / 1e9:.1f}"


def signed_megabytes(count: float) -> str:
    """Bytes as MB, with a sign where they are more."""
    return f"+{megabytes(count)}" if count > 0 else megabytes(count)


def signed(value: float) -> str:
    """A difference, always with its sign."""
    return f"{value:+,.{decimals(value)}f}"


def rising(value: float) -> str:
    """A number that says which way.

    >>> rising(3.0), rising(-3.0)
    ('+3.000', '-3.000')
    """
    return f"+{significant(value)}" if value > 0 else significant(value)


def signed_share(value: float) -> str:
    """A difference in percent, always with its sign."""
    return f"{value:+,.1f}"


def _giga(value: float) -> str:
    return significant(value / 1e9)


TEXT: Final = Unit("", str, "left", holds="text")
WORDS: Final = Unit("", str, "left", "fold", "text")
"""Sentences, which may go on in the next line."""
LABEL: Final = Unit("", str, "left", "ellipsis", "text")
"""Names that may be cut short."""
FIGURES: Final = Unit("", str)
"""Texts of numbers."""
NAME: Final = Unit("", folded, "left", "ellipsis", "name")
"""Names of kernels and ops."""
STAGE: Final = Unit("", stage_text, "left", holds="stage")
STATUS: Final = Unit("", str, "left", holds="status", absent="")
BAR: Final = Unit("", bar, "left", holds="bar", absent="")
"""A share of one."""

MS: Final = Unit("ms", milliseconds)
"""Values in ns."""
US: Final = Unit("µs", microseconds)
"""Values in ns."""
MB: Final = Unit("MB", megabytes)
"""Values in bytes."""
GB: Final = Unit("GB", gigabytes)
"""Values in bytes."""
GFLOP: Final = Unit("GFLOP", _giga)
"""Values in FLOPs."""
PCT: Final = Unit("%", one_decimal)
COUNT: Final = Unit("", count_text)
NUMBER: Final = Unit("", significant)
RATIO: Final = Unit("", two_decimals)
DELTA_MS: Final = Unit("ms", signed)
"""Differences, in ms."""
DELTA_PCT: Final = Unit("%", signed_share)
MEASURE_MS: Final = Unit("ms", spread, holds="measure", is_measure=True)
"""Distributions in ms."""
MEASURE_PCT: Final = Unit("%", spread, holds="measure", is_measure=True)
MEASURE: Final = Unit("", spread, holds="measure", is_measure=True)
TFLOP_PER_S: Final = Unit("TFLOP/s", significant)
GB_PER_S: Final = Unit("GB/s", significant)
