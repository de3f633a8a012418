"""`gemma-trace stages`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, OutputOption


def stages(
    trace: Annotated[Path, typer.Argument(help="A trace file, or a folder that holds one.", metavar="TRACE")],
    request: Annotated[int | None, typer.Option(help="Only this request, 0 is the first.")] = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Show every stage of one trace, host and device.

    The times add up to the wall time of the requests, to the nanosecond.

    Example: gemma-trace stages traces/tiny-float32-cpu-torchvision
    """
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.inputs import one_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.report.views import stages_report
    from gemma_trace.trace.trace import load

    loaded = load(one_trace(trace))
    everything = breakdown(loaded)
    shown = everything if request is None else breakdown(loaded, request)
    emit(stages_report(shown, summarize(loaded, everything)), form, output, force=force)
