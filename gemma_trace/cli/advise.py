"""`gemma-trace advise`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption, say
from gemma_trace.cli.rules import PeaksOption, RuleOption, RulesOption
from gemma_trace.errors import InputError
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.advice.merge import Looked
    from gemma_trace.health.findings import Health
    from gemma_trace.peaks import Peaks
    from gemma_trace.stages import StageRule

_Found = tuple["Looked", "Health"]


def look_at(
    path: Path, *, request: int | None, rules: Sequence[StageRule], peaks: Sequence[Peaks], cached: bool
) -> _Found | InputError:
    """What the rules find in one trace and what is wrong with it, or why there is nothing."""
    from gemma_trace.advice.advise import look
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    try:
        trace = load(path, rules, cache=TraceCache() if cached else None)
        return look(trace, request, peaks, trace.label), run_health(trace)
    except InputError as error:
        return error


def advise(
    paths: Annotated[
        list[Path], typer.Argument(help="Trace files, or folders of them.", metavar="TRACE...", parser=path_of)
    ],
    request: Annotated[
        int | None, typer.Option(metavar="N", help="Look at request N of each trace alone; 0 is the first.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what every rule looked for, what it found, and its thresholds.")
    ] = False,
    peaks: PeaksOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Say what to change, and what each change gains at most.

    It shows at most seven findings, the highest ceiling first. A ceiling is what a request would gain if the work in
    question were gone, found by replaying its dependency graph: a bound, not a forecast. Each finding has its evidence
    and the command that checks it. Findings that would gain less than the noise are left out, and rules that lack data
    say what to record.

    For several traces, or a folder of them, a ceiling is the mean over all their requests, and its interval is over the
    traces.

    Example: gemma-trace advise traces/demo
    """
    from gemma_trace.advice.merge import advice_of
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import own_peaks, read_rules
    from gemma_trace.health.merge import merged, told_apart
    from gemma_trace.parallel import map_files
    from gemma_trace.report.tables.advice import advice_report, with_rules
    from gemma_trace.trace.folders import find_traces

    files = find_traces(paths)
    user_peaks = tuple(own_peaks(peaks))
    work = partial(look_at, request=request, rules=read_rules(rule, rules), peaks=user_peaks, cached=not no_cache)
    done = list(zip(files, map_files(work, files), strict=True))
    failures = [result for _, result in done if isinstance(result, InputError)]
    read = [(file, *result) for file, result in done if not isinstance(result, InputError)]
    if read:
        labels = told_apart([looked.label for _, looked, _ in read], [file for file, _, _ in read])
        advice = advice_of([looked.called(label) for (_, looked, _), label in zip(read, labels, strict=True)])
        health = merged([health for *_, health in read], labels)
        report = advice_report(advice, [str(path) for path in paths], health)
        report = with_rules(report, advice) if explain else report
        emit(report, form, output, force=force, raw=raw)
    for failure in failures[:-1]:
        say(f"gemma-trace: {failure}")
    if failures:
        raise failures[-1]
