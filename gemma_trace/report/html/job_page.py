"""A job of many ranks → one HTML file: who is late, the heat map, the timeline and the tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_trace.health.findings import Health
from gemma_trace.ranks.job import Job
from gemma_trace.report.html.definitions import JOB_DEFINITIONS
from gemma_trace.report.html.job_heat import heat_map
from gemma_trace.report.html.job_texts import straggler_rows, texts_of
from gemma_trace.report.html.job_timeline import Timeline, collective_rects
from gemma_trace.report.html.page import rendered
from gemma_trace.report.html.text import public_label
from gemma_trace.report.table import Table
from gemma_trace.report.tables.ranks import (
    all_to_all_table,
    collective_table,
    rank_table,
    stage_table,
    straggler_table,
)

MOST_COLLECTIVES: Final = 200
"""So many rows has the table of collectives, those with the most time."""

LANE_PX: Final = 22
COLLECTIVES_PX: Final = 14


@dataclass(frozen=True)
class JobPage:
    """Everything that the page of a job shows.

    Attributes:
        timeline: some ranks over time; None where none was drawn.
    """

    job: Job
    timeline: Timeline | None

    @property
    def title(self) -> str:
        """What the page is called."""
        return public_label(self.job.label)


@dataclass(frozen=True)
class JobTable:
    """A table of the page.

    Attributes:
        id: what links to it.
        sorted_by: as the macro `data_table` takes it.
    """

    id: str
    table: Table[Any]
    is_tall: bool = False
    sorted_by: str = ""


def render_job(page: JobPage) -> bytes:
    """The page as UTF-8, as safe as `render_page`'s: it loads nothing, and all texts are escaped."""
    job = page.job
    rows = straggler_rows(job)
    text = rendered(
        "job.html",
        ("job",),
        ("job",),
        page=page,
        texts=texts_of(job, rows),
        heat=heat_map(job.grid, job.numbers),
        timeline=page.timeline,
        tables=_tables(page),
        health=_public(job.health),
        definitions=JOB_DEFINITIONS,
        collective_rects=collective_rects,
        ROW_PX=LANE_PX,
        COLLECTIVES_PX=COLLECTIVES_PX,
    )
    return text.encode("utf-8", "replace")


def _public(health: Health) -> Health:
    """The findings without the names of hosts, which may be in the names of files."""
    words = ((finding, finding.message.split(" ")) for finding in health.findings)
    return replace(
        health, findings=tuple(replace(finding, message=" ".join(map(public_label, each))) for finding, each in words)
    )


def _tables(page: JobPage) -> tuple[JobTable, ...]:
    job = page.job
    tables = [
        JobTable("stages", stage_table(job)),
        JobTable("stragglers", straggler_table(job, straggler_rows(job))),
        JobTable("ranks", rank_table(job, 0), is_tall=True, sorted_by="none"),
    ]
    if job.collective_lines:
        table = collective_table(job, 0).cut(MOST_COLLECTIVES, "{} more rows: gemma-trace ranks --top 0 shows all.")
        tables.append(JobTable("collectives", table, is_tall=True, sorted_by="none"))
    if job.all_to_all_lines:
        tables.append(JobTable("imbalance", all_to_all_table(job)))
    return tuple(tables)
