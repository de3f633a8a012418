"""Limits on what may get slower: `--fail-on`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_trace.analysis.diff import Change, TraceDiff
from gemma_trace.errors import ConfigError, InputError

LEAST_STAGE_SHARE: Final = 0.01
"""A limit for all stages leaves out those that are less than this share of the time to the first token."""

_PART: Final = re.compile(r"(?:([A-Za-z][\w.-]*)\s*:\s*)?(\d+(?:\.\d+)?)\s*%")


@dataclass(frozen=True)
class Gate:
    """How much slower what may get.

    Attributes:
        limit_pct: of TTFT and of every stage that is 1% of it; None is no limit.
        limits_pct: by the name of a stage, `ttft`, `tpot` or `wall`.
    """

    limit_pct: float | None
    limits_pct: Mapping[str, float]

    def exceeded(self, found: TraceDiff) -> list[tuple[Change, float]]:
        """The rows that are over their limit, each with it.

        A row is over it where the difference of the medians is, and its interval, if there is one, leaves out 0.

        Raises:
            InputError: a side has no such stage, so that nothing can be said.
        """
        rows = {change.stage: change for change in found.stages}
        for name in self.limits_pct:
            if name not in rows or rows[name].before is None or rows[name].after is None:
                both = ", ".join(stage for stage, change in rows.items() if change.before and change.after)
                raise InputError(f"no {name!r} on both sides to hold against its limit; there are {both}")
        over = []
        for name, change in rows.items():
            limit = self.limits_pct.get(name, self.limit_pct if self._is_large(change, found) else None)
            relative = change.relative_pct
            certain = change.interval_ms is None or change.interval_ms[0] > 0
            if limit is not None and relative is not None and relative > limit and certain:
                over.append((change, limit))
        return over

    @staticmethod
    def _is_large(change: Change, found: TraceDiff) -> bool:
        """Whether a limit for everything holds for this row: nothing that is new or gone has a relative change."""
        whole = found.stages[0].before
        if not (change.before and change.after and whole):
            return False
        return max(change.before.median, change.after.median) >= LEAST_STAGE_SHARE * whole.median


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
        if match[1]:
            named[match[1]] = float(match[2])
        else:
            everything = float(match[2])
    return Gate(everything, named)
