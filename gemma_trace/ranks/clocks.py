"""One clock for all ranks, from the collectives that they leave together.

No rank leaves a synchronous collective before all have come, so all leave within its own transfer time. How much later
one rank's clock says so than the others', as a median over many collectives, is how far its clock is ahead (Doleschal,
Knüpfer, Müller, Nagel, "Internal Timer Synchronization for Parallel Event Tracing", EuroPVM/MPI 2008, takes its offsets
so). A clock that drifts is a line through these differences (Theil, "A rank-invariant method of linear and polynomial
regression analysis", 1950; Sen, "Estimates of the regression coefficient based on Kendall's tau", JASA 63, 1968).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.foreign import NONE
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.kinds import COMMS, SYNCHRONOUS
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places

MIN_FOR_DRIFT: Final = 8
"""Below this many collectives a line through their differences says nothing."""

MOST_FOR_DRIFT: Final = 200
"""A line is laid through so many of them, which are spread over the trace."""

DRIFT_HALVES: Final = 0.5
"""A drift is believed where it brings the spread down to this share."""

MOST_DRIFT_PPM: Final = 500.0
"""No clock that NTP keeps goes wrong by more (RFC 5905, the frequency tolerance): a steeper line is something else."""

FAR_SPREADS: Final = 5
"""A rank whose offset is so many spreads from that of its machine reads another clock."""

NEAR_NS: Final = 1_000
"""Nobody's offset is known better than this: many clocks tick in µs."""

MAD_TO_SIGMA: Final = 1.4826
"""A normal distribution's standard deviation over its median absolute deviation."""

_SYNCHRONOUS: Final = np.array([kind in SYNCHRONOUS for kind in COMMS])


@dataclass(frozen=True)
class Clock:
    """How a rank's clock goes, beside that of the first rank that it has collectives with.

    Attributes:
        rank: the place of the rank among the summaries.
        host: a number for its machine.
        offset_ns: how far it is ahead, at `at_ns`.
        drift_ppm: by how many millionths it goes faster.
        at_ns: when, on its own clock.
        spread_ns: how far single collectives scatter around that, as a standard deviation (MAD · 1.4826).
        collectives: how many of them the estimate is from; 0 where there is none.
        is_corrected: whether times are corrected by it; they aren't where the spread is as large as the correction.
    """

    rank: int
    host: int
    offset_ns: int
    drift_ppm: float
    at_ns: int
    spread_ns: int
    collectives: int
    is_corrected: bool

    def ahead_ns(self, ts_ns: IntArray) -> IntArray:
        """int64, how far the clock is ahead at instants on its own time line; 0 where it isn't corrected.

        Args:
            ts_ns: int64, in ns since 1970.
        """
        if not self.is_corrected:
            return np.zeros(len(ts_ns), dtype=np.int64)
        drifted = np.rint((ts_ns - self.at_ns) * (self.drift_ppm / 1e6)).astype(np.int64)
        ahead: IntArray = drifted + self.offset_ns
        return ahead


def clocks_of(calls: Calls, devices: Sequence[int]) -> list[Clock]:
    """The clock of each rank.

    Args:
        devices: the index of each rank's device; `NONE` where it isn't known.
    """
    hosts = hosts_of(devices)
    alone = [Clock(place, host, 0, 0.0, 0, 0, 0, False) for place, host in enumerate(hosts)]
    clocks = _estimated(calls, alone)
    return [_believed(clock) for clock in _pooled(clocks)]


def hosts_of(devices: Sequence[int]) -> list[int]:
    """A number for the machine of each rank: ranks count through the devices of a machine, so that it ends where an
    index comes again or goes down.

    >>> hosts_of([0, 1, 2, 3, 0, 1, 2, 3])
    [0, 0, 0, 0, 1, 1, 1, 1]
    """
    hosts: list[int] = []
    seen: set[int] = set()
    highest = NONE
    host = 0
    for device in devices:
        if device != NONE and (device in seen or device < highest):
            host, seen, highest = host + 1, set(), NONE
        seen.add(device)
        highest = max(highest, device)
        hosts.append(host)
    return hosts


def _estimated(calls: Calls, alone: Sequence[Clock]) -> list[Clock]:
    """The clocks by way of the groups: from the first rank to those that share a group with it, and on from there."""
    clocks = list(alone)
    differences = dict(_differences(calls))
    known: set[int] = set()
    for first in range(len(clocks)):
        if first in known:
            continue
        known.add(first)
        waiting = True
        while waiting:
            waiting = False
            for group in list(differences):
                members = differences[group]
                base = next((rank for rank in members if rank in known), None)
                if base is None:
                    continue
                del differences[group]
                waiting = True
                for rank in members:
                    if rank not in known:
                        known.add(rank)
                        clocks[rank] = _beside(clocks[base], members[base], clocks[rank], members[rank])
    return clocks


