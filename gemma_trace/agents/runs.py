"""The tools that are about whole runs: which there are, whether one can be trusted, and what two differ by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, overload

from gemma_trace.agents.answers import Found, by_columns
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import Check, Diff, Summarize
from gemma_trace.errors import InputError
from gemma_trace.ranks.identity import folder_of_job
from gemma_trace.remote import RemotePath
from gemma_trace.report.number_text import NOISY_NOTE
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import TEXT, WORDS

if TYPE_CHECKING:
    from gemma_trace.analysis.changes import Change, TraceDiff
    from gemma_trace.analysis.sides import Side
    from gemma_trace.analysis.statistics import Distribution
    from gemma_trace.analysis.summary import RunSummary
    from gemma_trace.ranks.folders import Runs

MOST_COMPARED: Final = 64
"""So many traces a side of a comparison may have."""

_MEDIANS: Final = (
    "Medians ± half the interquartile range; timing says whether the profiler was running. wall_ms: the mean over "
    "the profiled requests, from beginning to end."
)


@dataclass(frozen=True)
class RunRow:
    """A run, or why it can't be read.

    Attributes:
        path: as an agent may give it again; of a job the folder of its ranks.
        stage_ms: the time of the stage that was asked for.
        wall_ms: of its profiled requests, the mean; of a job that of its first rank.
    """

    path: str
    run: RunSummary | None
    problem: str = ""
    stage_ms: Distribution | None = None
    wall_ms: float | None = None

    @property
    def health(self) -> str:
        """Whether its figures stand."""
        return self.run.health.verdict if self.run else f"unreadable: {self.problem}"


class RunRows(Sequence[RunRow]):
    """The runs of some jobs, each read when it is asked for.

    Args:
        jobs: the files of each.
        stage: whose time is wanted; "" is none.
    """

    def __init__(self, desk: Desk, jobs: Sequence[Sequence[Path]], stage: str) -> None:
        self._desk, self._jobs, self._stage = desk, jobs, stage
        self._below = Counter(folder for job in jobs for file in job for folder in _folders_of(file))
        self._known: dict[int, RunRow] = {}

    def __len__(self) -> int:
        return len(self._jobs)

    @overload
    def __getitem__(self, place: int) -> RunRow: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[RunRow]: ...
    def __getitem__(self, place: int | slice) -> RunRow | Sequence[RunRow]:
        if isinstance(place, slice):
            return [self[each] for each in range(len(self))[place]]
        if place not in self._known:
            self._known[place] = self._row(self._jobs[place])
        return self._known[place]

    def _row(self, job: Sequence[Path]) -> RunRow:
        from gemma_trace.analysis.ranks_as_one import run_of_ranks
        from gemma_trace.analysis.summary import summarize

        path = self._path_of(job)
        ranks: list[RunSummary] = []
        walls_ns: list[int] = []
        try:
            for file in job:
                trace = self._desk.read(file)
                ranks.append(summarize(trace))
                walls_ns = walls_ns or [request.wall_ns for request in trace.requests]
        except InputError as error:
            return RunRow(path, None, self._desk.roots.without_folders(str(error)))
        run = run_of_ranks(ranks)
        stage_ms = run.stage_ms(self._stage) if self._stage else None
        return RunRow(path, run, "", stage_ms, fmean(walls_ns) / 1e6 if walls_ns else None)

    def _path_of(self, job: Sequence[Path]) -> str:
        """The shortest path that names the run: a folder that has it alone, else its file."""
        folder = folder_of_job(job[0]) if len(job) > 1 else job[0].parent
        roots = self._desk.roots
        is_alone = self._below[folder] == len(job) and roots.holds(folder) and roots.shown(folder) != "."
        return roots.shown(folder if is_alone else job[0])


def _folders_of(file: Path) -> Sequence[Path]:
    return [file.parent] if isinstance(file, RemotePath) else file.parents


def summarize_tool(desk: Desk, asked: Summarize) -> Found:
    """TTFT and its parts, a row per run."""
    from gemma_trace.ranks.folders import jobs_among
    from gemma_trace.report.tables import summary

    jobs = jobs_among(desk.files(asked.path))
    measures = summary.MEASURE_FILE
    if asked.stage:
        measures = (summary.STAGE_MS.of("stage_ms"), replace(summary.TTFT, value=measures[0].value).within("run"))
    else:
        measures = tuple(replace(_seen(col), value=col.value).within("run") for col in measures)
    cols = (
        Col("path", unit=WORDS),
        summary.RUN.within("run"),
        Col("wall_ms"),
        Col("timing", value="run.timing"),
        *measures,
        summary.INFLATION.within("run"),
        summary.RUNS.at(2).within("run"),
        *(Col(key, unit=TEXT, value=f"run.{key}", priority=9) for key in ("model", "dtype", "device", "device_name")),
        Col("health", unit=WORDS),
    )
    return Found(
        [asked.path],
        Table("Runs", cols, RunRows(desk, jobs, asked.stage)),
        by_columns("path"),
        {"runs": len(jobs)},
        notes=(_MEDIANS, NOISY_NOTE),
    )


def _seen(col: Col) -> Col:
    """The column as people see it, which has a priority; those that they don't see go first."""
    from gemma_trace.report.tables.summary import PAGE_MEASURES

    return next((seen for seen in PAGE_MEASURES if seen.key == col.key), col.at(11))


