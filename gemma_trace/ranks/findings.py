"""What is wrong with a job's files, its clocks and its collectives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gemma_trace.health.findings import NOTHING_TO_DO, Finding, Health, Severity, listed
from gemma_trace.health.merge import merged
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.clocks import Clock
from gemma_trace.ranks.membership import Members
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.wording import counted

ODD_SPREAD: Final = 0.05
"""Ranks that leave their collectives at times that scatter by this share of a request aren't of one run."""


def job_health(members: Members, calls: Calls, clocks: Sequence[Clock]) -> Health:
    """All findings: those of the job, then those of its traces, each with the ranks that have it."""
    of_job = [*_of_files(members), *_of_collectives(members, calls), *_of_clocks(members, calls, clocks)]
    healths = [Health().plus(rank.findings) for rank in members.ranks]
    return merged(healths, [f"rank {rank.rank}" for rank in members.ranks]).plus(of_job)


def _of_files(members: Members) -> Iterator[Finding]:
    if members.missing:
        count = len(members.missing)
        yield Finding(
            "missing_ranks",
            Severity.WARNING,
            count,
            f"{counted(count, 'rank')} of {members.world_size:,} {_have(count)} no trace here "
            f"({_ranks(members.missing)}): latencies and waits are over the ranks that are here, and waits for a "
            f"missing rank can't be seen",
            "copy the traces of all ranks into the folder",
        )
    if members.duplicates:
        yield Finding(
            "duplicate_ranks",
            Severity.WARNING,
            len(members.duplicates),
            f"left out, since another file is of the same rank: {listed(members.duplicates)}",
            "keep the traces of one capture in a folder",
        )
    if members.strangers:
        yield Finding(
            "other_jobs",
            Severity.WARNING,
            len(members.strangers),
            f"left out, since the job that they are of doesn't have {members.world_size:,} ranks: "
            f"{listed(members.strangers)}",
            "keep the traces of one job in a folder",
        )
    if members.numbered:
        yield Finding(
            "unnamed_ranks",
            Severity.WARNING,
            len(members.numbered),
            f"neither the header nor the name of {listed(members.numbered)} says which rank it is; "
            "ranks were given in the order of the names",
            "name the files rank0, rank1 and so on",
        )
    for file, error in members.unreadable:
        said = error.rstrip("?") if file in error else f"{file} can't be read: {error}"
        yield Finding("unreadable_rank", Severity.ERROR, 1, said, "copy it again, or take it out of the folder")
    if members.lost_activities:
        yield Finding(
            "unlinked_in_merged",
            Severity.WARNING,
            members.lost_activities,
            f"{counted(members.lost_activities, 'device activity', 'device activities')} of a merged trace have no "
            f"launch in it, so they belong to no rank",
            "give one file per rank",
        )


def _of_collectives(members: Members, calls: Calls) -> Iterator[Finding]:
    left_out = sum(rank.left_out_collectives for rank in members.ranks)
    requests = sum(rank.left_out_requests for rank in members.ranks)
    if left_out or requests:
        yield Finding(
            "beyond_summary",
            Severity.WARNING,
            left_out + requests,
            f"{counted(left_out, 'collective')} and {counted(requests, 'request')} at the ends of the traces are not "
            "compared: a rank's summary has a place for the first ones alone",
            "profile fewer steps",
        )
    unmatched = int((~calls.is_matched).sum())
    if unmatched and len(members.ranks) > 1:
        odd = f"; {calls.mismatched:,} of them are at places where another rank has another kind, type or size" * bool(
            calls.mismatched
        )
        yield Finding(
            "unmatched_collectives",
            Severity.WARNING,
            unmatched,
            f"{unmatched:,} of {len(calls):,} parts in collectives have no counterpart on another rank{odd}, so "
            f"their wait is unknown",
            "profile the same steps on all ranks",
        )


def _of_clocks(members: Members, calls: Calls, clocks: Sequence[Clock]) -> Iterator[Finding]:
    odd = [clock for clock in clocks if clock.spread_ns > ODD_SPREAD * _request_ns(members.ranks[clock.rank])]
    if odd:
        yield Finding(
            "clocks_do_not_fit",
            Severity.WARNING,
            len(odd),
            f"{counted(len(odd), 'rank')} ({_ranks([members.ranks[clock.rank].rank for clock in odd])}) "
            f"{'leaves' if len(odd) == 1 else 'leave'} the collectives at other times than the first one, by up to "
            f"{max(clock.spread_ns for clock in odd) / 1e6:,.3f} ms: perhaps the traces are of different runs",
            "give the traces of one run",
        )
    unsure = [clock for clock in clocks if clock.collectives and clock.offset_ns and not clock.is_corrected]
    if unsure:
        worst = max(unsure, key=lambda clock: clock.spread_ns)
        yield Finding(
            "clock_not_corrected",
            Severity.INFO,
            len(unsure),
            f"the clocks of {counted(len(unsure), 'rank')} are not corrected: their offsets (up to "
            f"{max(abs(clock.offset_ns) for clock in unsure) / 1e3:,.1f} µs) are within the spread of the estimate "
            f"(up to {worst.spread_ns / 1e3:,.1f} µs)",
            "waits don't depend on clocks; only the order of events across ranks does",
        )
    corrected = [clock for clock in clocks if clock.is_corrected]
    if corrected:
        offset_ns = max(abs(clock.offset_ns) for clock in corrected)
        spread_ns = max(clock.spread_ns for clock in corrected)
        yield Finding(
            "clock_corrected",
            Severity.INFO,
            len(corrected),
            f"the clocks of {counted(len(corrected), 'rank')} were corrected by up to "
            f"{offset_ns / 1e3:,.3f} µs (spread up to {spread_ns / 1e3:,.3f} µs)",
            NOTHING_TO_DO,
        )
    alone = [members.ranks[clock.rank].rank for clock in clocks if not clock.collectives][1:]
    if alone and len(calls):
        yield Finding(
            "clock_unknown",
            Severity.INFO,
            len(alone),
            f"the clocks of {counted(len(alone), 'rank')} can't be compared with the first one's ({_ranks(alone)}): "
            "they have no collective in common that all ranks leave together",
            "profile a step with an all-reduce",
        )


def _request_ns(rank: RankSummary) -> float:
    """The median length of a rank's requests."""
    return float(np.median(rank.request_end_ns - rank.request_start_ns))


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _ranks(numbers: Sequence[int]) -> str:
    """Ranks for a line, those in a row as one.

    >>> _ranks([0, 1, 2, 7])
    'rank 0 to 2, 7'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number, number])
    texts = [str(low) if low == high else f"{low} to {high}" for low, high in runs]
    return "rank " + listed_numbers(texts)


def listed_numbers(texts: Sequence[str]) -> str:
    """The first of these, and how many more there are."""
    shown = ", ".join(texts[:8])
    return shown if len(texts) <= 8 else f"{shown} and more"
