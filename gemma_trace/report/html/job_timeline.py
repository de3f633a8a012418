"""Chosen ranks of a job over time, on one clock: their stages on host and device, and their collectives.

The ranks' summaries don't hold when a stage ran, so the traces of the chosen ranks are read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from gemma_trace.errors import InputError
from gemma_trace.foreign import NONE
from gemma_trace.ranks.job import Job
from gemma_trace.ranks.kinds import COMMS
from gemma_trace.ranks.waits import rows_of_rank
from gemma_trace.report.html.charts import Rect
from gemma_trace.report.html.model import DrawnLane
from gemma_trace.report.html.waterfall import draw_waterfall
from gemma_trace.report.number_text import milliseconds
from gemma_trace.report.units import megabytes
from gemma_trace.trace.trace import Trace

MOST_RANKS: Final = 6
"""So many ranks are drawn where none are asked for."""

MOST_COLLECTIVES: Final = 300
"""So many collectives of a rank are drawn, the longest."""

CELLS: Final = 400
"""Into so many cells a lane is cut that has more stretches."""

FAR_APART: Final = 4
"""Requests that start farther apart than so many times their length are not on one clock."""


@dataclass(frozen=True)
class RankLanes:
    """What a rank's trace tells of a request.

    Attributes:
        rank: its global rank.
        start_ns, end_ns: of the request, in ns since 1970, on the rank's own clock.
        lanes: from the request's start.
    """

    rank: int
    start_ns: int
    end_ns: int
    lanes: tuple[DrawnLane, ...]


@dataclass(frozen=True)
class CollectiveBar:
    """A rank's part in a collective: the wait for the others comes first.

    Attributes:
        start_ns: from the timeline's start.
        wait_ns, latency_ns: its two parts.
        what: the kind, and the size where the trace tells.
    """

    start_ns: int
    wait_ns: int
    latency_ns: int
    what: str


@dataclass(frozen=True)
class RankRow:
    """The rows of one rank in the timeline.

    Attributes:
        rank: its global rank.
        lanes: from the timeline's start.
        collectives: by start.
        left_out: how many shorter ones aren't drawn.
        wait_ns, latency_ns: of all of them.
    """

    rank: int
    lanes: tuple[DrawnLane, ...]
    collectives: tuple[CollectiveBar, ...]
    left_out: int
    wait_ns: int
    latency_ns: int


@dataclass(frozen=True)
class Timeline:
    """One request of some ranks.

    Attributes:
        request: its label.
        why: why it is this one.
        length_ns: from the first start to the last end.
        rows: by rank.
        notes: what is to be known of it.
    """

    request: str
    why: str
    length_ns: int
    rows: tuple[RankRow, ...]
    notes: tuple[str, ...]


def chosen_ranks(job: Job, asked: Sequence[int] = ()) -> tuple[int, ...]:
    """The global ranks that are drawn: those asked for; else the stragglers, the first and the one that waits most.

    Where nobody is late, the one that waits least stands for those that the others wait for.

    Raises:
        InputError: there is no trace of a rank that was asked for.
    """
    if unknown := [rank for rank in asked if rank not in job.numbers]:
        raise InputError(
            f"rank {unknown[0]} not found: there are traces of {len(job.numbers)} ranks, "
            f"{job.numbers[0]} to {job.numbers[-1]}"
        )
    if asked:
        return tuple(sorted(set(asked)))
    by_wait = sorted(job.rank_lines, key=lambda line: (-line.exposed_wait_ns, -line.wait_ns))
    late = list(dict.fromkeys(job.numbers[straggler.rank] for straggler in job.stragglers))
    others = dict.fromkeys((job.numbers[0], by_wait[0].rank, *([] if late else [by_wait[-1].rank])))
    most_late = MOST_RANKS - sum(rank not in late[:MOST_RANKS] for rank in others)
    return tuple(sorted({*late[:most_late], *others}))


def chosen_request(job: Job) -> tuple[str, str]:
    """The label of the request that is drawn, and why: the first in which the worst straggler is late, or the median.

    What a request takes is what it takes on the rank where it is longest.
    """
    if job.stragglers:
        worst = job.stragglers[0]
        return worst.first_request, f"the first in which rank {job.numbers[worst.rank]} stands out in {worst.stage}"
    walls = job.grid.wall_ns.max(axis=0)
    middle = int(np.argsort(walls, kind="stable")[(len(walls) - 1) // 2])
    return job.grid.requests[middle], f"the median of {len(walls)}" if len(walls) > 1 else "the only one"


def lanes_of(trace: Trace, rank: int, label: str) -> RankLanes | None:
    """What a rank did in a request; None where it has none of this label."""
    request = next((each for each in trace.requests if each.label == label), None)
    if request is None:
        return None
    drawn = draw_waterfall(trace, request, len(trace.requests), CELLS)
    return RankLanes(rank, request.start_ns + trace.base_ns, request.end_ns + trace.base_ns, drawn.lanes)


def timeline_of(job: Job, drawn: Sequence[RankLanes], request: str, why: str) -> Timeline | None:
    """The chosen ranks on one clock; None where none of them has the request."""
    if not drawn:
        return None
    starts = {each.rank: each.start_ns - _ahead_ns(job, each) for each in drawn}
    lengths = {each.rank: each.end_ns - each.start_ns for each in drawn}
    notes = []
    zero = {rank: min(starts.values()) for rank in starts}
    if max(starts.values()) - min(starts.values()) > FAR_APART * max(lengths.values()):
        zero = starts  # each its own
        notes.append("Their clocks can't be compared, so each row begins where the request begins on its rank.")
    rows = [_row(job, each, starts[each.rank] - zero[each.rank], zero[each.rank]) for each in drawn]
    length = max(starts[rank] - zero[rank] + lengths[rank] for rank in starts)
    if left := sum(row.left_out for row in rows):
        notes.append(f"{left:,} shorter collectives are not drawn.")
    return Timeline(request, why, length, tuple(rows), tuple(notes))


def _place(job: Job, rank: int) -> int:
    return job.numbers.index(rank)


def _ahead_ns(job: Job, drawn: RankLanes) -> int:
    """How far the rank's clock is ahead when its request starts."""
    return int(job.clocks[_place(job, drawn.rank)].ahead_ns(np.array([drawn.start_ns], dtype=np.int64))[0])


