"""`gemma-trace diff`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.baseline import StoreOption
from gemma_trace.cli.output import (
    ForceOption,
    FormatOption,
    NoCacheOption,
    OutputOption,
    RawOption,
    refuse_existing,
    remark,
    say,
)
from gemma_trace.cli.rules import RuleOption, RulesOption, StageOption
from gemma_trace.errors import ConfigError, GateError, InconclusiveError
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.analysis.changes import TraceDiff
    from gemma_trace.analysis.gate import Held, Verdict
    from gemma_trace.analysis.noise import NoiseFloor
    from gemma_trace.analysis.pairing import Pairing
    from gemma_trace.analysis.sides import Side
    from gemma_trace.ranks.folders import Runs
    from gemma_trace.stages import StageRule
    from gemma_trace.store.baseline_runs import BaselineRuns


class OnInconclusive(StrEnum):
    """What a gate that can't know exits with."""

    FAIL = "fail"
    OK = "ok"


NoiseOption = Annotated[
    Path | None,
    typer.Option(
        "--noise",
        metavar="FOLDER",
        parser=path_of,
        help="A folder of 3 or more runs of one configuration. A difference between single runs counts only if it is "
        "larger than the differences between these.",
    ),
]
RepeatsOption = Annotated[
    bool, typer.Option("--repeats", help="Take all traces of a side as repeats of one configuration.")
]


