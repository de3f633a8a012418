"""What is wrong with one trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from gemma_trace.analysis.distortion import StageDistortion
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import milliseconds


def check_report(run: RunSummary, spans: int) -> Report:
    """The verdict on one trace, and a row a finding; of a capture with a timed pass, how far the profiler distorts it.

    Args:
        spans: how many the trace has.
    """
    columns = (
        Column("severity", align="left", holds="status"),
        Column("finding", 1, align="left"),
        Column("count", 1),
        Column("what", align="left", overflow="fold"),
        Column("what to do", 2, align="left", overflow="fold"),
    )
    findings = run.health.findings
    title = f"{run.run}: {run.health.verdict}, {spans:,} spans"
    rows = tuple((f.severity.value, f.code, f"{f.count:,}", f.message, f.advice) for f in findings)
    return Report(
        command="check",
        source=[str(run.source)],
        sections=(
            Section(title, columns, rows, notes=() if rows else ("Nothing wrong was found.",)),
            *((_distortion_section(run.distortions),) if run.distortions else ()),
        ),
        records=[finding.record() for finding in findings],
        totals={
            "verdict": run.health.verdict,
            "spans": spans,
            "distortions": [asdict(distortion) for distortion in run.distortions],
        },
        health=run.health,
    )


def _distortion_section(found: Sequence[StageDistortion]) -> Section:
    """The timed and the profiled pass, stage by stage."""
    columns = (Column("stage", align="left"), Column("timed ms"), Column("profiled ms"), Column("× timed"))
    rows = tuple(
        (each.stage, milliseconds(each.timed_ns), milliseconds(each.profiled_ns), f"{each.factor:.2f}")
        for each in found
    )
    note = (
        f"The profiler distorts {found[0].stage} most. Medians of the host's time, image for image, of "
        f"{found[0].requests} profiled requests; stages under 1% of a request are left out."
    )
    return Section("Stages under the profiler and without it", columns, rows, notes=(note,))
