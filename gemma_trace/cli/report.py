"""`gemma-trace report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, NoCacheOption, answer, file_stem, say
from gemma_trace.cli.report_job import RanksOption
from gemma_trace.cli.rules import PeaksOption, RuleOption, RulesOption, StageOption
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.remote import path_of
from gemma_trace.report.formats import Format

if TYPE_CHECKING:
    from gemma_trace.analysis.pairing import Pairing
    from gemma_trace.analysis.sides import Side
    from gemma_trace.peaks import Peaks
    from gemma_trace.ranks.folders import Runs
    from gemma_trace.report.html.job_page import JobPage
    from gemma_trace.report.html.model import PageContent, PageDetail, Pair, RunView
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.trace import Trace


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Trace files, or folders of them. Exactly two are compared with each other.",
            metavar="PATH...",
            parser=path_of,
        ),
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="PATH", parser=path_of, help="Compare each PATH with this trace or folder of traces."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write to this file. The default is <run>.html in this folder."
        ),
    ] = None,
    hta: Annotated[
        bool,
        typer.Option("--hta", help="Add the figures of Holistic Trace Analysis. This takes some seconds per trace."),
    ] = False,
    stage: StageOption = None,
    ranks: RanksOption = None,
    peaks: PeaksOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    force: ForceOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Write one HTML file that shows where the time goes.

    The file needs no network, so you can keep it or mail it. For one trace it shows TTFT with its spread, the median
    request over time, stages, kinds of work, kernels, the tree, decoding, health and environment. For a folder of runs
    a table with one row per run comes first. For two paths it shows the difference. The name of the file goes to
    stdout.

    For a folder that holds the ranks of one job, or a file into which they were merged, the page shows the job: which
    rank is late and where, a heat map of ranks by stage, chosen ranks over time on one clock, and the collectives.
    With --hta or --stage, each rank of a folder is shown as a run instead.

    With --baseline, each path is compared with the baseline, and one table shows them all. With --stage, the table of
    stages, the kinds of work, the kernels and the tree show that stage alone.

    Example: gemma-trace report traces/demo && gemma-trace report main/ branch/ -o change.html
    """
    from gemma_trace.cli.output import refuse_another_format, refuse_existing
    from gemma_trace.cli.report_job import rank_numbers
    from gemma_trace.cli.rules import chosen_stage, own_peaks, read_rules
    from gemma_trace.report.html.job_page import JobPage, render_job
    from gemma_trace.report.html.page import render_page
    from gemma_trace.trace.files import output_file

    refuse_another_format(output, Format.HTML, "a report is HTML")
    if output is not None:
        refuse_existing(output, force=force)
    if hta:
        from gemma_trace.hta.run import require_hta

        require_hta()
    reading = Reading(
        rules=tuple(read_rules(rule, rules)),
        cached=not no_cache,
        hta=hta,
        peaks=tuple(own_peaks(peaks)),
        stage=chosen_stage(stage),
        ranks=() if ranks is None else rank_numbers(ranks),
    )
    failures: list[InputError] = []
    content: PageContent | JobPage
    if baseline is not None:
        content = compared(baseline, paths, reading)
    elif len(paths) == 2:
        content = compared(paths[0], paths[1:], reading)
    else:
        content, failures = collected(paths, reading)
    target = output or Path(default_name(paths, content))
    refuse_existing(target, force=force)
    if reading.ranks and not isinstance(content, JobPage):
        raise ConfigError("--ranks chooses among the ranks of one job, and these traces are not a job; leave it out")
    page = render_job(content) if isinstance(content, JobPage) else render_page(content)
    with output_file(target) as file:
        file.write(page)
    answer(target)
    for failure in failures[:-1]:
        say(f"gemma-trace: {failure}")
    if failures:
        raise failures[-1]


@dataclass(frozen=True)
class Reading:
    """How traces are read.

    Attributes:
        hta: whether Holistic Trace Analysis runs on them too.
        peaks: the user's own peak rates.
        stage: the only one that is shown in detail; None is all.
        ranks: those of a job that are drawn over time; empty is the page's own choice.
    """

    rules: tuple[StageRule, ...]
    cached: bool
    hta: bool
    peaks: tuple[Peaks, ...] = ()
    stage: str | None = None
    ranks: tuple[int, ...] = ()

    @property
    def is_by_run(self) -> bool:
        """Whether something is asked for that only pages of runs have."""
        return self.hta or self.stage is not None


def view(trace: Trace, detail: PageDetail, reading: Reading) -> RunView:
    """What the page shows of a trace."""
    from gemma_trace.report.html.build import view_of

    shown = view_of(trace, detail, reading.peaks, reading.stage)
    if not reading.hta:
        return shown
    from gemma_trace.hta.run import Wanted, run_hta
    from gemma_trace.report.tables.hta import hta_tables

    result = run_hta(trace, Wanted(stage=reading.stage))
    return replace(shown, hta=tuple(hta_tables(result, shown.label, shown.waterfall.index)))


