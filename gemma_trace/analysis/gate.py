"""Limits on what may get slower: `--fail-on`. A gate has three answers: ok, exceeded, and that it can't be known."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from gemma_trace.analysis.changes import Change, TraceDiff
from gemma_trace.analysis.nested import LEVEL
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.stages import Stage

LEAST_STAGE_SHARE: Final = 0.01
"""A limit for all stages leaves out those that are less than this share of the time to the first token."""

LEAST_REQUESTS: Final = 5
"""Fewer requests a side are no sample: nothing is called ok by them."""

SETTINGS: Final = frozenset(
    ("model", "weights", "dtype", "device", "device_name", "torch", "torchvision", "transformers", "python")
) | {"driver", "cuda", "host_cpu"}
"""What must not differ between the sides unless that it may is said."""

_WHOLES: Final = ("ttft", "wall")
_PART: Final = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)\s*:\s*)?\+?(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ns|us|µs|ms|s)"
)
_MS: Final = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}

Outcome = Literal["ok", "exceeded", "inconclusive"]


@dataclass(frozen=True)
class Limit:
    """How much slower something may get: a share of what it was, or a time.

    Attributes:
        value: in `unit`.
        unit: "%" or "ms".
    """

    value: float
    unit: Literal["%", "ms"]

    def __str__(self) -> str:
        return f"{self.value:g}{'%' if self.unit == '%' else ' ms'}"

    def in_ms(self, before_ms: float) -> float:
        """The limit of what was this long before."""
        return self.value * before_ms / 100 if self.unit == "%" else self.value


@dataclass(frozen=True)
class Held:
    """One row held against its limit.

    Attributes:
        answer: `exceeded` where it got slower for certain, and by more than the limit; `ok` where that would have been
            seen and wasn't, or is ruled out; else `inconclusive`.
        detectable_ms: the smallest change that could have been seen; None where nothing is known of that.
    """

    change: Change
    limit: Limit
    answer: Outcome
    detectable_ms: float | None


@dataclass(frozen=True)
class Verdict:
    """What a gate says of one comparison.

    Attributes:
        held: every row that has a limit.
        reasons: why it can't say "ok", whatever the rows are: too few requests, or settings that differ.
    """

    held: tuple[Held, ...]
    reasons: tuple[str, ...] = ()

    @property
    def answer(self) -> Outcome:
        """The answer of the whole gate."""
        answers = {row.answer for row in self.held}
        if "exceeded" in answers:
            return "exceeded"
        return "inconclusive" if self.reasons or "inconclusive" in answers else "ok"

    @property
    def exceeded(self) -> tuple[Held, ...]:
        """The rows that are over their limit."""
        return tuple(row for row in self.held if row.answer == "exceeded")


@dataclass(frozen=True)
class Gate:
    """How much slower what may get.

    Attributes:
        limit: of TTFT (without one, of the wall time) and of every stage that is 1% of it; None is no limit.
        limits: by the name of a stage, `ttft`, `tpot` or `wall`.
        varied: settings that may differ between the sides: what the comparison is about.
    """

    limit: Limit | None
    limits: Mapping[str, Limit] = field(default_factory=dict)
    varied: Collection[str] = ()

    def judge(self, diff: TraceDiff) -> Verdict:
        """Hold a comparison against the limits.

        A row of one side alone, which nothing can be held against, is over any limit.

        Raises:
            InputError: neither side has a row that has a limit of its own, so that nothing can be said.
        """
        rows = {change.stage: change for change in diff.stages}
        for name in self.limits:
            if name not in rows:
                raise InputError(
                    f"{name!r} is not on both sides, so it has nothing to compare; there are {', '.join(rows)}"
                )
        whole_ms = max((change.before_ms for change in diff.stages if change.stage in _WHOLES), default=0.0)
        held = []
        for name, change in rows.items():
            limit = self.limits.get(name, self.limit if _is_large(change, diff) else None)
            if limit is not None:
                # Whoever names a stage wants to hear of it, however small a part of the whole it is.
                least_ms = 0.0 if name in self.limits else whole_ms
                held.append(_held(change, limit, diff.noise.limit_ms(name, change.before_ms, least_ms)))
        return Verdict(tuple(held), tuple(self._reasons(diff)))

    def _reasons(self, diff: TraceDiff) -> list[str]:
        reasons = []
        for word, runs in (("before", diff.befores), ("after", diff.afters)):
            requests = sum(run.runs for run in runs)
            if requests < LEAST_REQUESTS:
                reasons.append(f"the side {word} has {requests} requests, and {LEAST_REQUESTS} are required")
        for setting in diff.settings:
            name = setting.partition(":")[0]
            if name in SETTINGS and name not in self.varied:
                reasons.append(f"the sides differ in {setting} (--varies {name} allows that)")
        return reasons


def _held(change: Change, limit: Limit, floor_ms: float) -> Held:
    if not (change.before and change.after):
        return Held(change, limit, "exceeded", None)
    limit_ms = limit.in_ms(change.before_ms)
    low, high = change.interval_ms or (change.difference_ms, change.difference_ms)
    if change.is_between_processes:
        clear = change.p_value is not None and change.p_value < 1 - LEVEL and change.difference_ms > 0
        detectable_ms = (high - low) / 2
    else:
        clear = low > 0 and change.difference_ms > floor_ms
        detectable_ms = max(floor_ms, (high - low) / 2)
    if change.difference_ms > limit_ms and clear:
        return Held(change, limit, "exceeded", detectable_ms)
    ruled_out = change.difference_ms + detectable_ms <= limit_ms
    would_be_seen = detectable_ms <= limit_ms and change.difference_ms <= limit_ms
    return Held(change, limit, "ok" if ruled_out or would_be_seen else "inconclusive", detectable_ms)


def _is_large(change: Change, diff: TraceDiff) -> bool:
    """Whether a limit for everything holds for this row: one of a share of the whole, or the whole itself.

    What no stage answers for isn't known of every timed pass; that it is missing there says nothing.
    """
    if change.stage in _WHOLES:
        return True
    if change.stage == Stage.UNATTRIBUTED and not (change.before and change.after):
        return False
    wholes = [whole for whole in diff.stages if whole.stage in _WHOLES and whole.before and whole.after]
    medians = [side.median for whole in wholes[:1] for side in (whole.before, whole.after) if side]
    least = LEAST_STAGE_SHARE * next((median for median in medians if median), 0.0)
    return max(side.median for side in (change.before, change.after) if side) >= least > 0


def parse_gate(text: str, varied: Sequence[str] = ()) -> Gate:
    """A gate as it is written on the command line.

    Args:
        varied: settings that may differ between the sides.

    >>> parse_gate("5%").limit
    Limit(value=5.0, unit='%')
    >>> {name: str(limit) for name, limit in parse_gate("ttft:+10ms,prefill:10%").limits.items()}
    {'ttft': '10 ms', 'prefill': '10%'}

    Raises:
        ConfigError: it isn't written like that, or a setting isn't known.
    """
    if wrong := [name for name in varied if name not in SETTINGS]:
        known = ", ".join(sorted(SETTINGS))
        raise ConfigError(f"--varies {wrong[0]} is not a setting that a gate checks; those are {known}")
    everything: Limit | None = None
    named: dict[str, Limit] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        if match is None:
            raise ConfigError(f"--fail-on {text!r} is not a limit; write it like 5%, or ttft:5%,prefill:+10ms")
        name, number, unit = match["name"], float(match["number"]), match["unit"]
        limit = Limit(number, "%") if unit == "%" else Limit(number * _MS[unit], "ms")
        if name in named or (not name and everything is not None):
            raise ConfigError(f"--fail-on {text!r} has two limits for {name or 'everything'}; give one")
        if name:
            named[name] = limit
        else:
            everything = limit
    return Gate(everything, named, tuple(varied))
