"""`gemma-trace hta`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption, StageOption
from gemma_trace.errors import ConfigError
from gemma_trace.hta.answers import Analysis, Parts
from gemma_trace.remote import RemotePath


def hta(
    trace: TraceArgument,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    request: Annotated[int | None, typer.Option(metavar="N", help="Show request N alone; 0 is the first.")] = None,
    by: Annotated[
        Parts, typer.Option(help="Add rows per request or per stage to those of the whole trace.")
    ] = Parts.STAGE,
    analyses: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Run only these analyses, e.g. temporal,kernels. The default is all."),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Show the kernel sequences of the ops whose name contains TEXT.")
    ] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Give HTA the file itself instead of a cleaned copy.")] = False,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Stop HTA if an answer takes more than S seconds.")
    ] = 300,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Run Holistic Trace Analysis; show its figures beside ours.

    HTA runs in a separate process, on a copy of the trace without the things that HTA gets wrong. It requires
    gemma-trace[hta]. The work of each stage is analysed separately, so that there is one row per stage. --as-is gives
    HTA the file itself, and shows what differs then, and why.

    Example: gemma-trace hta traces/demo && gemma-trace hta foreign.json.gz --as-is --analyses temporal,kernels
    """
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.median_request import median_request
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, read_rules
    from gemma_trace.hta import run
    from gemma_trace.report.tables.hta import hta_report
    from gemma_trace.trace.folders import one_trace

    run.require_hta()
    chosen = chosen_stage(stage)
    if as_is and chosen is not None:
        raise ConfigError(f"--as-is gives HTA the whole file; leave out --stage {chosen} or --as-is")
    if as_is and isinstance(trace, RemotePath):
        raise ConfigError(f"--as-is gives HTA the file itself, and it reads no URLs; leave it out, or copy {trace}")
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache, detailed=False)
    wanted = run.Wanted(
        analyses=named_analyses(analyses),
        by=by,
        stage=chosen,
        request=request,
        as_is=as_is,
        operator=operator,
        timeout_s=timeout,
    )
    with _progress() as on_step:
        result = run.run_hta(loaded, wanted, on_step)
    median = median_request(breakdown(loaded).complete()).index
    emit(
        hta_report(result, loaded.label, str(loaded.path), run_health(loaded), median),
        form,
        output,
        force=force,
        raw=raw,
    )


def named_analyses(text: str | None) -> tuple[Analysis, ...]:
    """The analyses that a text names, in the order in which they run; all for None.

    Raises:
        ConfigError: one has no such name.
    """
    if text is None:
        return tuple(Analysis)
    names = [name.strip().replace("-", "_") for name in text.split(",") if name.strip()]
    known = [analysis.value for analysis in Analysis]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ConfigError(
            f"--analyses: there is no analysis {unknown[0] if unknown else ''!r}; give some of {', '.join(known)}"
        )
    return tuple(analysis for analysis in Analysis if analysis.value in names)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how many answers HTA has given; gives what hears of them."""
    if not sys.stderr.isatty() or asked().quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("HTA", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
