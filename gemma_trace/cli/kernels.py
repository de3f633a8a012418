"""`gemma-trace kernels`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, OutputOption
from gemma_trace.stages import Stage


def _stage_names() -> list[str]:
    return [stage.value for stage in Stage if stage is not Stage.REQUEST]


def kernels(
    trace: Annotated[Path, typer.Argument(help="A trace file, or a folder that holds one.", metavar="TRACE")],
    stage: Annotated[
        str | None,
        typer.Option("--stage", "-s", help="Only what this stage launched.", autocompletion=_stage_names),
    ] = None,
    request: Annotated[int | None, typer.Option(help="Only this request, 0 is the first.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many rows; 0 is all.")] = 20,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Show which kernels cost a trace, or one of its stages, its time.

    Where nothing ran on a device, ops are listed by self time, which are on a CPU what kernels are on a GPU.

    Example: gemma-trace kernels traces/tiny-float32-cpu-torchvision --stage vision_tower
    """
    from gemma_trace.analysis.kernels import kernel_table
    from gemma_trace.cli.inputs import one_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.report.views import kernels_report
    from gemma_trace.trace.health import examine
    from gemma_trace.trace.trace import load

    path = one_trace(trace)
    loaded = load(path)
    table = kernel_table(loaded, stage, request)
    emit(kernels_report(table, examine(loaded), path, top), form, output, force=force)
