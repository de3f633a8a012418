"""Findings about the file: damage, and what was repaired or left out while it was read."""

from __future__ import annotations

from collections.abc import Iterator

from gemma_trace import foreign
from gemma_trace.health.findings import NOTHING_TO_DO, Finding, Severity
from gemma_trace.trace import columns, others, reader, repair
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

_REPAIRS: dict[str, tuple[Severity, str, str]] = {
    repair.CONTROL_CHARACTERS: (
        Severity.INFO,
        "control characters that stood bare in strings and were escaped",
        NOTHING_TO_DO,
    ),
    repair.BROKEN_ESCAPES: (
        Severity.INFO,
        "backslashes that escape nothing and were taken as they stand",
        NOTHING_TO_DO,
    ),
    repair.BAD_UTF8: (
        Severity.INFO,
        "bytes that are not UTF-8 and became U+FFFD",
        "names may differ from other traces of the same program",
    ),
    repair.NOT_A_NUMBER: (
        Severity.WARNING,
        "numbers that were NaN, infinite or N/A",
        "capture again if a span that you need is affected",
    ),
    repair.BARE_VALUES: (
        Severity.WARNING,
        "values that are not JSON, such as words without quotes: read as the number or the text that they spell",
        "check the program that wrote the file if a span that you need is affected",
    ),
    repair.STRAY_COMMAS: (Severity.INFO, "commas that separate nothing and were passed over", NOTHING_TO_DO),
    others.NOT_NUMERIC: (
        Severity.WARNING,
        "values of counters that are not numbers and were left out: the value before them continues",
        "check the program that sampled the counters if their means matter",
    ),
    repair.STRAY_BRACES: (Severity.WARNING, "closing braces that close nothing", "look at the file around them"),
    others.TEXT_NUMBERS: (
        Severity.INFO,
        "numbers written as text, which were read exactly",
        NOTHING_TO_DO,
    ),
    columns.NEGATIVE_DURATIONS: (
        Severity.WARNING,
        "spans of negative length, which count as 0",
        "the profiler's clocks disagreed: capture again with a newer torch or driver",
    ),
    columns.MISSING_DURATIONS: (
        Severity.WARNING,
        "spans without a length, which count as 0",
        "the profiler stopped while they were open; stop it outside the region of interest",
    ),
    columns.UNDECODABLE_EVENTS: (
        Severity.ERROR,
        "events that couldn't be read and were left out",
        "capture again, or look at the file around them",
    ),
    foreign.UNREADABLE_VALUES: (
        Severity.WARNING,
        "arguments of events that couldn't be read and count as missing: nested too deep, or with too large numbers",
        "check the program that wrote the file if shapes, streams or links are missing",
    ),
    foreign.NUMBERS_TOO_LARGE: (
        Severity.WARNING,
        "ids, sizes and addresses that do not fit into 64 bits and count as missing",
        "check the program that wrote the file if links, streams or sizes are missing",
    ),
    reader.UNREADABLE_HEADER: (
        Severity.WARNING,
        "headers that couldn't be read, so that the properties of the device and the metadata are missing",
        "capture again, or mend the JSON before traceEvents",
    ),
    reader.UNREAD_BYTES: (
        Severity.ERROR,
        "bytes that were not read, after an event or header that is too long, or too many unreadable events",
        "check the program that wrote the file; the events before them were read",
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


def file_findings(trace: Trace) -> Iterator[Finding]:
    """What reading the file brought to light."""
    report = trace.read_report
    if report.damaged:
        yield Finding(
            "damaged",
            Severity.ERROR,
            1,
            f"the compressed data is broken; {counted(len(trace.spans), 'span')} before the break could be read",
            "copy the file again from where it was captured",
        )
    if report.truncated and not report.damaged:
        yield Finding(
            "truncated",
            Severity.ERROR,
            1,
            f"the file ends before the trace does; {counted(len(trace.spans), 'span')} could be read",
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
            f"host spans that cross another span of their thread: {count:,}; they were clipped",
            NOTHING_TO_DO,
        )
