"""`gemma-trace advise`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption


def advise(
    trace: TraceArgument,
    request: Annotated[int | None, typer.Option(metavar="N", help="Look at request N alone; 0 is the first.")] = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Say what to change, and what it would bring at most.

    At most seven findings, the highest ceiling first. A ceiling is what a request would gain if the work in question
    were gone, by replay of its dependency graph: a bound, not a forecast. Each finding has its evidence and the command
    that checks it. What would gain less than the noise is left out, and rules that lack something say what to record.

    Example: gemma-trace advise traces/demo
    """
    from gemma_trace.advice.advise import advise as advised
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.tables.advice import advice_report
    from gemma_trace.trace.folders import one_trace

    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache)
    found = advised(loaded, request)
    emit(advice_report(found, str(loaded.path), run_health(loaded)), form, output, force=force, raw=raw)
