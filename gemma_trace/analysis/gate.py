"""Limits on what may get slower: `--fail-on`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_trace.analysis.diff import Change, TraceDiff
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.stages import Stage

LEAST_STAGE_SHARE: Final = 0.01
"""A limit for all stages leaves out those that are less than this share of the time to the first token."""

_WHOLES: Final = ("ttft", "wall")

_PART: Final = re.compile(r"(?:([A-Za-z][\w.-]*)\s*:\s*)?(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Gate:
    """How much slower what may get.

    Attributes:
        limit_pct: of TTFT (without one, of the wall time) and of every stage that is 1% of it; None is no limit.
        limits_pct: by the name of a stage, `ttft`, `tpot` or `wall`.
    """

    limit_pct: float | None
    limits_pct: Mapping[str, float]

    def exceeded(self, found: TraceDiff) -> list[tuple[Change, float]]:
        """The rows that are over their limit, each with it.

        A row is over it where the difference of the medians is, and its interval, if there is one, leaves out 0. A row
        of one side alone, which nothing can be held against, is over any limit.

        Raises:
            InputError: neither side has such a row, so that nothing can be said.
        """
        rows = {change.stage: change for change in found.stages}
        for name in self.limits_pct:
            if name not in rows:
                raise InputError(f"no {name!r} on both sides to hold against its limit; there are {', '.join(rows)}")
        over = []
        for name, change in rows.items():
            limit = self.limits_pct.get(name, self.limit_pct if self._is_large(change, found) else None)
            if limit is not None and self._is_over(change, limit):
                over.append((change, limit))
        return over

    @staticmethod
    def _is_over(change: Change, limit_pct: float) -> bool:
        if not (change.before and change.after):
            return True
        if change.relative_pct is None:  # from nothing to something is more than any share of it
            return change.difference_ms > 0
        return change.relative_pct > limit_pct and (change.interval_ms is None or change.interval_ms[0] > 0)

    @staticmethod
    def _is_large(change: Change, found: TraceDiff) -> bool:
        """Whether a limit for everything holds for this row: one of a share of the whole, or the whole itself.

        What no stage answers for isn't known of every timed pass; that it is missing there says nothing.
        """
        if change.stage in _WHOLES:
            return True
        if change.stage == Stage.UNATTRIBUTED and not (change.before and change.after):
            return False
        wholes = [whole for whole in found.stages if whole.stage in _WHOLES and whole.before and whole.after]
        medians = [side.median for whole in wholes[:1] for side in (whole.before, whole.after) if side]
        least = LEAST_STAGE_SHARE * next((median for median in medians if median), 0.0)
        return max(side.median for side in (change.before, change.after) if side) >= least > 0


def parse_gate(text: str) -> Gate:
    """A gate as it is written on the command line.

    >>> parse_gate("5%")
    Gate(limit_pct=5.0, limits_pct={})
    >>> parse_gate("ttft:5%,prefill:10%").limits_pct
    {'ttft': 5.0, 'prefill': 10.0}

    Raises:
        ConfigError: it isn't written like that.
    """
    everything: float | None = None
    named: dict[str, float] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(f"--fail-on {text!r} is no limit; write it like 5% or ttft:5%,prefill:10%")
        name, limit = match[1], float(match[2])
        if name in named or (not name and everything is not None):
            raise ConfigError(f"--fail-on {text!r} has two limits for {name or 'everything'}; give one")
        if name:
            named[name] = limit
        else:
            everything = limit
    return Gate(everything, named)