def _row(job: Job, drawn: RankLanes, shift_ns: int, zero_ns: int) -> RankRow:
    """A rank's rows.

    Args:
        shift_ns: from the timeline's start to the request's.
        zero_ns: the timeline's start, on the common clock.
    """
    lanes = tuple(_shifted(lane, shift_ns) for lane in drawn.lanes)
    ahead_ns = _ahead_ns(job, drawn)
    calls, rows = job.calls, rows_of_rank(job.calls, _place(job, drawn.rank))
    start, end, wait = calls.start_ns[rows], calls.end_ns[rows], job.waits.wait_ns[rows]
    inside = np.flatnonzero((start < drawn.end_ns) & (end > drawn.start_ns))
    longest = np.sort(inside[np.argsort(-(end - start)[inside], kind="stable")[:MOST_COLLECTIVES]])
    bars = tuple(
        CollectiveBar(
            start_ns=int(start[place]) - ahead_ns - zero_ns,
            wait_ns=int(wait[place]),
            latency_ns=int(end[place] - start[place] - wait[place]),
            what=_what(job, rows.start + place),
        )
        for place in longest.tolist()
    )
    waited = int(wait[inside].sum())
    latency = int((end - start)[inside].sum()) - waited
    return RankRow(drawn.rank, lanes, bars, len(inside) - len(bars), waited, latency)


def _what(job: Job, row: int) -> str:
    kind = COMMS[int(job.calls.kind[row])].value
    size = int(job.calls.size_bytes[row])
    return kind if size == NONE else f"{kind} of {megabytes(size)} MB"


def _shifted(lane: DrawnLane, by_ns: int) -> DrawnLane:
    stretches = (replace(each, start_ns=each.start_ns + by_ns, end_ns=each.end_ns + by_ns) for each in lane.stretches)
    return replace(lane, stretches=tuple(stretches))


def collective_rects(row: RankRow, scale_ns: int) -> tuple[Rect, ...]:
    """A rank's collectives as bars, the wait hatched.

    Args:
        scale_ns: what the chart's width stands for.
    """
    rects = []
    for bar in row.collectives:
        title = f"{bar.what}: waited {milliseconds(bar.wait_ns)} ms, then {milliseconds(bar.latency_ns)} ms"
        middle, end = bar.start_ns + bar.wait_ns, bar.start_ns + bar.wait_ns + bar.latency_ns
        for classes, low, high in (("waiting", bar.start_ns, middle), ("moving", middle, end)):
            low, high = max(low, 0), min(high, scale_ns)
            if high > low:
                rects.append(Rect(100 * low / scale_ns, 100 * (high - low) / scale_ns, classes, title))
    return tuple(rects)
