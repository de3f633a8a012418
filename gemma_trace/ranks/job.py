"""A job of many processes: its ranks' traces on one clock, and what they say together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from gemma_trace.errors import InputError
from gemma_trace.health.findings import Health
from gemma_trace.ranks.all_to_all import AllToAllLine, all_to_all_lines
from gemma_trace.ranks.calls import Calls, calls_of
from gemma_trace.ranks.clocks import Clock, clocks_of
from gemma_trace.ranks.collective_lines import CollectiveLine, collective_lines
from gemma_trace.ranks.findings import job_health
from gemma_trace.ranks.grid import Grid, grid_of, labels_of
from gemma_trace.ranks.membership import Members, members_of
from gemma_trace.ranks.reading import MapFiles, read_files
from gemma_trace.ranks.request_lines import RequestStageLine, request_stage_lines
from gemma_trace.ranks.stage_lines import RankStageLine, rank_stage_lines
from gemma_trace.ranks.stragglers import Straggler, stragglers_of
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.ranks.waits import RankLine, Waits, rank_lines, waits_of
from gemma_trace.stages import StageRule
from gemma_trace.tabular import Tabular, fields_of
from gemma_trace.trace.requests import place_of
from gemma_trace.wording import counted


@dataclass(frozen=True, repr=False)
class Job(Tabular):
    """The ranks of a job. Everything is derived on first use and kept.

    Attributes:
        members: the ranks, and what is amiss with their files.
        only: the label of the one request that stages and stragglers are of; "" is all.
    """

    members: Members
    only: str = ""

    @property
    def ranks(self) -> tuple[RankSummary, ...]:
        """One summary per rank, by rank."""
        return self.members.ranks

    @property
    def numbers(self) -> tuple[int, ...]:
        """The global rank of each summary."""
        return tuple(rank.rank for rank in self.ranks)

    @property
    def label(self) -> str:
        """What the job is called: as our own capture calls all its ranks, or by how many ranks there are."""
        labels = dict.fromkeys(rank.label for rank in self.ranks)
        return next(iter(labels)) if len(labels) == 1 else f"{len(self.ranks):,} ranks"

    @cached_property
    def calls(self) -> Calls:
        """Every rank's part in every collective, matched."""
        return calls_of(self.ranks)

    @cached_property
    def clocks(self) -> tuple[Clock, ...]:
        """The clock of each rank."""
        return tuple(clocks_of(self.calls, [rank.device for rank in self.ranks]))

    @cached_property
    def waits(self) -> Waits:
        """The part of each collective that is waiting."""
        return waits_of(self.calls, self.ranks, self.clocks)

    @cached_property
    def rank_lines(self) -> tuple[RankLine, ...]:
        """One line per rank."""
        return rank_lines(self.calls, self.waits, self.ranks, self.clocks)

    @cached_property
    def collective_lines(self) -> tuple[CollectiveLine, ...]:
        """One line per kind, group, type and size."""
        return tuple(collective_lines(self.calls, self.waits, self.numbers))

    @cached_property
    def all_to_all_lines(self) -> tuple[AllToAllLine, ...]:
        """One line per group with all-to-alls."""
        return tuple(all_to_all_lines(self.calls, self.ranks))

    @cached_property
    def grid(self) -> Grid:
        """What each stage took on each rank in each request."""
        grid = grid_of(self.calls, self.waits, self.ranks)
        return grid.of_request(self.only) if self.only else grid

    def of_request(self, index: int) -> Job:
        """The job, its stages and stragglers those of one request alone.

        Raises:
            InputError: there is no request of this index.
        """
        labels = labels_of(self.ranks)
        return replace(self, only=labels[place_of(index, len(labels), "the job")])

    @cached_property
    def stage_lines(self) -> tuple[RankStageLine, ...]:
        """One line per stage, over the ranks."""
        return tuple(rank_stage_lines(self.grid, self.numbers))

    @cached_property
    def request_lines(self) -> tuple[RequestStageLine, ...]:
        """One line per request and stage, over the ranks."""
        return tuple(request_stage_lines(self.grid, self.numbers))

    @cached_property
    def stragglers(self) -> tuple[Straggler, ...]:
        """The ranks that the others wait for."""
        return tuple(stragglers_of(self.grid))

    @cached_property
    def health(self) -> Health:
        """What is wrong with the job's files, its clocks and its collectives, and with the traces themselves."""
        return job_health(self.members, self.calls, self.clocks)

    def offsets_ns(self) -> dict[int, int]:
        """By rank, what is to be taken off its times for the common clock, at the middle of its trace."""
        return {
            rank.rank: clock.offset_ns if clock.is_corrected else 0
            for rank, clock in zip(self.ranks, self.clocks, strict=True)
        }

    def headline(self) -> str:
        """What the result is, in a line."""
        world = self.members.world_size
        late = len(self.stragglers)
        of = f" of {world}" if world > len(self.ranks) else ""
        return (
            f"{counted(len(self.ranks), 'rank')}{of}, {counted(len(self.calls.parts), 'collective')}, "
            f"{counted(late, 'straggler')}"
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per rank."""
        for line in self.rank_lines:
            row = dict(fields_of(line))
            clock = row.pop("clock")
            yield row | {"clock_offset_ns": clock.offset_ns if clock.is_corrected else 0}


def load_job(paths: Sequence[Path], rules: Sequence[StageRule], map_files: MapFiles) -> Job:
    """Read the traces of a job's ranks.

    Args:
        paths: trace files.
        rules: which spans are ranges of which stage; see `load`.
        map_files: how a function is applied to each of them.

    Raises:
        InputError: no trace can be read, or they are of several jobs that no rule tells apart.
    """
    members = members_of(read_files(paths, rules, map_files))
    if not members.ranks:
        raise InputError(members.why_none)
    return Job(members)
