"""`gemma-trace summarize`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption, say
from gemma_trace.cli.rules import RuleOption, RulesOption, StageOption
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.analysis.summary import RunSummary
    from gemma_trace.stages import StageRule


def summarize_file(path: Path, *, rules: Sequence[StageRule], cached: bool) -> RunSummary | InputError:
    """One trace's row, or why there is none."""
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    try:
        return summarize(load(path, rules, cache=TraceCache() if cached else None, detailed=False))
    except InputError as error:
        return error


class Style(StrEnum):
    """Which columns the summary has."""

    TTFT = "ttft"
    STUDY = "study"


class Per(StrEnum):
    """What a row is."""

    RUN = "run"
    REQUEST = "request"
    SIZE = "size"
    COLD = "cold"


def summarize(
    paths: Annotated[
        list[Path], typer.Argument(help="Trace files, or folders of them.", metavar="PATH...", parser=path_of)
    ],
    style: Annotated[
        Style, typer.Option(help="ttft prints the usual columns; study prints the table of the reference study.")
    ] = Style.TTFT,
    per: Annotated[
        Per,
        typer.Option(help="Print a row per run, per request, per size of request, or per part of a cold start."),
    ] = Per.RUN,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show time to first token and its parts, one row per run.

    The times are medians over the requests that ran without the profiler, with their spread. With --stage, the
    columns are that stage and TTFT. The ranks of one job are one run: of each request, the rank that took longest
    counts.

    With --per request, there is a row for each request. With --per size, all requests with images of the same size and
    prompts of the same length are one row, which shows how preprocessing, encoder and TTFT grow with them. With --per
    cold, the rows are the parts of the cold starts that were captured with --cold.

    Example: gemma-trace summarize traces/ --format markdown
    """
    from gemma_trace.analysis.ranks_as_one import run_of_ranks
    from gemma_trace.analysis.summary import RunSummary
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, read_rules
    from gemma_trace.parallel import map_files
    from gemma_trace.ranks.folders import jobs_among
    from gemma_trace.report.tables.cold_start import cold_report
    from gemma_trace.report.tables.requests import requests_report, sizes_report
    from gemma_trace.report.tables.summary import stage_summary_report, study_report, summary_report
    from gemma_trace.trace.folders import find_traces

    chosen = chosen_stage(stage)
    if chosen is not None and style is Style.STUDY:
        raise ConfigError(f"--style study prints the study's own columns; leave out --stage {chosen} or --style study")
    if per is not Per.RUN and (chosen is not None or style is Style.STUDY):
        raise ConfigError(f"--per {per} has its own columns; leave out --stage and --style")
    work = partial(summarize_file, rules=read_rules(rule, rules), cached=not no_cache)
    files = find_traces(paths)
    done = dict(zip(files, map_files(work, files), strict=True))
    failures = [result for result in done.values() if isinstance(result, InputError)]
    jobs = [[done[file] for file in job] for job in jobs_among(files)]
    read = [[result for result in job if isinstance(result, RunSummary)] for job in jobs]
    runs = [run_of_ranks(ranks) for ranks in read if ranks]
    if runs:
        report = study_report if style is Style.STUDY else summary_report
        if per is not Per.RUN:
            report = {Per.REQUEST: requests_report, Per.SIZE: sizes_report, Per.COLD: cold_report}[per]
        elif chosen is not None:
            report = partial(stage_summary_report, stage=chosen)
        emit(report(runs, [str(path) for path in paths]), form, output, force=force, raw=raw)
    for failure in failures[:-1]:
        say(f"gemma-trace: {failure}")
    if failures:
        raise failures[-1]
