"""A job of many ranks: its ranks, its stages over them, its collectives, and who is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_trace.errors import InputError
from gemma_trace.ranks.all_to_all import AllToAllLine
from gemma_trace.ranks.collective_lines import CollectiveLine
from gemma_trace.ranks.job import Job
from gemma_trace.ranks.stage_lines import RankStageLine
from gemma_trace.ranks.stragglers import Pattern, Straggler
from gemma_trace.ranks.waits import RankLine
from gemma_trace.report.table import Report, Table, holding
from gemma_trace.report.tables.rank_cols import (
    ALL_TO_ALL_COLS,
    COLLECTIVE_COLS,
    CORRECTED,
    GROUPS,
    RANK_COLS,
    REQUEST_COLS,
    SEVERAL_HOSTS,
    STAGE_COLS,
    STRAGGLER_COLS,
)
from gemma_trace.wording import counted

MOST_RANKS: Final = 16
"""So many ranks are shown to people, those that wait longest first and those that are waited for."""

MOST_COLLECTIVES: Final = 12
MOST_STRAGGLERS: Final = 10


@dataclass(frozen=True)
class StragglerRow:
    """A straggler with its global rank."""

    rank: int
    late: Straggler


def ranks_report(job: Job, source: Sequence[str], top: int = 0) -> Report:
    """Every table about a job.

    Args:
        top: how many rows of a table people see; 0 is all.
    """
    stragglers = [StragglerRow(job.numbers[late.rank], late) for late in job.stragglers]
    data = Table("Ranks", RANK_COLS, job.rank_lines)
    tables: list[Table[Any]] = [stage_table(job), straggler_table(job, stragglers), rank_table(job, top)]
    if job.collective_lines:
        tables.append(collective_table(job, top))
    if job.all_to_all_lines:
        tables.append(all_to_all_table(job, top))
    totals = {
        "world_size": job.members.world_size,
        "missing_ranks": list(job.members.missing),
        "requests": list(job.grid.requests),
        "collectives": len(job.calls.parts),
        "unmatched": int((~job.calls.is_matched).sum()),
        "stages": Table("Stages", STAGE_COLS, job.stage_lines),
        "collective_lines": Table("Collectives", COLLECTIVE_COLS, job.collective_lines),
        "stages_by_request": Table("Stages by request", REQUEST_COLS, job.request_lines),
        "stragglers": Table("Stragglers", STRAGGLER_COLS, stragglers),
        "all_to_all": Table("All-to-all", ALL_TO_ALL_COLS, job.all_to_all_lines),
    }
    return Report("ranks", source, tuple(tables), data, totals, job.health)


def stage_table(job: Job) -> Table[RankStageLine]:
    """The stages over the ranks."""
    walls = job.grid.wall_ns
    counts = (walls > 0).sum(axis=1)
    wall_ns = float((walls.sum(axis=1) / counts.clip(1)).mean())
    return Table(
        f"Stages of {job.label}, {_window(job)} over {counted(len(job.ranks), 'rank')}",
        STAGE_COLS,
        job.stage_lines,
        {"stage": "wall", "mean_ns": wall_ns},
        (
            "own: the time without waiting, where a rank is in a collective and computes nothing. The rank with the "
            "longest own time is the one that the others wait for.",
        ),
    )


def _window(job: Job) -> str:
    requests = job.grid.requests
    return requests[0] if len(requests) == 1 else f"mean of {len(requests)} requests"


def rank_stages_report(job: Job, source: Sequence[str], stage: str | None = None) -> Report:
    """The stages of a job over its ranks, alone.

    Args:
        stage: show this one only.

    Raises:
        InputError: the job has no such stage.
    """
    table = stage_table(job)
    if stage is not None:
        table = replace(table, rows=[row for row in job.stage_lines if row.stage == stage], totals={})
        if not table.rows:
            raise InputError(f"stage {stage!r} not found: the job has {', '.join(job.grid.stages)}")
    data = Table("Stages", STAGE_COLS, table.rows)
    totals = {
        "ranks": list(job.numbers),
        "world_size": job.members.world_size,
        "missing_ranks": list(job.members.missing),
        "requests": list(job.grid.requests),
    }
    return Report("stages", source, (table,), data, totals, job.health)


def straggler_table(job: Job, rows: Sequence[StragglerRow]) -> Table[StragglerRow]:
    """Who is late, or that nobody is."""
    repeated = sum(row.late.pattern is Pattern.REPEATED for row in rows)
    if not rows:
        return Table("Stragglers", STRAGGLER_COLS, (), notes=(_nobody_late(job),))
    notes = (
        f"{repeated} repeated, {len(rows) - repeated} random. excess: own time above the median of the other ranks. "
        f"if as the median: a lower bound; how long a request would take if nothing else then delayed it.",
    )
    table: Table[StragglerRow] = Table("Stragglers", STRAGGLER_COLS, rows, notes=notes)
    return table.cut(MOST_STRAGGLERS, "{} more rows: --format json has all.")


def _nobody_late(job: Job) -> str:
    if len(job.ranks) < 2:
        return "A single rank can't be compared with others."
    return "No rank stands out: no rank's own time exceeds that of the others by more than the usual scatter."


def rank_table(job: Job, top: int) -> Table[RankLine]:
    """The ranks; of many those that wait least and most."""
    lines = list(job.rank_lines)
    note = (
        "On every rank, latency + wait = time in collectives. The rank that waits least is the one that the "
        "others wait for."
    )
    shown = lines
    if top and len(lines) > top:
        by_wait = sorted(lines, key=lambda line: line.exposed_wait_ns)
        shown = sorted([*by_wait[: top // 2], *by_wait[len(lines) - (top - top // 2) :]], key=lambda line: line.rank)
        note = f"Shown are the {top} of {len(lines)} ranks that wait least and most; --top 0 shows all. {note}"
    conditions = {
        SEVERAL_HOSTS: len({line.host for line in lines}) > 1,
        CORRECTED: any(line.clock.is_corrected and line.clock.drift_ppm for line in lines),
    }
    return Table("Ranks", RANK_COLS, shown, notes=(note,), conditions=holding(conditions), rows_total=len(lines))


def collective_table(job: Job, top: int) -> Table[CollectiveLine]:
    """The collectives, those with the most time first."""
    conditions = {GROUPS: any(line.group for line in job.collective_lines)}
    notes = (
        "latency: the shortest duration over the ranks; wait: how much longer a rank was in the collective. "
        "Bandwidths follow nccl-tests and use the latency.",
    )
    table = Table("Collectives", COLLECTIVE_COLS, job.collective_lines, notes=notes, conditions=holding(conditions))
    return table.cut(top)


def all_to_all_table(job: Job, top: int = 0) -> Table[AllToAllLine]:
    """How unequal the all-to-alls are."""
    conditions = {GROUPS: any(line.group for line in job.all_to_all_lines)}
    table = Table("Imbalance of all-to-all", ALL_TO_ALL_COLS, job.all_to_all_lines, conditions=holding(conditions))
    return table.cut(top)
