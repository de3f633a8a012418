"""What is wrong with one trace."""

from __future__ import annotations

from dataclasses import asdict

from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.model import Column, Report, Section


def check_report(run: RunSummary, spans: int) -> Report:
    """The verdict on one trace, and a row a finding.

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
        sections=(Section(title, columns, rows, notes=() if rows else ("Nothing wrong was found.",)),),
        records=[asdict(finding) for finding in findings],
        totals={"verdict": run.health.verdict, "spans": spans},
        health=run.health,
    )
