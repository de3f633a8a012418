"""What binds a stage, as a line with the figures that it rests on."""

from __future__ import annotations

from typing import Final

from gemma_trace.analysis.bindings import Binding, BoundBy, Doubt, LargeCalls, binding
from gemma_trace.analysis.reasons import Kind, StageReason
from gemma_trace.analysis.work_groups import OUTSIDE_OPS
from gemma_trace.report.number_text import milliseconds
from gemma_trace.report.short_names import folded
from gemma_trace.stages import FRONT_END, HTTP, IDLE, QUEUE, RETURN

LONGEST_NAME: Final = 60

DOUBTS: Final = {
    Doubt.NONE: "",
    Doubt.NO_ACTIVITIES: "the device activities of its launches are missing",
    Doubt.CLOCKS: "the clocks of host and device disagree",
}

_PLAIN: Final = {
    Kind.DEVICE: "device compute",
    Kind.TRANSFER: "transfers",
    Kind.LAUNCH: "waiting for launches",
    Kind.SYNC: "synchronising",
    Kind.HOST: "host work",
    Kind.PROFILER: "the profiler's own overhead",
}
_SHORT: Final = {OUTSIDE_OPS: "outside ops (Python, other libraries)"}


def verdict(reason: StageReason, doubt: Doubt = Doubt.NONE) -> str:
    """What binds a stage, in a line, with the figures that it rests on.

    >>> from gemma_trace.analysis.reasons import Part
    >>> parts = (Part(Kind.LAUNCH, "launch", 71), Part(Kind.DEVICE, "gemm", 29))
    >>> verdict(StageReason("prefill", 100, parts, 4, 4, 6e3, 1))
    'host-bound: 71% of the time the device waits for the launches of 4 activities of 6.0 µs (median)'
    """
    return sentence(binding(reason, doubt))


def sentence(cause: Binding) -> str:
    """What binds a stage, in a line; "" where it took no time."""
    if cause.bound is BoundBy.NOTHING:
        return ""
    if cause.bound is BoundBy.UNKNOWN:
        return f"no verdict: {DOUBTS[cause.doubt]}"
    if cause.calls is None:
        return _without_calls(cause)
    share, said = f"{cause.calls.share_pct:.0f}%", _calls_text(cause.calls)
    if cause.bound is BoundBy.CALLS:
        return f"{'cold start' if cause.calls.is_cold else 'host-bound'}: {share} of the time is {said}"
    return f"{_without_calls(cause)}; {'cold start: ' if cause.calls.is_cold else ''}{share} is {said}"


def _without_calls(cause: Binding) -> str:
    if cause.bound is BoundBy.MIXED:
        return "mixed: " + ", ".join(f"{share:.0f}% {_PLAIN[kind]}" for share, kind in cause.shares if share >= 5)
    share = f"{cause.share_pct:.0f}%"
    if cause.calls and cause.kind is Kind.LAUNCH:  # how many launches there are is not what it takes its time for
        return f"host-bound: {share} of the time the device waits for the host"
    return _SENTENCES[cause.kind](cause.reason, share)


def _calls_text(calls: LargeCalls) -> str:
    call = calls.longest
    text = f"one call of {_short(call.name)}, {milliseconds(call.time_ns)} ms"
    if call.usual_ns is not None:
        text += f" (the others: {call.usual_ns / 1e3:,.1f} µs, median)"
    if not calls.is_one:
        return "first calls of their kind" + (f", the longest {text}" if calls.has_longest else "")
    return text if calls.is_cold else f"{text}, while the device is idle"


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
    noun = "activity" if each == 1 else "activities"
    return f"{count} {noun} of {(reason.median_activity_ns or 0) / 1e3:,.1f} µs (median)"


def _host_sentence(reason: StageReason, share: str) -> str:
    if reason.stage in _WAITING:
        return _WAITING[reason.stage]
    if reason.activities:
        return (
            f"host-bound: {share} of the time the device is idle while the host works on its own: "
            f"{_largest(reason, Kind.HOST, 3)}"
        )
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
    return (
        f"profiler-bound: {share} of the time the profiler itself delays the host: {_largest(reason, Kind.PROFILER, 3)}"
    )


_WAITING: Final = {
    IDLE: "waits for the next step",
    QUEUE: "waits: for the scheduler, for messages between processes, for steps of other requests",
    RETURN: "waits: on the way from the engine to the client",
    FRONT_END: "the front end, of which there is no trace",
    HTTP: "the front end, beside images and processor",
}
"""What is said of stages in which nobody is known to work."""

_SENTENCES: Final = {
    Kind.DEVICE: _device_sentence,
    Kind.TRANSFER: _transfer_sentence,
    Kind.LAUNCH: _launch_sentence,
    Kind.SYNC: _sync_sentence,
    Kind.HOST: _host_sentence,
    Kind.PROFILER: _profiler_sentence,
}
