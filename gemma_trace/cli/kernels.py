"""`gemma-trace kernels`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.analysis.grouping import By, Sort
from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import PeaksOption, RuleOption, RulesOption, StageOption


def kernels(
    trace: TraceArgument,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    request: Annotated[int | None, typer.Option(metavar="N", help="Show request N alone; 0 is the first.")] = None,
    device: Annotated[int | None, typer.Option(metavar="N", help="Show what ran on device N alone.")] = None,
    by: Annotated[
        By, typer.Option(help="What a row is. op, module, layer and shape are those that launched the work.")
    ] = By.KERNEL,
    sort: Annotated[Sort, typer.Option(help="Sort the rows by this, the largest first.")] = Sort.SUM,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="Show TFLOP/s, GB/s and the share of the device's peak of each row.")
    ] = False,
    peaks: PeaksOption = None,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Show kernel names as recorded, with their template arguments.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Show N rows; 0 shows all. By default a table shows 20; CSV, JSON and Parquet have all.",
        ),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show which kernels or ops take the time of a trace.

    Those of one stage alone with --stage. Where nothing ran on a device, the rows are the ops on the CPU, by self time.

    Example: gemma-trace kernels traces/tiny-float32-cpu-torchvision --stage vision_tower --by family
    """
    from gemma_trace.analysis.kernels import kernel_table
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, own_peaks, read_rules
    from gemma_trace.report.tables.kernels import kernels_report
    from gemma_trace.trace.folders import one_trace

    user_peaks = own_peaks(peaks)
    chosen = chosen_stage(stage)
    with_roofline = roofline or peaks is not None
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache, detailed=with_roofline)
    table = kernel_table(loaded, chosen, request, by, sort, device)
    report = kernels_report(table, loaded, run_health(loaded), top, full_names=full_names)
    if with_roofline:
        from gemma_trace.analysis.roofline.achieved import achieved_rows
        from gemma_trace.analysis.roofline.devices import device_peaks
        from gemma_trace.analysis.roofline.rows import row_rooflines
        from gemma_trace.report.tables.roofline import with_rooflines

        held_against = device_peaks(loaded, user_peaks, table.on)
        rows = achieved_rows(table, row_rooflines(loaded, table, held_against.peaks))
        report = with_rooflines(report, table, rows, held_against, top, full_names=full_names)
    emit(report, form, output, force=force, raw=raw)
