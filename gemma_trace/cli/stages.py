"""`gemma-trace stages`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, NoCacheOption, OutputOption
from gemma_trace.cli.rules import RulesFileOption, RulesOption


def stages(
    trace: Annotated[Path, typer.Argument(help="A trace file, or a folder that holds one.", metavar="TRACE")],
    request: Annotated[int | None, typer.Option(help="Only this request, 0 is the first.")] = None,
    why: Annotated[bool, typer.Option("--why", help="Split every stage's time into its parts.")] = False,
    stage: RulesOption = None,
    stages_file: RulesFileOption = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show every stage of one trace, host and device.

    The times add up to the wall time of the requests, to the nanosecond; a verdict says what binds each stage, and
    --why shows the split it rests on. Traces that others made get stages by known names (nn.Module frames, vLLM's
    and SGLang's steps), and by your own rules.

    Example: gemma-trace stages foreign.json.gz --why --stage moe='nn.Module: MoE' --stage prefill='my_prefill'
    """
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.reasons import stage_reasons
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.inputs import one_trace, open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.views.stages import stages_report

    loaded = open_trace(one_trace(trace), read_rules(stage, stages_file), cached=not no_cache)
    everything = breakdown(loaded)
    shown = everything if request is None else breakdown(loaded, request)
    report = stages_report(shown, summarize(loaded, everything), stage_reasons(loaded, request), split=why)
    emit(report, form, output, force=force)
