"""`gemma-trace diff`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, NoCacheOption, OutputOption, RawOption, say
from gemma_trace.cli.rules import RulesFileOption, RulesOption
from gemma_trace.errors import GateError, InputError

if TYPE_CHECKING:
    from gemma_trace.analysis.diff import Change, TraceDiff
    from gemma_trace.analysis.gate import Gate


def diff(
    before: Annotated[Path, typer.Argument(help="A trace, or a folder of traces.", metavar="BEFORE")],
    after: Annotated[Path, typer.Argument(help="Another; runs of two folders are matched by name.", metavar="AFTER")],
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="LIMIT",
            help="Exit with code 3 if something is slower than this: 5% for TTFT and each stage; ttft:5%,prefill:10%.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many families, ops and kernels; 0 is all.")] = 10,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Kernel names as recorded, template arguments and all.")
    ] = False,
    stage: RulesOption = None,
    stages_file: RulesFileOption = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show what changed from one trace to another, stage by stage and inside of the stages.

    A difference counts where it is 1% and a bootstrap interval of the median leaves out 0; under 5 requests a side
    there is no interval, and the table says so.

    Example: gemma-trace diff main/ branch/ --fail-on 5% --format markdown
    """
    from gemma_trace.analysis.diff import diff as compare
    from gemma_trace.analysis.gate import parse_gate
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.views.diff import diff_report

    gate = None if fail_on is None else parse_gate(fail_on)
    rules = read_rules(stage, stages_file)
    pairs, unmatched = match_runs(before, after)
    found = [
        compare(open_trace(one, rules, cached=not no_cache), open_trace(other, rules, cached=not no_cache))
        for one, other in pairs
    ]
    report = diff_report(found, unmatched, [str(before), str(after)], top, full_names=full_names)
    emit(report, form, output, force=force, raw=raw)
    if gate:
        hold(gate, found, unmatched)


def match_runs(before: Path, after: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """The traces of two sides in pairs, and what is left over on either, a line each.

    Two single traces are a pair whatever they are called; of folders, runs of one name are.

    Raises:
        InputError: a side has no trace, two of one name, or the sides have no run in common.
    """
    from gemma_trace.cli.inputs import find_traces

    sides = [find_traces([path]) for path in (before, after)]
    if len(sides[0]) == len(sides[1]) == 1:
        return [(sides[0][0], sides[1][0])], []
    first, second = (_by_name(paths) for paths in sides)
    pairs = [(first[name], second[name]) for name in first if name in second]
    if not pairs:
        raise InputError(
            f"{before} and {after} have no run in common: {', '.join(first)}; {', '.join(second)}. "
            "Give two trace files, or capture both sides with the same --name"
        )
    left = [f"{name}, only in {before}" for name in first if name not in second]
    return pairs, left + [f"{name}, only in {after}" for name in second if name not in first]


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    from gemma_trace.trace.trace import label_of, load_metadata

    named: dict[str, Path] = {}
    for path in paths:
        name = label_of(path, load_metadata(path))
        if name in named:
            raise InputError(f"{path} and {named[name]} are both of run {name!r}; give one of them")
        named[name] = path
    return named


def _said(change: Change) -> str:
    """How a row is over its limit."""
    if change.before and change.after:
        if change.relative_pct is None:
            return f"{change.stage} rose from nothing to {change.after.median:.3f} ms"
        return f"{change.stage} {change.relative_pct:+.1f}%"
    side, found = ("before", change.before) if change.before else ("after", change.after)
    length = f", {found.median:.3f} ms {side}" if found else ""
    return f"{change.stage} exists on one side only, so it can't be compared{length}"


def hold(gate: Gate, found: Sequence[TraceDiff], unmatched: Sequence[str] = ()) -> None:
    """End with an error that names what is over its limit.

    Args:
        unmatched: runs of one side only, each a line; nothing can be held against them, so they are over any limit.

    Raises:
        GateError: something is.
        InputError: a limit is on what isn't there.
    """
    over = [
        (f"{pair.after.run}: " if len(found) > 1 else "") + f"{_said(change)} (limit {limit:g}%)"
        for pair in found
        for change, limit in gate.exceeded(pair)
    ]
    over += [f"{line}, so it can't be compared" for line in unmatched]
    if over:
        raise GateError(f"slower than allowed: {'; '.join(over)}")
    say("gemma-trace: nothing is slower than allowed")
