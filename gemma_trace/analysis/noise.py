"""How much two runs of the very same thing differ: what a difference has to exceed where each side is one process.

One process per side says nothing about the next process, so a difference between them is believed only where it is
larger than what two identical runs differ by: measured, where there is a folder of runs of one configuration, else
`DEFAULT_PCT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from statistics import median, stdev
from typing import Final

from gemma_trace.analysis.nested import LEVEL
from gemma_trace.analysis.student_t import critical_value
from gemma_trace.errors import InputError

DEFAULT_PCT: Final = 50.0
"""Of what was before. Measured: of the 780 pairs of 40 captures of one configuration, one after another on two
otherwise idle cores of a shared machine, 98% differ by less than this in every row (analysis/comparing.md). It stands
in for the noise of the user's own machine, which `--noise` measures."""

LEAST_SHARE_PCT: Final = 0.1
"""Of the whole request: what a stage changes by less than this is too small to be told from a scheduler's tick."""

LEAST_RUNS: Final = 3
"""Fewer runs say nothing of how much they scatter."""


@dataclass(frozen=True)
class NoiseFloor:
    """What a difference between one process and one other has to exceed.

    Attributes:
        limits_pct: by the stage's name, of what was before, where it was measured.
        default_pct: for everything else.
        source: where the figures are from, for people.
    """

    limits_pct: Mapping[str, float] = field(default_factory=dict)
    default_pct: float = DEFAULT_PCT
    source: str = "the default"

    def limit_pct(self, stage: str) -> float:
        """What a stage's difference has to exceed, in % of what was before."""
        return self.limits_pct.get(stage, self.default_pct)

    def limit_ms(self, stage: str, before_ms: float, whole_ms: float) -> float:
        """The limit in ms.

        Args:
            whole_ms: the request's length.
        """
        return max(before_ms * self.limit_pct(stage), whole_ms * LEAST_SHARE_PCT) / 100


def measured_floor(runs: Sequence[Mapping[str, Sequence[float]]], source: str) -> NoiseFloor:
    """The noise floor that runs of one configuration show.

    Two of them differ, in 95% of cases, by less than t · √2 · s, where s is the standard deviation of the logarithms
    of their medians and t is Student's for one degree of freedom less than there are runs: a prediction interval.
    What has no such figure (a stage of fewer runs) gets the largest of the others.

    Args:
        runs: of each the values of each stage, in ms.
        source: where they are from, for people.

    Raises:
        InputError: there are fewer than 3 runs.
    """
    if len(runs) < LEAST_RUNS:
        raise InputError(f"{source} has {len(runs)} runs of one configuration; a noise floor requires {LEAST_RUNS}")
    logs: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        for stage, values in run.items():
            if (middle := median(values)) > 0:
                logs[stage].append(log(middle))
    limits = {
        stage: 100 * sqrt(2) * stdev(values) * critical_value(LEVEL, len(values) - 1)
        for stage, values in logs.items()
        if len(values) >= LEAST_RUNS
    }
    if not limits:
        raise InputError(f"{source} has no stage that {LEAST_RUNS} runs have in common")
    return NoiseFloor(limits, max(limits.values()), source)
