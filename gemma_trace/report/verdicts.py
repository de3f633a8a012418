"""What binds a stage, in a line: computed from its split, with the figures it rests on."""

from __future__ import annotations

from typing import Final, NamedTuple

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.reasons import Kind, StageReason
from gemma_trace.analysis.work import OUTSIDE_OPS
from gemma_trace.health.findings import CLOCK_SHIFT, Health, Severity
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import milliseconds


def doubt(found: StageBreakdown, health: Health) -> str:
    """Why no verdict on these requests can be given, or "" where one can."""
    if found.complete().without_device:
        return "the device activities of its launches are missing"
    codes = {finding.code for finding in health.findings if finding.severity is Severity.ERROR}
    return "the clocks of host and device disagree" if CLOCK_SHIFT in codes else ""


def verdict(reason: StageReason, doubtful: str = "") -> str:
    """What binds a stage, in a line, with the figures that it rests on.

    Args:
        doubtful: why none can be given; see `doubt`.

    >>> from gemma_trace.analysis.reasons import Part
    >>> parts = (Part(Kind.LAUNCH, "launch", 71), Part(Kind.DEVICE, "gemm", 29))
    >>> verdict(StageReason("prefill", 100, parts, 4, 4, 6e3, 1))
    'host-bound: 71% of the time the device waits for the launches of 4 activities of 6.0 µs (median)'
    """
    if not reason.time_ns:
        return ""
    if doubtful:
        return f"no verdict: {doubtful}"
    call = _large_call(reason)
    if call and call.share_pct >= MOST_PCT:
        return f"{'cold start' if call.cold else 'host-bound'}: {call.share_pct:.0f}% of the time is {call.text}"
    shares = sorted(((100 * reason.by_kind_ns(kind) / reason.time_ns, kind) for kind in Kind), reverse=True)
    share, kind = shares[0]
    if share < MOST_PCT:
        plain = "mixed: " + ", ".join(f"{value:.0f}% {_PLAIN[other]}" for value, other in shares if value >= 5)
    elif call and kind is Kind.LAUNCH:  # how many launches there are is not what it takes its time for
        plain = f"host-bound: {share:.0f}% of the time the device waits for the host"
    else:
        plain = _SENTENCES[kind](reason, f"{share:.0f}%")
    if not call:
        return plain
    return f"{plain}; {'cold start: ' if call.cold else ''}{call.share_pct:.0f}% is {call.text}"


MOST_PCT: Final = 50
"""What takes a smaller share of a stage doesn't bind it alone."""

LARGE_CALL_PCT: Final = 25
"""A call, or the calls of a cold start together, that take less of a stage than this are not spoken of."""


MOST_OF_IT: Final = 0.8
"""One call with this much of a cold start is the cold start."""

LONGEST_NAME: Final = 60


class _LargeCall(NamedTuple):
    """What is said of the calls that take a large part of a stage."""

    share_pct: float
    cold: bool
    text: str


def _large_call(reason: StageReason) -> _LargeCall | None:
    """The call, or the calls of a cold start, that take a large part of the stage; None where none do."""
    call = reason.longest
    if call is None:
        return None
    share, cold = 100 * call.time_ns / reason.time_ns, 100 * reason.cold_ns / reason.time_ns
    one = f"one call of {_short(call.name)}, {milliseconds(call.time_ns)} ms"
    if call.usual_ns is not None:
        one += f" (the others: {call.usual_ns / 1e3:,.1f} µs, median)"
    if call.cold and share >= max(LARGE_CALL_PCT, MOST_OF_IT * cold):
        return _LargeCall(share, True, one)
    if cold >= LARGE_CALL_PCT:
        longest = f", the longest {one}" if call.cold else ""
        return _LargeCall(cold, True, f"first calls of their kind{longest}")
    if share >= LARGE_CALL_PCT:
        return _LargeCall(share, False, f"{one}, while the device is idle")
    return None


_PLAIN: Final = {
    Kind.DEVICE: "device compute",
    Kind.TRANSFER: "transfers",
    Kind.LAUNCH: "waiting for launches",
    Kind.SYNC: "synchronising",
    Kind.HOST: "host work",
    Kind.PROFILER: "the profiler's own overhead",
}


_SHORT: Final = {OUTSIDE_OPS: "outside ops (Python, other libraries)"}


def _largest(reason: StageReason, kind: Kind, count: int) -> str:
    """The largest parts of a kind with their share of the stage, those under 5% left out but for the first."""
    parts = [part for part in reason.parts if part.kind is kind][:count]
    shares = [(100 * part.time_ns / reason.time_ns, _SHORT.get(part.name, part.name)) for part in parts]
    return ", ".join(f"{share:.0f}% {name}" for place, (share, name) in enumerate(shares) if not place or share >= 5)


def _short(name: str) -> str:
    name = folded(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _activities(reason: StageReason) -> str:
    each = reason.activities / reason.requests
    count = f"{each:,.0f}" if each >= 10 or each == int(each) else f"{each:.1f}"
    return f"{count} activities of {(reason.median_activity_ns or 0) / 1e3:,.1f} µs (median)"


def _host_sentence(reason: StageReason, share: str) -> str:
    if reason.activities:
        return f"host-bound: {share} of the time the host works for itself: {_largest(reason, Kind.HOST, 3)}"
    return f"host work: {_largest(reason, Kind.HOST, 3)}"


def _device_sentence(reason: StageReason, share: str) -> str:
    families = _largest(reason, Kind.DEVICE, 3)
    return f"device-bound: {share} of the time the device computes: {families}; {_activities(reason)}"


def _transfer_sentence(reason: StageReason, share: str) -> str:
    return f"transfer-bound: {share} of the time goes to transfers: {_largest(reason, Kind.TRANSFER, 2)}"


def _launch_sentence(reason: StageReason, share: str) -> str:
    return f"host-bound: {share} of the time the device waits for the launches of {_activities(reason)}"


def _sync_sentence(reason: StageReason, share: str) -> str:
    return f"sync-bound: {share} of the time the host waits in synchronising calls while the device is idle"


def _profiler_sentence(reason: StageReason, share: str) -> str:
    return f"profiler-bound: {share} of the time the profiler itself holds it up: {_largest(reason, Kind.PROFILER, 3)}"


_SENTENCES: Final = {
    Kind.DEVICE: _device_sentence,
    Kind.TRANSFER: _transfer_sentence,
    Kind.LAUNCH: _launch_sentence,
    Kind.SYNC: _sync_sentence,
    Kind.HOST: _host_sentence,
    Kind.PROFILER: _profiler_sentence,
}
