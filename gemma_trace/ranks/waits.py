"""How long each rank waited for the others in its collectives.

A collective can't take less on any rank than on the one that came last and waited for nobody: the shortest duration
over the ranks is its latency, and what a rank's own is longer is its wait. So on every rank the latencies and the waits
add up to the time in collectives, to the nanosecond. The kernel of a rank that came early starts early and spins: its
wait is at its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.clocks import Clock
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.trace.events import IntArray


@dataclass(frozen=True)
class Waits:
    """The part of the time in collectives that is waiting. All columns have the length n, along `Calls`.

    Attributes:
        latency_ns: int64, the shortest duration over the ranks; of a call that no other rank's matches its own.
        wait_ns: int64, the rest.
        exposed_ns: int64, the part of the call in which nothing computes.
        exposed_wait_ns: int64, the part of the wait in which nothing computes.
        late_ns: int64, how much later than the first rank this one came, on the common clock.
    """

    latency_ns: IntArray
    wait_ns: IntArray
    exposed_ns: IntArray
    exposed_wait_ns: IntArray
    late_ns: IntArray


@dataclass(frozen=True)
class RankLine:
    """One rank over all its requests.

    Attributes:
        rank: its global rank.
        host: a number for its machine.
        device: the index of its device; `NONE` where it isn't known.
        requests: how many requests or steps.
        wall_ns: their length together.
        compute_ns: how long the device computed, communication aside.
        collectives: how many collectives.
        unmatched: how many of them have no part of another rank beside them.
        collective_ns: Σ duration of those that are matched; `latency_ns + wait_ns`.
        latency_ns, wait_ns: see `Waits`.
        unmatched_ns: Σ duration of the others.
        exposed_ns: how long collectives ran and nothing computed.
        overlapped_ns: the rest of the time in collectives.
        exposed_wait_ns: how long it waited and nothing computed.
        clock: how its clock goes.
    """

    rank: int
    host: int
    device: int
    requests: int
    wall_ns: int
    compute_ns: int
    collectives: int
    unmatched: int
    collective_ns: int
    latency_ns: int
    wait_ns: int
    unmatched_ns: int
    exposed_ns: int
    overlapped_ns: int
    exposed_wait_ns: int
    clock: Clock


def waits_of(calls: Calls, ranks: Sequence[RankSummary], clocks: Sequence[Clock]) -> Waits:
    """The part of each call that is waiting."""
    matched = calls.is_matched
    shortest = np.full(len(calls.parts), np.iinfo(np.int64).max)
    np.minimum.at(shortest, calls.match[matched], calls.dur_ns[matched])
    latency = calls.dur_ns.copy()
    latency[matched] = shortest[calls.match[matched]]
    wait = calls.dur_ns - latency
    exposed, exposed_wait = (np.zeros(len(calls), dtype=np.int64) for _ in range(2))
    start = calls.start_ns.copy()
    for number, rank in enumerate(ranks):
        rows = rows_of_rank(calls, number)
        collectives = rank.collectives
        exposed[rows] = collectives.exposed_ns
        wait_end = (collectives.start_ns + wait[rows])[collectives.part]
        waited = np.minimum(collectives.part_end_ns, wait_end) - collectives.part_start_ns
        np.add.at(exposed_wait, np.arange(rows.start, rows.stop)[collectives.part], np.maximum(waited, 0))
        start[rows] -= clocks[number].ahead_ns(calls.start_ns[rows])
    first = np.full(len(calls.parts), np.iinfo(np.int64).max)
    np.minimum.at(first, calls.match[matched], start[matched])
    late = np.zeros(len(calls), dtype=np.int64)
    late[matched] = start[matched] - first[calls.match[matched]]
    return Waits(latency, wait, exposed, exposed_wait, late)


def rows_of_rank(calls: Calls, number: int) -> slice:
    """The rows of a rank, which stand together."""
    return slice(int(np.searchsorted(calls.rank, number)), int(np.searchsorted(calls.rank, number, side="right")))


def rank_lines(
    calls: Calls, waits: Waits, ranks: Sequence[RankSummary], clocks: Sequence[Clock]
) -> tuple[RankLine, ...]:
    """One line per rank."""
    return tuple(_line(calls, waits, rank, clocks[number], number) for number, rank in enumerate(ranks))


def _line(calls: Calls, waits: Waits, rank: RankSummary, clock: Clock, number: int) -> RankLine:
    rows = rows_of_rank(calls, number)
    matched = calls.match[rows] != NONE
    lengths, exposed = calls.dur_ns[rows], int(waits.exposed_ns[rows].sum())
    return RankLine(
        rank=rank.rank,
        host=clock.host,
        device=rank.device,
        requests=len(rank.request_labels),
        wall_ns=int((rank.request_end_ns - rank.request_start_ns).sum()),
        compute_ns=rank.compute_ns,
        collectives=len(lengths),
        unmatched=int((~matched).sum()),
        collective_ns=int(lengths[matched].sum()),
        latency_ns=int(waits.latency_ns[rows][matched].sum()),
        wait_ns=int(waits.wait_ns[rows][matched].sum()),
        unmatched_ns=int(lengths[~matched].sum()),
        exposed_ns=exposed,
        overlapped_ns=int(lengths.sum()) - exposed,
        exposed_wait_ns=int(waits.exposed_wait_ns[rows].sum()),
        clock=clock,
    )
