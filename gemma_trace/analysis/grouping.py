"""What the drilldown's rows are, and what they are sorted by. Light, since the command line declares these choices."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from gemma_trace.arguments import shown
from gemma_trace.errors import ConfigError


class By(StrEnum):
    """What a row is."""

    KERNEL = "kernel"
    OP = "op"
    MODULE = "module"
    LAYER = "layer"
    FAMILY = "family"
    SHAPE = "shape"


class Sort(StrEnum):
    """What rows are sorted by: all but the name from the largest down."""

    SUM = "sum"
    BUSY = "busy"
    COUNT = "count"
    MEAN = "mean"
    MEDIAN = "median"
    MAX = "max"
    LATENCY = "latency"
    NAME = "name"


_Choice = TypeVar("_Choice", By, Sort)


def parsed_choice(choices: type[_Choice], value: str) -> _Choice:
    """The choice of this name.

    Raises:
        ConfigError: there is none.

    >>> parsed_choice(By, "op")
    <By.OP: 'op'>
    >>> parsed_choice(Sort, "size")
    Traceback (most recent call last):
    gemma_trace.errors.ConfigError: sort='size' is none of sum, busy, count, mean, median, max, latency, name
    """
    try:
        return choices(value)
    except ValueError:
        raise ConfigError(f"{choices.__name__.lower()}={shown(value)} is none of {', '.join(choices)}") from None
