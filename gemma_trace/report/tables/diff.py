"""What changed between traces: stages, and families, ops and kernels inside of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from gemma_trace.analysis.changes import Change, TraceDiff
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import Health
from gemma_trace.health.merge import merged
from gemma_trace.report.number_text import NO_FIGURE, decimals, significant, spread
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, DELTA_MS, DELTA_PCT, FIGURES, MEASURE_MS, NAME, STAGE, STATUS, TEXT, signed

TOO_SMALL: Final = "n too small"
MOST_ROWS: Final = 10
"""The families, ops and kernels that people see, unless they say how many."""

LEVELS: Final = {"family": "Families", "op": "Ops and shapes", "kernel": "Kernels", "structure": "By structure"}
"""What is compared inside of stages, in words."""


@dataclass(frozen=True)
class Compared:
    """A row of one comparison among several."""

    pair: TraceDiff
    change: Change

    @property
    def timing(self) -> str:
        """What its values are of: inside of stages always the profiled requests."""
        return self.pair.timing if self.change.level == "stage" else "profiled"

    @property
    def interval_ms(self) -> tuple[float | None, float | None]:
        """The ends of the interval of its difference."""
        return self.change.interval_ms or (None, None)


@dataclass(frozen=True)
class Measured:
    """One side of a row: its requests' median and spread, or its processes' mean and standard deviation."""

    side: Distribution
    is_between_processes: bool

    def __str__(self) -> str:
        if not self.is_between_processes:
            return spread(self.side)
        return f"{significant(self.side.mean)} ±{self.side.std or 0:,.{decimals(self.side.mean)}f}"

    @property
    def median(self) -> float:
        """The value that the page sorts by."""
        return self.side.median


def measured(side: Distribution | None, change: Change) -> Measured | None:
    """One side of a row; None where that side has no such row."""
    return None if side is None else Measured(side, change.is_between_processes)


def _before(change: Change) -> Measured | None:
    return measured(change.before, change)


def _after(change: Change) -> Measured | None:
    return measured(change.after, change)


def _run(side: int, row: Compared) -> str:
    return row.pair.names[side]


def _end(side: int, row: Compared) -> float | None:
    return row.interval_ms[side]


def _processes(side: int, row: Compared) -> int:
    return row.change.processes[side]


def _interval(change: Change) -> tuple[float, float] | str | None:
    """The interval of the difference, or why there is none."""
    if not (change.before and change.after):
        return None
    return change.interval_ms or TOO_SMALL


def interval_text(interval: tuple[float, float] | str) -> str:
    """An interval of a difference, or why there is none."""
    return interval if isinstance(interval, str) else " to ".join(signed(end) for end in interval)


def _counts(change: Change) -> str:
    before, after = (
        NO_FIGURE if count is None else significant(count) for count in (change.before_count, change.after_count)
    )
    return before if before == after else f"{before} → {after}"


def _status(change: Change) -> str | None:
    return None if change.status == "same" else change.status


RUNS: Final = (
    Col("before_run", definition="the name of the side before", value=partial(_run, 0)),
    Col("after_run", definition="the name of the side after", value=partial(_run, 1)),
)
TIMING: Final = Col("timing", definition="`timed`: requests without the profiler; `profiled`: those under it")
LEVEL: Final = Col("level", definition="`stage`, `family`, `op` (with its shapes), `kernel` or `structure`")
STAGE_NAME: Final = Col(
    "stage",
    "stage",
    STAGE,
    definition=(
        "the stage; `ttft`, `tpot` and, without a first token, `wall` are measures beside the stages; `preprocessing` "
        "is the whole processor call"
    ),
)
WHAT: Final = Col("name", "what", NAME, definition="what is compared inside of the stage; empty for a stage")
BEFORE: Final = Col(
    "before_ms",
    "before",
    MEASURE_MS,
    definition=(
        "Distribution over the requests; of several processes a value per process, the median of its requests; of "
        "`structure` the mean per request"
    ),
    value="before",
)
AFTER: Final = Col("after_ms", "after", MEASURE_MS, definition="the same of the other side", value="after")
DIFFERENCE: Final = Col(
    "difference_ms",
    "Δ",
    DELTA_MS,
    definition="median after less median before, of several processes the means of their medians",
)
RELATIVE: Final = Col("relative_pct", "Δ", DELTA_PCT, definition="the same over what was before")
LOW: Final = Col(
    "interval_low_ms",
    definition=(
        "95% interval of that difference, its lower end. Of several processes per side: ± Student's t · standard "
        "error, from a bootstrap on two levels (1,000 resamples of the processes, and of their requests in "
        "blocks; Davison & Hinkley 1997, 3.8), with k − 1 degrees of freedom for k paired rounds, else Welch's and "
        "Satterthwaite's. Of one process per side: the percentile bootstrap of its requests in blocks, from n = 5 a "
        "side; run-to-run variation is not included"
    ),
    value=partial(_end, 0),
)
HIGH: Final = Col("interval_high_ms", definition="its upper end", value=partial(_end, 1))
P_VALUE: Final = Col(
    "p_value",
    definition=(
        "of no difference, two-sided, adjusted over the rows of its level (Holm 1979); none where a side is one process"
    ),
)
PROCESSES: Final = (
    Col("before_processes", definition="how many processes the side before is", value=partial(_processes, 0)),
    Col("after_processes", definition="how many processes the side after is", value=partial(_processes, 1)),
)
COUNTS: Final = (
    Col("before_count", definition="calls or activities per request before"),
    Col("after_count", definition="calls or activities per request after"),
)
CHANGED: Final = Col(
    "status",
    unit=STATUS,
    definition=(
        "`slower`, `faster`: the difference is 1% of what was before and certain. Of several processes certain is "
        "`p_value` < 0.05; of one process per side, that the difference exceeds the noise floor (50%, or what "
        "`--noise` shows; and 0.1% of a request) and its interval, if there is one, does not include 0. Inside of "
        "stages it "
        "is also 0.1% of a request. `new`, `vanished`: on one side only. Else `same`"
    ),
)

DIFF_FILE: Final = (
    *RUNS,
    TIMING,
    *(col.within("change") for col in (LEVEL, STAGE_NAME, WHAT, BEFORE, AFTER, DIFFERENCE, RELATIVE)),
    *(LOW, HIGH, P_VALUE.within("change"), *PROCESSES),
    *(col.within("change") for col in (*COUNTS, CHANGED)),
)
"""A row per stage, family, op and kernel of each comparison."""

INTERVAL: Final = Col("interval_ms", "95% interval of Δ", replace(FIGURES, suffix="ms"), interval_text, value=_interval)
SIDES: Final = (BEFORE.of(_before, str), AFTER.of(_after, str))
STATUS_COL: Final = CHANGED.of(_status)

STAGE_COLS: Final = (STAGE_NAME, *SIDES, DIFFERENCE, RELATIVE, INTERVAL.at(1), STATUS_COL)
"""The stages of a comparison."""

INSIDE_COLS: Final = (
    replace(STAGE_NAME, unit=TEXT),
    WHAT,
    *(col.at(1) for col in SIDES),
    *(DIFFERENCE, RELATIVE, INTERVAL.at(3)),
    Col("counts", "calls", COUNT, str, priority=2, value=_counts),
    STATUS_COL,
)
"""Families, ops or kernels of a comparison."""


def diff_report(
    diffs: Sequence[TraceDiff],
    unmatched: Sequence[str],
    source: Sequence[str],
    top: int | None = None,
    *,
    full_names: bool = False,
    remarks: Sequence[str] = (),
) -> Report:
    """The comparison of one pair of traces, or of several.

    Args:
        unmatched: runs of one side only, each a line.
        top: how many rows of families, ops and kernels there are at most, 0 is all; None is `MOST_ROWS` for people,
            and all for files.
        remarks: what speaks against the figures, each a line.
    """
    said = [*(f"Not compared: {line}." for line in unmatched), *(f"Mind: {line}." for line in remarks)]
    tables: list[Table[Any]] = [beside(diffs)] if is_against_one(diffs) else []
    for pair in diffs:
        tables.append(stages_table(pair, said if pair is diffs[-1] else ()))
        tables += inside_tables(pair, MOST_ROWS if top is None else top, full_names=full_names)
    every = [Compared(pair, change) for pair in diffs for change in (*pair.stages, *pair.inside)]
    shown = list(_first_of_each(every, top)) if top else every
    return Report(
        command="diff",
        source=source,
        tables=tuple(tables),
        data=Table("Changes", DIFF_FILE, shown, rows_total=len(every)),
        totals={"pairs": len(diffs), "changed": sum(len(pair.changed) for pair in diffs), "unmatched": list(unmatched)}
        | ({"remarks": list(remarks)} if remarks else {}),
        health=_health(diffs),
    )


def _first_of_each(rows: Iterable[Compared], top: int) -> Iterable[Compared]:
    """All stages, and the first rows of each level inside of them."""
    seen: Counter[tuple[int, str]] = Counter()
    for row in rows:
        kind = (id(row.pair), row.change.level)
        seen[kind] += 1
        if row.change.level == "stage" or seen[kind] <= top:
            yield row


def is_against_one(diffs: Sequence[TraceDiff]) -> bool:
    """Whether several comparisons are of one baseline, so that one table can hold them all."""
    return len(diffs) > 1 and all(pair.befores == diffs[0].befores for pair in diffs)


def _of_pair(place: int, col: Col, row: Mapping[int, Change]) -> Any:
    return col.raw(row[place]) if place in row else None


def _relative(change: Change) -> float | None:
    return change.relative_pct if change.after else None


def _any(col: Col, row: Mapping[int, Change]) -> Any:
    return col.raw(next(iter(row.values())))


def beside(diffs: Sequence[TraceDiff]) -> Table[Mapping[int, Change]]:
    """Several comparisons with one baseline: a row per stage, columns for each run.

    Each row has a stage's changes by the place of their comparison.
    """
    rows: dict[str, dict[int, Change]] = {}
    for place, pair in enumerate(diffs):
        for change in pair.stages:
            rows.setdefault(change.stage, {})[place] = change
    before, after = SIDES
    cols = [
        replace(STAGE_NAME, value=partial(_any, STAGE_NAME), unit=TEXT),
        replace(before, header=diffs[0].names[0], value=partial(_any, before)),
    ]
    for place, pair in enumerate(diffs):
        for col, header in ((after, pair.names[1]), (RELATIVE.of(_relative), RELATIVE.header), (STATUS_COL, "")):
            cols.append(replace(col, key=f"{col.key} {place}", header=header, value=partial(_of_pair, place, col)))
    title = f"{diffs[0].names[0]} → {', '.join(pair.names[1] for pair in diffs)}"
    return Table(title, tuple(cols), list(rows.values()), notes=tuple(_method(diffs[0])))


def _health(diffs: Sequence[TraceDiff]) -> Health:
    """The findings of all traces; those of a name that several have are told apart by their side."""
    sides = [
        (run, side)
        for pair in diffs
        for side, runs in (("before", pair.befores), ("after", pair.afters))
        for run in runs
    ]
    names = Counter(run.run for run, _ in sides)
    labels = [f"{run.run} {side}" if names[run.run] > 1 else run.run for run, side in sides]
    return merged([run.health for run, _ in sides], labels)


def stages_table(pair: TraceDiff, said: Sequence[str] = ()) -> Table[Change]:
    """The stages of a comparison.

    Args:
        said: more lines for under the table.
    """
    return Table(pair.label, STAGE_COLS, pair.stages, notes=tuple(stage_notes(pair, said)))


def stage_notes(pair: TraceDiff, said: Sequence[str] = ()) -> list[str]:
    """How the figures came about, and what they don't say."""
    notes = _method(pair)
    if any(_interval(change) == TOO_SMALL for change in pair.stages):
        notes.append(f"{TOO_SMALL}: an interval requires 5 requests per side.")
    if pair.settings:
        notes.append(f"Configured differently: {'; '.join(pair.settings)}.")
    kernels = [change for change in pair.inside if change.level == "kernel"]
    if any(change.before for change in kernels) != any(change.after for change in kernels):
        notes.append("Only one side has device activities, so nothing inside the stages can be compared.")
    if all(change.status == "same" for change in pair.stages):
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
            f"{pair.timing} requests. A row counts as changed if it differs by 1% or more and the difference is "
            f"significant at 5% over all rows (Holm)."
        ]
    floor = f"{pair.noise.limit_pct('ttft'):.0f}%" if pair.noise.limits_pct else f"{pair.noise.default_pct:.0f}%"
    return [
        f"Medians of {pair.timing} requests ± half the interquartile range.",
        f"One process per side: this interval does not include run-to-run variation. A difference counts as a "
        f"change only if it exceeds the noise floor ({floor}, {pair.noise.source}) and its interval does not "
        f"include 0.",
    ]


def inside_tables(pair: TraceDiff, top: int, *, full_names: bool = False) -> list[Table[Change]]:
    """What changed inside of the stages: a table per level that has a change.

    Args:
        top: how many rows each has at most; 0 is all.
    """
    cols = tuple(replace(col, show=str) if full_names and col.key == WHAT.key else col for col in INSIDE_COLS)
    tables = []
    for level, title in LEVELS.items():
        rows = [change for change in pair.inside if change.level == level and change.status != "same"]
        if rows:
            table = Table(f"{title}, by the size of the change (profiled requests)", cols, rows)
            tables.append(table.cut(top, "{} more rows changed; --top 0 shows all."))
    return tables