@dataclass(frozen=True)
class _Ends:
    """When a rank left the collectives of a group.

    Attributes:
        match: int64 [c], which collective, ascending.
        end_ns: int64 [c].
    """

    match: IntArray
    end_ns: IntArray


def _differences(calls: Calls) -> list[tuple[int, dict[int, _Ends]]]:
    """By group, the largest first, when each of its ranks left which synchronous collective."""
    chosen = np.flatnonzero(calls.is_matched & _SYNCHRONOUS[calls.kind])
    differences = []
    for group, of_group in Places(calls.group[chosen]):
        places = chosen[of_group]
        members = {}
        for rank, part in Places(calls.rank[places]):
            rows = places[part]
            match, first = np.unique(calls.match[rows], return_index=True)
            members[rank] = _Ends(match, calls.end_ns[rows[first]])
        differences.append((group, members))
    return sorted(differences, key=lambda each: -len(each[1]))


def _beside(base: Clock, base_ends: _Ends, clock: Clock, ends: _Ends) -> Clock:
    """A clock from that of another rank of its group."""
    _, its_rows, others = np.intersect1d(ends.match, base_ends.match, assume_unique=True, return_indices=True)
    if not len(its_rows):
        return clock
    at = ends.end_ns[its_rows]
    other = base_ends.end_ns[others]
    # On the clock of the first rank of all; `is_corrected` is not decided yet.
    difference = at - (other - replace(base, is_corrected=base.collectives > 0).ahead_ns(other))
    zero = int(np.median(at)) if len(at) < 2 else int(at[len(at) // 2])
    offset = int(np.rint(np.median(difference - difference[0]))) + int(difference[0])
    rest = (difference - offset).astype(np.float64)
    spread, drift_ppm = _spread(rest), 0.0
    if len(at) >= MIN_FOR_DRIFT and spread > 0:
        elapsed = (at - zero).astype(np.float64)
        slope = _slope(elapsed, rest)
        level = float(np.median(rest - slope * elapsed))
        steadier = _spread(rest - slope * elapsed - level)
        if steadier < DRIFT_HALVES * spread and abs(slope) * 1e6 <= MOST_DRIFT_PPM:
            spread, drift_ppm, offset = steadier, slope * 1e6, offset + int(np.rint(level))
    return replace(
        clock,
        offset_ns=offset,
        drift_ppm=drift_ppm,
        at_ns=zero,
        spread_ns=int(np.rint(spread)),
        collectives=len(at),
    )


def _spread(values: npt.NDArray[np.float64]) -> float:
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def _slope(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """The median of the slopes between all pairs of points, some of them where there are many."""
    if len(x) > MOST_FOR_DRIFT:
        some = np.linspace(0, len(x) - 1, MOST_FOR_DRIFT).astype(np.int64)
        x, y = x[some], y[some]
    first, second = np.triu_indices(len(x), 1)
    run = x[second] - x[first]
    real = run != 0
    return float(np.median((y[second] - y[first])[real] / run[real])) if real.any() else 0.0


def _pooled(clocks: Sequence[Clock]) -> list[Clock]:
    """Ranks of one machine read one clock: the median of what they say, but for those that are far from it.

    The machine of the rank that all others are held against has no offset.
    """
    pooled = list(clocks)
    for _, places in Places(np.array([clock.host for clock in clocks])):
        machine = [clocks[place] for place in places.tolist()]
        members = [clock for clock in machine if clock.collectives]
        if not members:
            continue
        common = replace(members[0], offset_ns=0, drift_ppm=0.0)
        if len(members) == len(machine):
            drift_ppm = float(np.median([clock.drift_ppm for clock in members]))
            offsets = [clock.offset_ns + round((common.at_ns - clock.at_ns) * drift_ppm / 1e6) for clock in members]
            common = replace(common, offset_ns=int(np.median(offsets)), drift_ppm=drift_ppm)
        for clock in members:
            shared = common.offset_ns + round((clock.at_ns - common.at_ns) * common.drift_ppm / 1e6)
            if abs(clock.offset_ns - shared) <= max(FAR_SPREADS * clock.spread_ns, NEAR_NS):
                pooled[clock.rank] = replace(clock, offset_ns=shared, drift_ppm=common.drift_ppm)
    return pooled


def _believed(clock: Clock) -> Clock:
    """A clock that is corrected, unless its spread is as large as the correction."""
    drifts = clock.drift_ppm != 0.0
    return replace(clock, is_corrected=clock.collectives > 0 and (drifts or abs(clock.offset_ns) > clock.spread_ns))