def check_tool(desk: Desk, asked: Check) -> Found:
    """What is wrong with a trace."""
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.health.secrets import without_secrets
    from gemma_trace.report.tables.check import FINDING_COLS

    trace = desk.trace(asked.path)
    health, _ = without_secrets(summarize(trace).health, trace.path)
    said = [replace(each, message=desk.roots.without_folders(each.message)) for each in health.findings]
    return Found(
        [asked.path],
        Table("Findings", FINDING_COLS, said),
        by_columns("code"),
        {"verdict": health.verdict, "spans": len(trace.spans), "requests": len(trace.requests)},
        notes=() if said else ("No problems were found.",),
    )


@dataclass(frozen=True)
class ChangeRow:
    """A row of a comparison of several."""

    pair: TraceDiff
    change: Change


def diff_tool(desk: Desk, asked: Diff) -> Found:
    """What changed between two traces, or two folders of them."""
    from gemma_trace.analysis.pairing import pair_runs
    from gemma_trace.health.merge import merged, told_apart
    from gemma_trace.ranks.folders import Runs
    from gemma_trace.report.tables import diff

    runs = Runs()
    sides = (_side_of(desk, asked.before, runs), _side_of(desk, asked.after, runs))
    pairings, unmatched = pair_runs(sides, (asked.before, asked.after), repeats=asked.repeats)
    pairs = [_compared(desk, runs, pairing) for pairing in pairings]
    shown = [pair.of_stage(asked.stage) for pair in pairs] if asked.stage else pairs
    lost = [f"Mind: {line}." for pairing in pairings for line in pairing.lost]
    said = [*(f"Not compared: {line}." for line in unmatched), *lost]
    if asked.part == "stages":
        level_cols: tuple[Col, ...] = diff.STAGE_COLS
        rows = [ChangeRow(pair, change) for pair in shown for change in pair.stages]
    else:
        level_cols = (diff.LEVEL, *diff.INSIDE_COLS)
        rows = [ChangeRow(pair, change) for pair in shown for change in pair.inside if change.status != "same"]
    between = tuple(col.within("pair") for col in _PAIR) if len(pairs) > 1 else ()
    read = [run for pair in pairs for run in (*pair.befores, *pair.afters)]
    health = merged([run.health for run in read], told_apart([run.run for run in read], [run.source for run in read]))
    return Found(
        [asked.before, asked.after],
        Table("Changes", (*between, *(col.within("change") for col in level_cols)), rows),
        by_columns("before_run", "after_run", "level", "stage", "name"),
        {"comparisons": len(pairs), "changed": sum(len(pair.changed) for pair in shown)},
        health,
        [*said, *diff.stage_notes(pairs[-1])],
    )


def _name_of(side: int, pair: TraceDiff) -> str:
    return pair.names[side]


def _before_name(pair: TraceDiff) -> str:
    return _name_of(0, pair)


def _after_name(pair: TraceDiff) -> str:
    return _name_of(1, pair)


_PAIR: Final = (Col("before_run", value=_before_name), Col("after_run", value=_after_name))


def _side_of(desk: Desk, given: str, runs: Runs) -> list[Path]:
    """The runs of a side."""
    files = desk.files(given)
    if len(files) > MOST_COMPARED:
        raise InputError(
            f"that folder has {len(files)} traces, and a side has {MOST_COMPARED} at most; give a folder of fewer, "
            "or run gemma-trace diff"
        )
    return runs.named_by(desk.roots.path(given))


def _compared(desk: Desk, runs: Runs, pairing: Any) -> TraceDiff:
    from gemma_trace.analysis.diff import diff_sides
    from gemma_trace.analysis.ranks_as_one import side_of_ranks
    from gemma_trace.analysis.sides import side_of

    def side(run: Path) -> Side:
        return side_of_ranks([side_of(desk.read(file)) for file in runs.files_of(run)])

    befores, afters = (list(map(side, paths)) for paths in (pairing.befores, pairing.afters))
    return diff_sides(befores, afters, paired=pairing.is_paired, names=pairing.names)
