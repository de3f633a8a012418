"""`gemma-trace check`."""

from __future__ import annotations

from dataclasses import replace

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption


def check(
    trace: TraceArgument,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Say whether a trace can be trusted, and what is wrong.

    Each finding comes with advice on what to do about it. Text that looks like a password or an access token is
    reported too, so that you know before you share the trace. The exit code is 1 if the trace has an error, e.g. if
    part of it is missing, and 4 if it can't be read.

    Example: gemma-trace check traces/demo
    """
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.progress import reading
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.health.secrets import without_secrets
    from gemma_trace.report.tables.check import check_report
    from gemma_trace.trace.folders import one_trace

    path = one_trace(trace)
    loaded = open_trace(path, read_rules(rule, rules), cached=not no_cache)
    run = summarize(loaded)
    with reading(f"looking for secrets in {path.name}", path) as on_bytes:
        health, mask = without_secrets(run.health, path, on_bytes)
    run = replace(run, run=mask(run.run), health=health)
    emit(check_report(run, len(loaded.spans)), form, output, force=force, raw=raw)
    if run.health.verdict == "error":
        raise typer.Exit(1)
