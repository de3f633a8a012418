"""What the page of a job says in sentences and figures: who is late, what it costs, and how much is waiting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.health.findings import Severity
from gemma_trace.ranks.job import Job
from gemma_trace.ranks.stragglers import Pattern, Straggler
from gemma_trace.report.html.sections import Tile
from gemma_trace.report.html.text import counted
from gemma_trace.report.number_text import milliseconds, percent
from gemma_trace.report.tables.ranks import StragglerRow, straggler_table

MOST_NAMED: Final = 5
"""So many stragglers are told of in sentences; the table has more."""


@dataclass(frozen=True)
class Late:
    """A straggler in a sentence.

    Attributes:
        excess: over the median of the other ranks, in ms.
    """

    excess: str
    stage: str
    said: str


@dataclass(frozen=True)
class JobTexts:
    """The sentences about a job.

    Attributes:
        ranks: how many there are.
        of: how many there should be; "" where all are there.
        source: what the page is of.
        late: the stragglers.
        nobody: why none is named; "" where one is.
        more: how many stragglers have no sentence; "" where all have one.
        tiles: figures.
    """

    ranks: str
    of: str
    source: str
    late: tuple[Late, ...]
    nobody: str
    more: str
    tiles: tuple[Tile, ...]


def straggler_rows(job: Job) -> list[StragglerRow]:
    """The stragglers with their global ranks."""
    return [StragglerRow(job.numbers[late.rank], late) for late in job.stragglers]


def texts_of(job: Job, rows: Sequence[StragglerRow]) -> JobTexts:
    """The sentences about a job."""
    world = job.members.world_size
    left = len(rows) - MOST_NAMED
    return JobTexts(
        ranks=f"{len(job.ranks):,}",
        of=f"of {world:,}" if world > len(job.ranks) else "",
        source=f"{counted(len(job.grid.requests), 'request')}, under the profiler",
        late=tuple(Late(milliseconds(row.late.excess_ns), row.late.stage, _said(row)) for row in rows[:MOST_NAMED]),
        nobody="" if rows else straggler_table(job, rows).notes[0],
        more=f"{left:,} more in the table of stragglers." if left > 0 else "",
        tiles=tuple(_tiles(job)),
    )


def _said(row: StragglerRow) -> str:
    late = row.late
    often = "again and again" if late.pattern is Pattern.REPEATED else "now and then"
    text = f"Rank {row.rank} is late {often}: {late.cause.value} in {late.requests:,} of {_requests(late)}"
    if late.pattern is Pattern.RANDOM:
        text += f", first in {late.first_request}"
    if late.gain_ns <= 0:
        return f"{text}. Another rank is as slow, so this rank alone costs nothing."
    ceiling, wall = milliseconds(late.ceiling_ns), milliseconds(late.wall_ns)
    return (
        f"{text}. If it were as fast as the median of the others, a request would take {ceiling} ms at best "
        f"instead of {wall} ms."
    )


def _requests(late: Straggler) -> str:
    return counted(late.of_requests, "request")


def _tiles(job: Job) -> Iterator[Tile]:
    walls = job.grid.wall_ns.max(axis=0)
    if len(walls):
        note = "median, on the rank where it is longest"
        yield Tile("request", milliseconds(float(np.median(walls))), "ms", note)
    lines = job.rank_lines
    wall_ns = sum(line.wall_ns for line in lines)
    exposed, waited = sum(line.exposed_ns for line in lines), sum(line.exposed_wait_ns for line in lines)
    if len(job.calls):
        yield Tile("collectives", f"{len(job.calls.parts):,}", "", "matched over the ranks")
        yield Tile("exposed communication", percent(exposed, wall_ns), "%", "of all ranks' time")
        yield Tile("waiting for other ranks", percent(waited, wall_ns), "%", "of all ranks' time")
    findings = job.health.findings
    worse = sum(finding.severity is not Severity.INFO for finding in findings)
    yield Tile(
        "findings", f"{len(findings):,}", "", f"{worse:,} of them warnings or errors" if findings else "nothing wrong"
    )
