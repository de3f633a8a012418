"""`gemma-trace summarize`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, OutputOption


class Style(StrEnum):
    """Which columns the summary has."""

    TTFT = "ttft"
    STUDY = "study"


def summarize(
    paths: Annotated[list[Path], typer.Argument(help="Traces, or folders of them.", metavar="PATH...")],
    style: Annotated[
        Style, typer.Option(help="study: the reference study's sections, columns and cells.")
    ] = Style.TTFT,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Show where the time to the first token went, a row a run.

    Times are of the requests that ran without the profiler, as medians with their spread.

    Example: gemma-trace summarize traces/ --format markdown
    """
    from gemma_trace.analysis.summary import summarize as summarize_trace
    from gemma_trace.cli.inputs import find_traces
    from gemma_trace.cli.output import emit
    from gemma_trace.errors import InputError
    from gemma_trace.report.views import study_report, summary_report
    from gemma_trace.trace.trace import load

    runs, failures = [], []
    for path in find_traces(paths):
        try:
            runs.append(summarize_trace(load(path)))
        except InputError as error:
            failures.append(error)
    if runs:
        report = study_report if style is Style.STUDY else summary_report
        emit(report(runs, [str(path) for path in paths]), form, output, force=force)
    for failure in failures[:-1]:
        print(f"gemma-trace: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]
