"""A table's columns and cells as JSON for an agent: numbers in the unit that people read, texts tamed."""

from __future__ import annotations

import math
from typing import Any, Final

from gemma_trace.agents.text import LONGEST, tame
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import BAR, NAME, WORDS

BRIEF: Final = 4
"""A brief answer has the columns up to this priority."""

DIGITS: Final = 4
"""So many significant digits a number has."""

_SENTENCE: Final = 3
_SCALES: Final = {
    ("_ns", "ms"): ("_ms", 1e6),
    ("_ns", "µs"): ("_us", 1e3),
    ("_bytes", "MB"): ("_mb", 1e6),
    ("_bytes", "GB"): ("_gb", 1e9),
}
"""Of a column's ending and its unit: the ending that it has here, and by what values are divided."""
_ENDINGS: Final = {"ms": "_ms", "µs": "_us", "%": "_pct", "MB": "_mb", "GB": "_gb"}
"""What the name of a column ends in whose values are in the unit already."""


def columns_of(table: Table[Any], *, full: bool) -> tuple[Col, ...]:
    """The columns that an agent sees: those that people see, in brief without what goes first on a narrow screen."""
    return tuple(col for col in table.shown if col.unit is not BAR and (full or col.priority <= BRIEF))


def header_of(col: Col) -> str:
    """A column's name, which ends in its unit.

    >>> from gemma_trace.report.units import MEASURE_MS, MS
    >>> header_of(Col("sum_ns", "sum", MS)), header_of(Col("timed", "timed", MEASURE_MS))
    ('sum_ms', 'timed_ms')
    """
    ending, _ = _scale(col)
    if ending is not None:
        return tame(f"{col.key.rpartition('_')[0]}{ending}")
    unit_ending = _ENDINGS.get(col.unit.suffix, "")
    return tame(col.key if col.key.endswith(unit_ending) else f"{col.key}{unit_ending}")


def cell_of(col: Col, row: Any, per: float = 1, *, full: bool = False, longest: int = LONGEST) -> Any:
    """A row's value in a column: a number, a text, a truth value or None.

    Args:
        per: how many requests a sum is of.
        full: names of kernels are as recorded, not folded for reading.
        longest: so many characters a name has at most; a sentence may have `_SENTENCE` times as many.
    """
    raw = col.raw(row)
    if isinstance(raw, bool) or raw is None:
        return raw
    if isinstance(raw, int | float):
        divisor = (per if col.is_sum else 1) * _scale(col)[1]
        return number(raw if divisor == 1 else raw / divisor)
    text = str(raw) if full and col.unit is NAME else col.text(raw, per)
    return tame(text.strip(), _SENTENCE * longest if col.unit is WORDS else longest)


def number(value: float) -> float | int | None:
    """A number with `DIGITS` significant digits; None of what JSON has no number for.

    >>> number(1234567), number(0.123456789), number(2.0), number(float("inf"))
    (1234567, 0.1235, 2, None)
    """
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _scale(col: Col) -> tuple[str | None, float]:
    _, _, last = col.key.rpartition("_")
    scale = _SCALES.get((f"_{last}", col.unit.suffix))
    return scale or (None, 1.0)
