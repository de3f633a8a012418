"""`gemma-trace what-if`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption
from gemma_trace.errors import ConfigError


def what_if(
    trace: TraceArgument,
    scale: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=X", help="Let this work take X times as long. Repeatable."),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave this work out. Repeatable.")
    ] = None,
    overlap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Let this work run in parallel with everything else; only the end of the "
            "request waits for it. Repeatable.",
        ),
    ] = None,
    request: Annotated[int | None, typer.Option(metavar="N", help="Replay request N alone; 0 is the first.")] = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Say how long requests would take with less or faster work.

    The dependency graph of each request is replayed with some of its work shorter, gone, or run in parallel. A
    pattern is family:NAME, kernel:NAME, stage:NAME, op:NAME or
    span:NAME; in NAME, * stands for any text and ? for any character. op and span select everything inside these ops
    and spans, and the activities launched there. Without a device, family selects the self time of ops.

    Example: gemma-trace what-if traces/demo --scale 'family:gemm=0.5' --remove 'stage:image_processing'
    """
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.tables.what_if import what_if_report
    from gemma_trace.trace.folders import one_trace
    from gemma_trace.whatif.engine import Change
    from gemma_trace.whatif.engine import what_if as replayed

    if not (scale or remove or overlap):
        raise ConfigError("nothing would change; give --scale PATTERN=X, --remove PATTERN or --overlap PATTERN")
    change = Change.of(remove or (), dict(map(scaled, scale or ())), overlap or ())
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache, detailed=False)
    answer = replayed(loaded, change, request)
    emit(what_if_report(answer, str(loaded.path), run_health(loaded)), form, output, force=force, raw=raw)


def scaled(text: str) -> tuple[str, float]:
    """`PATTERN=X` as the two.

    >>> scaled("family:attention=0.5")
    ('family:attention', 0.5)

    Raises:
        ConfigError: there is no number behind the last equals sign.
    """
    pattern, _, factor = text.rpartition("=")
    try:
        return pattern, float(factor)
    except ValueError:
        raise ConfigError(f"--scale {text!r} is not PATTERN=X, e.g. 'family:attention=0.5'") from None
