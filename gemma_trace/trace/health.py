"""What is wrong with a trace, counted, with a severity and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace import columns, reader, repair
from gemma_trace.trace.events import NONE
from gemma_trace.trace.tree import nest

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    """Good to know; the figures stand."""
    WARNING = "warning"
    """Some figures may be off."""
    ERROR = "error"
    """Part of the trace is missing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: for programs.
        count: of events, or of whatever the message speaks of.
        message: what is wrong.
        advice: what to do.
    """

    code: str
    severity: Severity
    count: int
    message: str
    advice: str


@dataclass(frozen=True)
class Health:
    """All findings, the worst first."""

    findings: tuple[Finding, ...] = ()

    def plus(self, findings: Iterable[Finding]) -> Health:
        """With some more findings, still the worst first."""
        order = list(Severity)
        both = (*self.findings, *findings)
        return Health(tuple(sorted(both, key=lambda finding: -order.index(finding.severity))))

    @property
    def verdict(self) -> str:
        """`ok`, `warning` or `error`: the worst severity."""
        worst = {finding.severity for finding in self.findings}
        if Severity.ERROR in worst:
            return "error"
        return "warning" if Severity.WARNING in worst else "ok"


_REPAIRS: dict[str, tuple[Severity, str, str]] = {
    repair.CONTROL_CHARACTERS: (
        Severity.INFO,
        "control characters that stood bare in strings and were escaped",
        "nothing to do",
    ),
    repair.BROKEN_ESCAPES: (
        Severity.INFO,
        "backslashes that escape nothing and were taken as they stand",
        "nothing to do",
    ),
    repair.BAD_UTF8: (
        Severity.INFO,
        "bytes that are no UTF-8 and became U+FFFD",
        "names may differ from other traces of the same program",
    ),
    repair.NOT_A_NUMBER: (
        Severity.WARNING,
        "numbers that were NaN or infinite",
        "capture again if a span of interest is hit",
    ),
    repair.STRAY_BRACES: (Severity.WARNING, "closing braces that close nothing", "look at the file around them"),
    columns.TEXT_NUMBERS: (
        Severity.INFO,
        "times written as text, read exactly all the same",
        "nothing to do",
    ),
    columns.NEGATIVE_DURATIONS: (
        Severity.WARNING,
        "spans of negative length, which count as 0",
        "the profiler's clocks disagreed: capture again with a newer torch or driver",
    ),
    columns.MISSING_DURATIONS: (
        Severity.WARNING,
        "spans without a length, which count as 0",
        "the profiler stopped inside them: stop it outside the region of interest",
    ),
    columns.UNDECODABLE_EVENTS: (
        Severity.ERROR,
        "events that couldn't be read and were left out",
        "capture again, or look at the file around them",
    ),
    reader.UNREADABLE_HEADER: (
        Severity.WARNING,
        "headers that couldn't be read, and with them the device's properties and the metadata",
        "capture again, or mend the JSON before traceEvents",
    ),
    columns.UNPAIRED_BEGINS: (
        Severity.WARNING,
        "begin events without an end, which were left out",
        "stop the profiler outside the region of interest",
    ),
    columns.UNPAIRED_ENDS: (
        Severity.WARNING,
        "end events without a begin, which were left out",
        "start the profiler outside the region of interest",
    ),
}


RANDOM_WEIGHTS: Final = "random_weights"
"""The code of the finding that marks a capture of random weights wherever it is shown."""

SLOW_FIRST_STEP: Final = 2.0
"""A first step over this many times the median of the others was no warmed-up one."""

UNEVEN_STEPS: Final = 1.5
"""Steps of which the longest is over this many times the shortest are no steady state."""

_GRAPH_LAUNCH: Final = re.compile(r"graph_?launch", re.IGNORECASE)
_STEP: Final = re.compile(r"ProfilerStep\s*#\s*\d+")


def examine(trace: Trace) -> Health:
    """Find what is wrong with a trace."""
    return Health().plus(
        [
            *_of_the_file(trace),
            *_of_the_links(trace),
            *_of_the_device(trace),
            *_of_the_steps(trace),
            *_of_the_viewers(trace),
            *_of_the_capture(trace),
        ]
    )


def _of_the_file(trace: Trace) -> Iterator[Finding]:
    report = trace.report
    if report.damaged:
        yield Finding(
            "damaged",
            Severity.ERROR,
            1,
            f"the compressed data is broken; {len(trace.spans):,} spans before the break were read",
            "copy the file again from where it was captured",
        )
    if report.truncated and not report.damaged:
        yield Finding(
            "truncated",
            Severity.ERROR,
            1,
            f"the file ends before the trace does; {len(trace.spans):,} spans were read",
            "copy it again, or let the profiler finish its export",
        )
    for kind, count in report.repairs.items():
        severity, message, advice = _REPAIRS[kind]
        yield Finding(kind, severity, count, f"{message}: {count:,}", advice)
    if count := trace.nesting.clipped:
        yield Finding(
            "crossing_spans",
            Severity.INFO,
            count,
            f"host spans that cross the end of the span around them: {count:,}; clipped to it",
            "nothing to do",
        )


def _of_the_links(trace: Trace) -> Iterator[Finding]:
    spans, activities = trace.spans, trace.activities
    total = max(1, int(spans.dur_ns[activities].sum()))
    unlinked = activities[trace.launch == NONE]
    if len(unlinked):
        share = 100 * spans.dur_ns[unlinked].sum() / total
        yield Finding(
            "unlinked_activities",
            Severity.WARNING,
            len(unlinked),
            f"device activities without their launch in the trace: {len(unlinked):,} of {len(activities):,} "
            f"({share:.1f}% of device time)",
            "they have a row of their own; start the profiler, or its warm-up, earlier",
        )
    linked = activities[trace.launch != NONE]
    launch = trace.launch[trace.launch != NONE]
    stages = trace.stage_at(launch)
    outside = linked[stages == UNATTRIBUTED_CODE]
    if len(outside) and (trace.stage_range != NONE).any():
        share = 100 * spans.dur_ns[outside].sum() / total
        yield Finding(
            "launched_outside_stages",
            Severity.INFO,
            len(outside),
            f"device activities launched outside of all stages: {len(outside):,} ({share:.1f}% of device time)",
            "they count as unattributed; name their ranges with --stage NAME=REGEX",
        )
    is_graph = np.array([bool(_GRAPH_LAUNCH.search(name)) for name in spans.names], dtype=bool)
    replayed = int(is_graph[spans.name[launch]].sum()) if len(launch) else 0
    if replayed:
        yield Finding(
            "graph_replays",
            Severity.INFO,
            replayed,
            f"device activities replayed by a graph: {replayed:,} of {len(activities):,}; a replay carries no ops "
            "and no shapes",
            "for the ops, capture with graphs off (vLLM: enforce_eager)",
        )
    early = int((spans.ts_ns[linked] < spans.ts_ns[launch]).sum())
    if early:
        yield Finding(
            "activities_before_launch",
            Severity.WARNING,
            early,
            f"device activities that start before the call that launched them: {early:,}; the clocks of host and "
            "device disagree",
            "shares near stage boundaries may be off; capture again with a newer driver",
        )


def _of_the_device(trace: Trace) -> Iterator[Finding]:
    """Activities of one stream run one after the other; where they overlap, something is recorded wrongly."""
    spans = trace.spans
    order = trace.activities[np.argsort(spans.track[trace.activities], kind="stable")]
    start, end, track = spans.ts_ns[order], spans.end_ns[order], spans.track[order]
    if len(order) < 2:
        return
    overlap = (track[1:] == track[:-1]) & (start[1:] < end[:-1])
    if overlap.any():
        ns = int((np.minimum(end[:-1], end[1:]) - start[1:])[overlap].sum())
        yield Finding(
            "overlaps_on_a_stream",
            Severity.WARNING,
            int(overlap.sum()),
            f"device activities that overlap the one before on their stream: {int(overlap.sum()):,}, "
            f"by {ns / 1e6:.3f} ms together",
            "sums count the overlap twice; the busy columns don't",
        )


def _of_the_steps(trace: Trace) -> Iterator[Finding]:
    spans = trace.spans
    is_step = np.array([bool(_STEP.fullmatch(name)) for name in spans.names], dtype=bool)
    lengths = spans.dur_ns[is_step[spans.name] & trace.is_annotation]
    if len(lengths) < 3:
        return
    first, others = lengths[0], lengths[1:]
    if first > SLOW_FIRST_STEP * np.median(others):
        yield Finding(
            "slow_first_step",
            Severity.WARNING,
            1,
            f"the first step took {first / np.median(others):.1f} times the median of the others: nothing warmed up",
            "run some steps before the profiler starts (schedule(wait=…, warmup=…))",
        )
    elif lengths.max() > UNEVEN_STEPS * max(1, lengths.min()):
        yield Finding(
            "uneven_steps",
            Severity.WARNING,
            len(lengths),
            f"the longest of {len(lengths)} steps took {lengths.max() / max(1, lengths.min()):.1f} times the shortest",
            "look at steps one by one (--request N) before you trust a mean",
        )


def _of_the_viewers(trace: Trace) -> Iterator[Finding]:
    dropped = _dropped_by_perfetto(trace)
    if dropped:
        yield Finding(
            "dropped_by_perfetto",
            Severity.INFO,
            dropped,
            f"slices that Perfetto up to v56 drops without a word, since they cross another on their track: "
            f"about {dropped:,}",
            "don't conclude from what Perfetto doesn't show; the figures here have them all",
        )
    negative = sum(track.tid.startswith("-") for track in trace.spans.tracks)
    if negative:
        yield Finding(
            "negative_thread_ids",
            Severity.INFO,
            negative,
            f"threads with a negative id, which Perfetto folds into others: {negative}",
            "don't conclude from where Perfetto shows their spans",
        )


def _dropped_by_perfetto(trace: Trace) -> int:
    """How many slices cross another of their track once their times have been through a float64.

    Perfetto reads a time with a fraction as float64 microseconds and multiplies by 1000; at epoch times that is
    good to 256 ns only. Whole microseconds it reads exactly, and so it does relative times.
    """
    spans = trace.spans
    if not len(spans) or spans.ts_ns[-1] < 1000 * columns.EXACT_FLOAT_US or not (spans.ts_ns % 1000).any():
        elsewhere = np.ones(len(spans), dtype=bool)
        elsewhere[trace.host] = False
        rest = np.flatnonzero(elsewhere)
        return trace.nesting.clipped + nest(spans.ts_ns[rest], spans.end_ns[rest], spans.track[rest]).clipped
    whole, fraction = np.divmod(spans.ts_ns, 1000)
    start = ((whole.astype(np.float64) + fraction / 1000) * 1000).astype(np.int64)
    order = np.lexsort((-spans.dur_ns, start))
    return nest(start[order], (start + spans.dur_ns)[order], spans.track[order]).clipped


def _of_the_capture(trace: Trace) -> Iterator[Finding]:
    metadata = trace.metadata
    if metadata is None:
        return
    for warning in metadata.warnings:
        yield Finding("capture_warning", Severity.WARNING, 1, warning, "see the message")
    if metadata.run.weights == "random":
        yield Finding(
            RANDOM_WEIGHTS,
            Severity.INFO,
            1,
            f"the weights of {metadata.run.model} are random",
            "times depend on the shapes, not on the values; what the model writes makes no sense",
        )
    if metadata.config.get("warmup") == 0:
        yield Finding(
            "no_warmup",
            Severity.WARNING,
            1,
            "nothing ran before the timed requests; first runs are up to 20 times slower",
            "capture with --warmup 10",
        )


def merged(healths: Sequence[Health]) -> Health:
    """The findings of several traces; one that several have is listed once, its counts added."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in (finding for health in healths for finding in health.findings):
        key = (finding.code, finding.message)
        count = finding.count + (found[key].count if key in found else 0)
        found[key] = Finding(finding.code, finding.severity, count, finding.message, finding.advice)
    return Health(tuple(found.values()))
