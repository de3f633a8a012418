"""What is wrong with one trace, and how far the profiler distorts it."""

from __future__ import annotations

from typing import Final

from gemma_trace.analysis.distortion import StageDistortion
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, MS, RATIO, STATUS, WORDS
from gemma_trace.wording import counted

CODE: Final = Col("code", "finding", definition="the kind of finding; see below", priority=2)
SEVERITY: Final = Col(
    "severity",
    "severity",
    STATUS,
    definition=(
        "`error`: part of the trace is missing, or nothing in it comes from torch.profiler (exit code 1); "
        "`warning`: some figures may be wrong; `info`: the figures are right, but there is something to know "
        "about them"
    ),
)
AFFECTED: Final = Col(
    "count", "count", COUNT, definition="how many events, requests or whatever else the code counts", priority=3
)
MESSAGE: Final = Col("message", "what", WORDS, definition="what is wrong")
ADVICE: Final = Col("advice", "what to do", WORDS, definition="what to do about it", priority=1)
TRACES: Final = Col(
    "traces", definition="in JSON's `health`, for several traces: the labels of those that have the finding"
)

FINDING_FILE: Final = (CODE, SEVERITY, AFFECTED, MESSAGE, ADVICE)
"""A row per finding."""

FINDING_COLS: Final = (SEVERITY, CODE, AFFECTED, MESSAGE, ADVICE)
"""The same rows for people."""

DISTORTION_FILE: Final = (
    Col("stage", "stage", definition="the stage"),
    Col(
        "timed_ns",
        "timed",
        MS,
        definition="median of the host's time, less the stages nested in it, without the profiler",
    ),
    Col("profiled_ns", "profiled", MS, definition="the same under the profiler"),
    Col(
        "factor",
        "× timed",
        RATIO,
        definition="median over the `requests` of their time / the median timed one with the same image",
    ),
    Col("added_share", definition="what the profiler adds, over the timed request"),
    Col("requests", definition="how many profiled requests the medians are of"),
)
"""A row per stage over 1% of a request, the most distorted first."""

_DISTORTION_COLS: Final = DISTORTION_FILE[:4]


def check_report(run: RunSummary, spans: int) -> Report:
    """The verdict on one trace, and a row per finding; of a timed capture, how far the profiler distorts it.

    Args:
        spans: how many the trace has.
    """
    findings = run.health.findings
    title = f"{run.run}: {run.health.verdict}, {counted(spans, 'span')}"
    distorted = run.distortions
    return Report(
        command="check",
        source=[str(run.source)],
        tables=(
            Table(title, FINDING_COLS, findings, notes=() if findings else ("No problems were found.",)),
            *((distortion_table(distorted),) if distorted else ()),
        ),
        data=Table(title, FINDING_FILE, findings),
        totals={
            "verdict": run.health.verdict,
            "spans": spans,
            "distortions": Table("Distortions", DISTORTION_FILE, distorted),
        },
        health=run.health,
    )


def distortion_table(distortions: tuple[StageDistortion, ...]) -> Table[StageDistortion]:
    """The timed and the profiled pass, stage by stage."""
    note = (
        f"The profiler distorts {distortions[0].stage} most. Medians of the time on the host, compared image by image, "
        f"over {counted(distortions[0].requests, 'profiled request')}; stages below 1% of a request are left out."
    )
    return Table("Stages under the profiler and without it", _DISTORTION_COLS, distortions, notes=(note,))