def compared(before: Path, afters: Sequence[Path], reading: Reading) -> PageContent:
    """Traces beside one, or the runs of folders that have a name in common with its runs.

    Raises:
        InputError: as `pair_runs` does, or a trace can't be read.
    """
    from gemma_trace.cli.diff import paired
    from gemma_trace.ranks.folders import Runs
    from gemma_trace.report.html.model import PageContent, detail_for

    known = Runs()
    pairings, unmatched = paired(before, afters, known, repeats=False)
    detail = detail_for(2 * len(pairings))
    pairs = [pair_from(pairing, known, detail, reading) for pairing in pairings]
    names = [pairs[0].before.label, pairs[0].after.label]
    if len(pairs) > 1:
        title = f"{len(pairs)} runs, before → after"
    else:
        title = " → ".join(names) if names[0] != names[1] else f"{names[0]}, before → after"
    runs = tuple(view for pair in pairs for view in (pair.before, pair.after))
    left = [line.replace(str(before), "the first side") for line in unmatched]
    for after in afters:
        left = [line.replace(str(after), "the second side" if len(afters) == 1 else "another side") for line in left]
    return PageContent(title, runs, tuple(pairs), tuple(f"Not compared: {line}." for line in left))


def pair_from(pairing: Pairing, runs: Runs, detail: PageDetail, reading: Reading) -> Pair:
    """One comparison with the views of the first process of either side."""
    from gemma_trace.analysis.diff import diff_sides
    from gemma_trace.analysis.ranks_as_one import side_of_ranks
    from gemma_trace.analysis.sides import side_of
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.report.html.model import Pair

    firsts, sides = [], []
    for paths in (pairing.befores, pairing.afters):
        processes: list[Side] = []
        for path in paths:
            traces = (open_trace(file, reading.rules, cached=reading.cached) for file in runs.files_of(path))
            first = next(traces)
            if not processes:
                firsts.append(view(first, detail, reading))
            processes.append(side_of_ranks([side_of(first), *map(side_of, traces)]))
        sides.append(processes)
    compared = diff_sides(*sides, paired=pairing.is_paired)
    return Pair(compared if reading.stage is None else compared.of_stage(reading.stage, with_request=True), *firsts)


def collected(paths: Sequence[Path], reading: Reading) -> tuple[PageContent | JobPage, list[InputError]]:
    """The job, or all runs, that these paths name, and why those are missing that can't be read.

    Raises:
        InputError: there is no trace, or none that can be read.
    """
    from gemma_trace.cli.report_job import job_page
    from gemma_trace.trace.folders import find_traces

    files = find_traces(paths)
    if len(files) == 1:
        return one_file(files[0], reading), []
    job = None if reading.is_by_run else job_page(files, reading.rules, cached=reading.cached, asked=reading.ranks)
    return (job, []) if job else several(files, reading)


def one_file(path: Path, reading: Reading) -> PageContent | JobPage:
    """The run of a trace, or the job that was merged into it.

    Raises:
        InputError: as `load` does.
    """
    from gemma_trace.cli.report_job import merged_page
    from gemma_trace.report.html.model import FULL, PageContent
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    trace = load(path, reading.rules, cache=TraceCache() if reading.cached else None)
    job = None if reading.is_by_run else merged_page(trace, reading.rules, cached=reading.cached, asked=reading.ranks)
    if job:
        return job
    shown = view(trace, FULL, reading)
    return PageContent(shown.label, (shown,))


def several(files: Sequence[Path], reading: Reading) -> tuple[PageContent, list[InputError]]:
    """A page with a row per run, and why those are missing that can't be read.

    Raises:
        InputError: none can be read.
    """
    from gemma_trace.parallel import map_files
    from gemma_trace.report.html.build import labelled_apart
    from gemma_trace.report.html.model import PageContent, RunView, detail_for

    done = map_files(partial(view_file, reading=reading, detail=detail_for(len(files))), files)
    runs = labelled_apart([result for result in done if isinstance(result, RunView)])
    failures = [result for result in done if isinstance(result, InputError)]
    if not runs:
        raise failures[-1]
    remarks = []
    if failures:
        lacking = f" or have no stage {reading.stage}" if reading.stage else ""
        remarks.append(f"Not on this page: {len(failures)} of {len(files)} files, which can't be read{lacking}.")
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} runs"
    return PageContent(title, tuple(runs), remarks=tuple(remarks)), failures


def view_file(path: Path, *, reading: Reading, detail: PageDetail) -> RunView | InputError:
    """One trace's part of the page, or why there is none."""
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    try:
        return view(load(path, reading.rules, cache=TraceCache() if reading.cached else None), detail, reading)
    except InputError as error:
        return error


def default_name(paths: Sequence[Path], content: PageContent | JobPage) -> str:
    """The page's file name: the run's, the two sides', or the folder's."""
    from gemma_trace.report.html.model import PageContent

    folder = (paths[0].resolve().name if len(paths) == 1 else "") or "report"
    if not isinstance(content, PageContent):
        stem = folder if paths[0].is_dir() else content.title
    elif content.pairs:
        names = [view.label for view in content.runs[:2]] if len(content.pairs) == 1 else [path.name for path in paths]
        stem = "-vs-".join(dict.fromkeys(names))
    else:
        stem = content.runs[0].label if len(content.runs) == 1 else folder
    return file_stem(stem) + ".html"
