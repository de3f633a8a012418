"""What binds a stage: which of the six causes takes most of its time, and which calls stand out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.longest import LongCall
from gemma_trace.analysis.reasons import Kind, StageReason
from gemma_trace.health.findings import CLOCK_SHIFT, Health, Severity

MOST_PCT: Final = 50
"""What takes a smaller share of a stage doesn't bind it alone."""

LARGE_CALL_PCT: Final = 25
"""A call, or the calls of a cold start together, that take less of a stage than this are not spoken of."""

MOST_OF_IT: Final = 0.8
"""One call with this much of a cold start is the cold start."""


class Doubt(StrEnum):
    """Why nothing can be said of what binds the stages."""

    NONE = ""
    NO_ACTIVITIES = "no activities"
    """The device activities of their launches are missing."""
    CLOCKS = "clocks"
    """The clocks of host and device disagree."""


class BoundBy(StrEnum):
    """What binds a stage."""

    NOTHING = "nothing"
    """It took no time."""
    UNKNOWN = "unknown"
    """See `Doubt`."""
    CALLS = "calls"
    """One call, or the first calls of their kind, while the device is idle."""
    KIND = "kind"
    """One of the six kinds of time."""
    MIXED = "mixed"
    """No kind has half of it."""


@dataclass(frozen=True)
class LargeCalls:
    """The call, or the calls of a cold start, that take a large part of a stage.

    Attributes:
        share_pct: of the stage's time.
        is_cold: whether they took long since they were the first of their kind.
        longest: the longest of them.
        is_one: whether it is the longest alone that is spoken of.
        has_longest: whether the longest call of the stage is one of them.
    """

    share_pct: float
    is_cold: bool
    longest: LongCall
    is_one: bool
    has_longest: bool = True


@dataclass(frozen=True)
class Binding:
    """What binds a stage.

    Attributes:
        shares: of the stage's time in percent, by kind, the largest first; empty where it took none.
        calls: None where no calls stand out.
    """

    reason: StageReason
    bound: BoundBy
    doubt: Doubt
    shares: tuple[tuple[float, Kind], ...] = ()
    calls: LargeCalls | None = None

    @property
    def kind(self) -> Kind:
        """The kind that takes most of its time."""
        return self.shares[0][1]

    @property
    def share_pct(self) -> float:
        """What that kind takes, in percent of its time."""
        return self.shares[0][0]


def doubt_of(breakdown: StageBreakdown, health: Health) -> Doubt:
    """Why nothing can be said of what binds the stages of these requests."""
    if breakdown.complete().without_device:
        return Doubt.NO_ACTIVITIES
    codes = {finding.code for finding in health.findings if finding.severity is Severity.ERROR}
    return Doubt.CLOCKS if CLOCK_SHIFT in codes else Doubt.NONE


def binding(reason: StageReason, doubt: Doubt = Doubt.NONE) -> Binding:
    """What binds a stage."""
    if not reason.time_ns:
        return Binding(reason, BoundBy.NOTHING, doubt)
    if doubt:
        return Binding(reason, BoundBy.UNKNOWN, doubt)
    calls = _large_calls(reason)
    shares = tuple(sorted(((100 * reason.by_kind_ns(kind) / reason.time_ns, kind) for kind in Kind), reverse=True))
    if calls and calls.share_pct >= MOST_PCT:
        return Binding(reason, BoundBy.CALLS, doubt, shares, calls)
    bound = BoundBy.MIXED if shares[0][0] < MOST_PCT else BoundBy.KIND
    return Binding(reason, bound, doubt, shares, calls)


def _large_calls(reason: StageReason) -> LargeCalls | None:
    call = reason.longest
    if call is None:
        return None
    share, cold = 100 * call.time_ns / reason.time_ns, 100 * reason.cold_ns / reason.time_ns
    if call.cold and share >= max(LARGE_CALL_PCT, MOST_OF_IT * cold):
        return LargeCalls(share, True, call, is_one=True)
    if cold >= LARGE_CALL_PCT:
        return LargeCalls(cold, True, call, is_one=False, has_longest=call.cold)
    if share >= LARGE_CALL_PCT:
        return LargeCalls(share, False, call, is_one=True)
    return None