def diff(
    before: Annotated[
        Path, typer.Argument(help="A trace file, or a folder of traces.", metavar="BEFORE", parser=path_of)
    ],
    after: Annotated[
        list[Path],
        typer.Argument(
            help="One or more traces or folders to compare with BEFORE.", metavar="AFTER...", parser=path_of
        ),
    ],
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="LIMIT",
            help="Exit with code 3 if something is slower than this: 5% applies to TTFT and all stages, "
            "ttft:+10ms,prefill:5% to those named.",
        ),
    ] = None,
    inconclusive: Annotated[
        OnInconclusive,
        typer.Option(help="Whether a gate that can't decide, for lack of data, exits with code 5 (fail) or 0 (ok)."),
    ] = OnInconclusive.FAIL,
    varies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING", help="Let --fail-on compare sides that differ in this setting, e.g. torch. Repeatable."
        ),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the result of --fail-on as JUnit XML, one test per limit."),
    ] = None,
    comment: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a comment for a pull request, in at most 60 lines of Markdown."),
    ] = None,
    link: Annotated[
        str | None, typer.Option(metavar="URL", help="The address of the report, to which the comment links.")
    ] = None,
    repeats: RepeatsOption = False,
    noise: NoiseOption = None,
    store: StoreOption = "",
    structure: Annotated[
        bool,
        typer.Option(
            "--structure", help="Match the call trees too, to find operators that were renamed, fused or split."
        ),
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Show N families, ops and kernels; 0 shows all. By default a table shows 10; CSV, JSON and "
            "Parquet have all.",
        ),
    ] = None,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Show kernel names as recorded, with their template arguments.")
    ] = False,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show what changed between traces, by stage, op and kernel.

    Folders whose traces are repeats of one configuration are compared as a whole: the interval of each difference
    includes the variation between processes. Other folders are compared run by run, by the names of the runs. With one
    process per side, a row is called slower or faster only where it exceeds a noise floor.

    A path may be baseline:NAME, with --store STORE: the runs that gemma-trace baseline named, whose stages the store
    has. What is inside of the stages isn't compared then, and all traces of either side are repeats.

    Example: gemma-trace diff main/ branch/ --fail-on 5% --format markdown
    """
    from gemma_trace.analysis.gate import parse_gate
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, read_rules
    from gemma_trace.report.comment import to_comment
    from gemma_trace.report.junit import to_junit
    from gemma_trace.report.tables.diff import diff_report
    from gemma_trace.store.baseline_runs import BaselineRuns

    gate = None if fail_on is None else parse_gate(fail_on, varies or ())
    if junit and gate is None:
        raise ConfigError("--junit writes the result of --fail-on; give --fail-on as well")
    for path in filter(None, (junit, comment)):
        refuse_existing(path, force=force)
    runs = BaselineRuns(store)
    reading = SideReader(read_rules(rule, rules), runs, cached=not no_cache, structure=structure)
    pairings, unmatched = paired(before, after, runs, repeats=repeats)
    floor = noise_floor(noise, reading) if noise else None
    diffs = [reading.compare(pairing, floor) for pairing in pairings]
    chosen = chosen_stage(stage)
    shown = diffs if chosen is None else [pair.of_stage(chosen) for pair in diffs]
    lost = [line for pairing in pairings for line in pairing.lost]
    sources = [str(before), *map(str, after)]
    report = diff_report(shown, unmatched, sources, top, full_names=full_names, remarks=lost)
    verdicts = [gate.judge(pair) for pair in diffs] if gate else []
    if gate:
        report = report.extended((), {"gate": gate_record(verdicts, unmatched)})
    emit(report, form, output, force=force, raw=raw)
    if junit:
        write_text(junit, to_junit([pair.label for pair in diffs], verdicts, unmatched))
    if comment:
        write_text(comment, to_comment(diffs, verdicts, unmatched, link))
    if gate:
        hold(diffs, verdicts, unmatched, lenient=inconclusive is OnInconclusive.OK)


class SideReader:
    """How traces are read.

    Args:
        rules: the user's stages.
        runs: which files are of which run.
        cached: keep the columns of large traces.
        structure: match call trees too.
    """

    def __init__(self, rules: Sequence[StageRule], runs: BaselineRuns, *, cached: bool, structure: bool) -> None:
        self.runs = runs
        self._rules, self._cached, self._structure = rules, cached, structure
        self._known: dict[Path, Side] = {}

    def side(self, path: Path) -> Side:
        """What a comparison needs of a run, which is read once: of a trace, or of the ranks of a job."""
        from gemma_trace.analysis.ranks_as_one import side_of_ranks
        from gemma_trace.analysis.sides import side_of
        from gemma_trace.cli.inputs import open_trace

        if path in self.runs.stored:
            return self.runs.stored[path].side
        if path not in self._known:
            traces = (
                open_trace(file, self._rules, cached=self._cached, detailed=False) for file in self.runs.files_of(path)
            )
            self._known[path] = side_of_ranks([side_of(trace, structure=self._structure) for trace in traces])
        return self._known[path]

    def compare(self, pairing: Pairing, noise: NoiseFloor | None) -> TraceDiff:
        """One comparison."""
        from gemma_trace.analysis.diff import diff_sides
        from gemma_trace.store.sides import differing, settings_of, stages_alone

        sides = [[self.side(path) for path in paths] for paths in (pairing.befores, pairing.afters)]
        stored = [self.runs.stored.get(paths[0]) for paths in (pairing.befores, pairing.afters)]
        if not any(stored):
            return diff_sides(*sides, paired=pairing.is_paired, noise=noise, names=pairing.names)
        alone = [[stages_alone(side) for side in each] for each in sides]
        changed = diff_sides(*alone, paired=pairing.is_paired, noise=noise, names=pairing.names)
        known = [
            told.settings if told else settings_of(side[0].metadata) for told, side in zip(stored, sides, strict=True)
        ]
        return replace(changed, settings=tuple(differing(*known)))


def paired(before: Path, afters: Sequence[Path], runs: Runs, *, repeats: bool) -> tuple[list[Pairing], list[str]]:
    """The comparisons to be made, and which runs are left over, a line each.

    Args:
        runs: learns which files are of which run.

    Raises:
        InputError: a side has no trace, two of one name, or the sides have no run in common.
    """
    from gemma_trace.analysis.pairing import Pairing, pair_runs
    from gemma_trace.store.baselines import is_baseline

    pairings: list[Pairing] = []
    unmatched: list[str] = []
    for after in afters:
        sides, names = (runs.named_by(before), runs.named_by(after)), (str(before), str(after))
        if is_baseline(before) or is_baseline(after):
            pairings.append(Pairing(tuple(sides[0]), tuple(sides[1]), names=names))
            continue
        more, left = pair_runs(sides, names, repeats=repeats)
        pairings += more
        unmatched += left
    return pairings, unmatched


def noise_floor(folder: Path, reading: SideReader) -> NoiseFloor:
    """What the runs in a folder differ by, which are all of one configuration.

    Raises:
        InputError: there are fewer than 3.
    """
    from gemma_trace.analysis.noise import measured_floor

    sides = [reading.side(path) for path in reading.runs.named_by(folder)]
    timed = all(side.timed_ms for side in sides)
    return measured_floor([side.timed_ms if timed else side.profiled_ms for side in sides], folder.name or str(folder))


def hold(
    diffs: Sequence[TraceDiff], verdicts: Sequence[Verdict], unmatched: Sequence[str], *, lenient: bool = False
) -> None:
    """End with an error that names what is over its limit, or why that can't be known.

    Args:
        unmatched: runs of one side only, each a line; nothing can be held against them, so they are over any limit.
        lenient: what can't be known is no error.

    Raises:
        GateError: something is over its limit.
        InconclusiveError: too little is known.
    """
    names = [f"{pair.label}: " if len(diffs) > 1 else "" for pair in diffs]
    named = list(zip(names, verdicts, strict=True))
    over = [f"{name}{over_text(row)}" for name, verdict in named for row in verdict.exceeded]
    over += [f"{line}, so it can't be compared" for line in unmatched]
    if over:
        raise GateError(f"slower than allowed: {'; '.join(over)}")
    unknown = [f"{name}{text}" for name, verdict in named for text in unknown_texts(verdict)]
    if unknown and not lenient:
        advice = "compare more processes per side, e.g. with gemma-trace compare, or give --inconclusive ok"
        raise InconclusiveError(f"can't say whether anything is slower than allowed: {'; '.join(unknown)}; {advice}")
    if unknown:
        say(f"gemma-trace: nothing is known to be slower than allowed, but: {'; '.join(unknown)}")
    else:
        remark("gemma-trace: nothing is slower than allowed")


def over_text(row: Held) -> str:
    """How a row is over its limit."""
    change = row.change
    if change.before and change.after:
        if change.relative_pct is None:
            return f"{change.stage} rose from nothing to {change.after.median:.3f} ms (limit {row.limit})"
        return f"{change.stage} {change.relative_pct:+.1f}% (limit {row.limit})"
    side, kept = ("before", change.before) if change.before else ("after", change.after)
    length = f", {kept.median:.3f} ms {side}" if kept else ""
    return f"{change.stage} exists on one side only, so it can't be compared{length} (limit {row.limit})"


def unknown_texts(verdict: Verdict) -> list[str]:
    """Why a gate doesn't know, with the smallest changes that it could have seen."""
    rows = [row for row in verdict.held if row.answer == "inconclusive"]
    blind = [f"{row.change.stage} {seen_text(row)} (limit {row.limit})" for row in rows]
    said = [f"the smallest changes that could be seen are: {', '.join(blind)}"] if blind else []
    return [*verdict.reasons, *said]


