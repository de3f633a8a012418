"""The ranks of a job as one run: of each request the rank that took longest, whose figures belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gemma_trace.analysis.energy import energy_of_ranks
from gemma_trace.analysis.sides import Costs, Side, Values
from gemma_trace.analysis.summary import RequestMeasures, RunSummary, measures_of
from gemma_trace.health.merge import merged
from gemma_trace.printable import path_text


def run_of_ranks(runs: Sequence[RunSummary]) -> RunSummary:
    """The summary of a job: of each request the measures of the rank with the longest TTFT.

    Measures that are of no request by itself (those of decoding) are of the rank that is slowest in them. A request
    that some rank doesn't have is left out.

    Args:
        runs: one per rank, by rank.
    """
    if len(runs) == 1:
        return runs[0]
    count = min(len(run.requests) for run in runs)
    requests = tuple(max((run.requests[place] for run in runs), key=_length_ns) for place in range(count))
    measures = measures_of(requests)
    for name, measured in runs[0].measures.items():
        others = [run.measures[name] for run in runs]
        known = [each for each in others if each is not None]
        if measures.get(name) is None and measured is not None:
            measures[name] = max(known, key=lambda each: each.median)
    return replace(
        runs[0],
        run=runs[0].run if runs[0].model else path_text(runs[0].source.absolute().parent.name),
        ranks=len(runs),
        runs=count,
        requests=requests,
        measures={name: measures.get(name) for name in runs[0].measures},
        inflation=max((run.inflation for run in runs if run.inflation is not None), default=None),
        energy=energy_of_ranks([run.energy for run in runs]),
        health=merged([run.health for run in runs], [f"rank {place}" for place in range(len(runs))]),
    )


def side_of_ranks(sides: Sequence[Side]) -> Side:
    """A job as a side of a comparison: of each request the values of the rank that took longest.

    What is inside of the stages is the mean over the ranks.
    """
    if len(sides) == 1:
        return sides[0]
    return replace(
        sides[0],
        run=run_of_ranks([side.run for side in sides]),
        timed_ms=_slowest([side.timed_ms for side in sides]),
        profiled_ms=_slowest([side.profiled_ms for side in sides]),
        requests=min(side.requests for side in sides),
        wall_ms=max(side.wall_ms for side in sides),
        device_stages=frozenset().union(*(side.device_stages for side in sides)),
        device={level: _mean([side.device[level] for side in sides]) for level in sides[0].device},
        host={level: _mean([side.host[level] for side in sides]) for level in sides[0].host},
    )


def _length_ns(request: RequestMeasures) -> int:
    return request.ttft_ns if request.ttft_ns is not None else sum(request.stages_ns.values())


def _slowest(ranks: Sequence[Values]) -> Values:
    """By name a value per request: that of the rank with the longest wall time; of what a rank lacks the largest."""
    names = dict.fromkeys(name for values in ranks for name in values)
    walls = [values.get("wall", ()) for values in ranks]
    count = min(map(len, walls), default=0)
    slowest = [int(np.argmax([wall[place] for wall in walls])) for place in range(count)]
    slowest_ms: dict[str, tuple[float, ...]] = {}
    for name in names:
        having = [values[name] for values in ranks if name in values]
        if len(having) == len(ranks) and all(len(values) >= count for values in having) and count:
            slowest_ms[name] = tuple(having[rank][place] for place, rank in enumerate(slowest))
        else:
            slowest_ms[name] = tuple(map(max, zip(*having, strict=False)))
    return slowest_ms


def _mean(ranks: Sequence[Costs]) -> Costs:
    keys = dict.fromkeys(key for costs in ranks for key in costs.places)
    place_of = {key: place for place, key in enumerate(keys)}
    requests = min(len(costs.sums_ns) for costs in ranks)
    sums, counts = np.zeros((requests, len(keys)), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
    for costs in ranks:
        places = np.array([place_of[key] for key in costs.places], dtype=np.int64)
        rows = np.array(list(costs.places.values()), dtype=np.int64)
        sums[:, places] += costs.sums_ns[:requests, rows]
        counts[places] += costs.counts[rows]
    return Costs(place_of, sums // len(ranks), counts // len(ranks))
