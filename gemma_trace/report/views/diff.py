"""What changed between traces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gemma_trace.analysis.diff import Change, TraceDiff
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import Health
from gemma_trace.health.merge import merged
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, NOISY_MARK, NOISY_NOTE, decimals, significant, spread
from gemma_trace.stages import PREPROCESSING_PARTS

TOO_SMALL = "n too small"

_STAGE_COLUMNS = (
    Column("stage", align="left"),
    Column("before ms", holds="measure"),
    Column("after ms", holds="measure"),
    Column("Δ ms"),
    Column("Δ %"),
    Column("95% interval of Δ ms", 1),
    Column("", align="left", holds="status"),
)
_INSIDE_COLUMNS = (
    Column("stage", align="left"),
    Column("what", align="left", overflow="ellipsis"),
    Column("before ms", 1, holds="measure"),
    Column("after ms", 1, holds="measure"),
    Column("Δ ms"),
    Column("Δ %"),
    Column("95% interval of Δ ms", 3),
    Column("calls", 2),
    Column("", align="left", holds="status"),
)
_TITLES = {"family": "Families", "op": "Ops and shapes", "kernel": "Kernels", "structure": "By structure"}


def diff_report(
    found: Sequence[TraceDiff],
    unmatched: Sequence[str],
    source: Sequence[str],
    top: int,
    *,
    full_names: bool = False,
    remarks: Sequence[str] = (),
) -> Report:
    """The comparison of one pair of traces, or of several.

    Args:
        unmatched: runs of one side only, each a line.
        top: how many rows of families, ops and kernels there are at most; 0 is all.
        remarks: what speaks against the figures, each a line.
    """
    said = [*(f"Not compared: {line}." for line in unmatched), *(f"Mind: {line}." for line in remarks)]
    sections: list[Section] = [beside(found)] if is_against_one(found) else []
    for pair in found:
        sections.append(_stage_section(pair, said if pair is found[-1] else ()))
        for level, title in _TITLES.items():
            rows = [change for change in pair.inside if change.level == level and change.status != "same"]
            if rows:
                sections.append(_inside_section(title, rows, top, full_names=full_names))
    return Report(
        command="diff",
        source=source,
        sections=tuple(sections),
        records=[_record(pair, change) for pair in found for change in (*pair.stages, *pair.inside)],
        totals={"pairs": len(found), "changed": sum(len(pair.changed) for pair in found), "unmatched": list(unmatched)}
        | ({"remarks": list(remarks)} if remarks else {}),
        health=_health(found),
    )


def is_against_one(found: Sequence[TraceDiff]) -> bool:
    """Whether several comparisons are of one baseline, so that one table can hold them all."""
    return len(found) > 1 and all(pair.befores == found[0].befores for pair in found)


def beside(found: Sequence[TraceDiff]) -> Section:
    """Several comparisons with one baseline: a row per stage, a column per run."""
    rows = [{change.stage: change for change in pair.stages} for pair in found]
    names = list(dict.fromkeys(stage for pair in rows for stage in pair))
    columns = [Column("stage", align="left"), Column(f"{found[0].names[0]} ms", holds="measure")]
    for pair in found:
        columns += [Column(f"{pair.names[1]} ms"), Column("Δ %"), Column("", align="left", holds="status")]
    cells = []
    for name in names:
        known = next(pair[name] for pair in rows if name in pair)
        line = [name, measured(known.before, known)]
        for side in rows:
            change = side.get(name)
            line += [ABSENT, ABSENT, ""] if change is None else _beside_cells(change)
        cells.append(tuple(line))
    title = f"{found[0].names[0]} → {', '.join(pair.names[1] for pair in found)}"
    return Section(title, tuple(columns), tuple(cells), notes=tuple(_method(found[0])))


def _beside_cells(change: Change) -> list[str]:
    relative = change.relative_pct if change.after else None
    return [measured(change.after, change), ABSENT if relative is None else f"{relative:+.1f}", _verdict(change)]


def _health(found: Sequence[TraceDiff]) -> Health:
    """The findings of all traces; those of a name that several have are told apart by their side."""
    sides = [
        (run, side)
        for pair in found
        for side, runs in (("before", pair.befores), ("after", pair.afters))
        for run in runs
    ]
    names = Counter(run.run for run, _ in sides)
    labels = [f"{run.run} {side}" if names[run.run] > 1 else run.run for run, side in sides]
    return merged([run.health for run, _ in sides], labels)


def _stage_section(pair: TraceDiff, said: Sequence[str]) -> Section:
    parts = {part.value for part in PREPROCESSING_PARTS}
    rows = tuple(
        (
            f"  {change.stage}" if change.stage in parts else change.stage,
            measured(change.before, change),
            measured(change.after, change),
            *difference_cells(change),
            _verdict(change),
        )
        for change in pair.stages
    )
    return Section(pair.label, _STAGE_COLUMNS, rows, notes=tuple(_notes(pair, rows, said)))


def _notes(pair: TraceDiff, rows: Sequence[Sequence[str]], said: Sequence[str]) -> list[str]:
    changed = [change for change in pair.stages if change.status != "same"]
    notes = _method(pair)
    if any(TOO_SMALL in row for row in rows):
        notes.append(f"{TOO_SMALL}: an interval requires 5 requests per side.")
    if any(NOISY_MARK in cell for row in rows for cell in row):
        notes.append(NOISY_NOTE)
    if pair.settings:
        notes.append(f"Configured differently: {'; '.join(pair.settings)}.")
    kernels = [change for change in pair.inside if change.level == "kernel"]
    if any(change.before for change in kernels) != any(change.after for change in kernels):
        notes.append("Only one side has device activities, so nothing inside the stages can be compared.")
    if not changed:
        notes.append("No stage changed.")
    if len(pair.inside) and not any(change.status != "same" for change in pair.inside):
        notes.append("No family, op or kernel changed by 0.1% of a request.")
    return [*notes, *said]


def _method(pair: TraceDiff) -> list[str]:
    """How the figures came about, and what is called a change."""
    counts = len(pair.befores), len(pair.afters)
    if pair.is_between_processes:
        how = "paired by round" if pair.is_paired else "not paired"
        return [
            f"Means of the medians of {counts[0]} and {counts[1]} processes ± their standard deviation, {how}, of "
            f"{pair.timing} requests. A change is 1% of what was before and certain at 5% for all rows together (Holm)."
        ]
    floor = f"{pair.noise.limit_pct('ttft'):.0f}%" if pair.noise.limits_pct else f"{pair.noise.default_pct:.0f}%"
    return [
        f"Medians of {pair.timing} requests ± half the interquartile range.",
        f"One process per side: run-to-run variation is not in this interval. A change is only called one where it "
        f"exceeds the noise floor ({floor}, {pair.noise.source}) and its interval leaves out 0.",
    ]


def measured(side: Distribution | None, change: Change) -> str:
    """One side of a row: its requests' median and spread, or its processes' mean and standard deviation."""
    if side is None or not change.is_between_processes:
        return spread(side)
    return f"{significant(side.mean)} ±{side.std or 0:,.{decimals(side.mean)}f}"


def _inside_section(title: str, rows: Sequence[Change], top: int, *, full_names: bool) -> Section:
    shown = rows[:top] if top else rows
    cells = tuple(
        (
            change.stage,
            change.name if full_names else folded(change.name),
            measured(change.before, change),
            measured(change.after, change),
            *difference_cells(change),
            _counts(change),
            _verdict(change),
        )
        for change in shown
    )
    left = len(rows) - len(shown)
    notes = (f"{left} more changed; --top 0 shows all.",) if left else ()
    return Section(f"{title}, by the size of the change (profiled requests)", _INSIDE_COLUMNS, cells, notes=notes)


def difference_cells(change: Change) -> tuple[str, str, str]:
    """A difference in ms, in % of what was before, and its interval."""
    relative = change.relative_pct
    if not (change.before and change.after):
        interval = ABSENT
    elif change.interval_ms is None:
        interval = TOO_SMALL
    else:
        interval = " to ".join(_signed(end) for end in change.interval_ms)
    return _signed(change.difference_ms), ABSENT if relative is None else f"{relative:+.1f}", interval


def _signed(value: float) -> str:
    return f"{value:+,.{decimals(value)}f}"


def _counts(change: Change) -> str:
    before, after = (
        ABSENT if count is None else significant(count) for count in (change.before_count, change.after_count)
    )
    return before if before == after else f"{before} → {after}"


def _verdict(change: Change) -> str:
    return "" if change.status == "same" else change.status


def _record(pair: TraceDiff, change: Change) -> dict[str, Any]:
    low, high = change.interval_ms or (None, None)
    return {
        "before_run": pair.names[0],
        "after_run": pair.names[1],
        "timing": pair.timing if change.level == "stage" else "profiled",
        "level": change.level,
        "stage": change.stage,
        "name": change.name,
        "before_ms": change.before,
        "after_ms": change.after,
        "difference_ms": change.difference_ms,
        "relative_pct": change.relative_pct,
        "interval_low_ms": low,
        "interval_high_ms": high,
        "p_value": change.p_value,
        "before_processes": change.processes[0],
        "after_processes": change.processes[1],
        "before_count": change.before_count,
        "after_count": change.after_count,
        "status": change.status,
    }