def seen_text(row: Held) -> str:
    """The smallest change that could be seen in a row, as its limit is written."""
    if row.detectable_ms is None:
        return "unknown"
    if row.limit.unit == "%" and row.change.before_ms:
        return f"{100 * row.detectable_ms / row.change.before_ms:.1f}%"
    return f"{row.detectable_ms:.3g} ms"


def gate_record(verdicts: Sequence[Verdict], unmatched: Sequence[str]) -> dict[str, object]:
    """What a gate found, for JSON."""
    answers = {verdict.answer for verdict in verdicts} | ({"exceeded"} if unmatched else set())
    return {
        "answer": next(each for each in ("exceeded", "inconclusive", "ok") if each in answers),
        "reasons": [reason for verdict in verdicts for reason in verdict.reasons],
        "limits": [
            {
                "stage": row.change.stage,
                "limit": str(row.limit),
                "answer": row.answer,
                "difference_ms": row.change.difference_ms,
                "detectable_ms": row.detectable_ms,
            }
            for verdict in verdicts
            for row in verdict.held
        ],
    }


def write_text(path: Path, text: str) -> None:
    """Write a file, all of it or nothing.

    Raises:
        OutputError: it can't be written.
    """
    from gemma_trace.trace.files import output_file

    with output_file(path, "check the path") as file:
        file.write(text.encode())
