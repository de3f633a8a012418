"""What changed between two traces: stages, and inside of them families, ops and kernels.

Rows are matched by what they are: the stage; the stage and the family; the stage, the op and its shapes; the stage
and the kernel. A value is a request's, so a row's sample has as many values as there are requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.statistics import Distribution, distribution_ms, median_difference_interval
from gemma_trace.analysis.summary import RequestMeasures, RunSummary, profiled_requests, summarize
from gemma_trace.analysis.timeline import UNLINKED, find_requests
from gemma_trace.analysis.work import By, Work, device_work, group, host_work, request_of_work, stage_of_work
from gemma_trace.stages import Stage
from gemma_trace.trace.events import NONE
from gemma_trace.trace.trace import Trace

LEAST_CHANGE: Final = 0.01
"""A smaller difference than this share of what was before is called the same."""

LEAST_SHARE: Final = 0.001
"""A difference inside a stage that is less than this share of the whole request is called the same."""

Level = Literal["stage", "family", "op", "kernel"]
Status = Literal["same", "slower", "faster", "new", "vanished"]

_INSIDE: Final[tuple[tuple[Level, By], ...]] = (("family", By.FAMILY), ("op", By.SHAPE), ("kernel", By.KERNEL))
_IDENTITY: Final = ("model", "weights", "dtype", "device", "image_backend")
_ENVIRONMENT: Final = ("torch", "torchvision", "transformers", "python", "device_name", "driver", "cuda", "host_cpu")
_INCIDENTAL: Final = frozenset({"output", "name", "force", "quiet"})


@dataclass(frozen=True)
class Change:
    """One row of a comparison. Differences are after less before, so what got slower is above zero.

    Attributes:
        level: what the row is of.
        stage: `ttft`, `tpot` and `wall` are measures beside the stages.
        name: the family, the op with its shapes, or the kernel; "" of a stage.
        before, after: a value a request, in ms; None where that side has no such row.
        before_count, after_count: calls or activities a request; None of a stage.
        interval_ms: 95% bootstrap interval of the difference of the medians; None under 5 values a side.
        status: `slower` and `faster` where the medians are 1% apart and the interval, if there is one, leaves out 0.
    """

    level: Level
    stage: str
    name: str
    before: Distribution | None
    after: Distribution | None
    before_count: float | None
    after_count: float | None
    interval_ms: tuple[float, float] | None
    status: Status

    @property
    def difference_ms(self) -> float:
        """Of the medians; a side that has no such row counts as 0."""
        return (self.after.median if self.after else 0.0) - (self.before.median if self.before else 0.0)

    @property
    def relative_pct(self) -> float | None:
        """The difference as a share of what was before; None where that is nothing."""
        return 100 * self.difference_ms / self.before.median if self.before and self.before.median else None


@dataclass(frozen=True)
class TraceDiff:
    """Two traces compared.

    Attributes:
        before, after: the two, summed up.
        timing: `timed` where both have requests that ran without the profiler, else `profiled`; of the stages. What
            is inside of them always comes from the profiled requests.
        stages: TTFT, where a request has none the wall time, then the stages in order, then TPOT.
        inside: families, ops and kernels, each by the size of its difference.
        settings: what was configured differently, e.g. "image_backend: torchvision → pil".
    """

    before: RunSummary
    after: RunSummary
    timing: Literal["timed", "profiled"]
    stages: tuple[Change, ...]
    inside: tuple[Change, ...]
    settings: tuple[str, ...]

    @property
    def changed(self) -> tuple[Change, ...]:
        """The rows that aren't the same, of all levels."""
        return tuple(change for change in (*self.stages, *self.inside) if change.status != "same")


def diff(before: Trace, after: Trace) -> TraceDiff:
    """Compare two traces.

    >>> diff(load("traces/torchvision"), load("traces/pil")).changed[0].stage      # doctest: +SKIP
    'ttft'
    """
    runs = [summarize(trace) for trace in (before, after)]
    timed = all(run.timing == "timed" for run in runs)
    requests = [run.requests for run in runs]
    if not timed:
        requests = [tuple(profiled_requests(breakdown(trace).complete())) for trace in (before, after)]
    # Where a side has no first token, or not every time, the wall time is what can be compared.
    with_wall = any(request.ttft_ns is None for side in requests for request in side)
    samples = [_stage_samples(side, with_wall=with_wall) for side in requests]
    return TraceDiff(
        before=runs[0],
        after=runs[1],
        timing="timed" if timed else "profiled",
        stages=tuple(_stage_changes(*samples)),
        inside=tuple(_inside_changes(before, after)),
        settings=tuple(_settings(before, after)),
    )


def _stage_samples(requests: Sequence[RequestMeasures], *, with_wall: bool) -> dict[str, Distribution]:
    """By name: the first token, the stages, the tokens after it. `preprocessing` is the whole processor call."""
    names = dict.fromkeys(stage for request in requests for stage in request.stages_ns)
    names |= dict.fromkeys([Stage.PREPROCESSING.value] if any(r.preprocessing_ns is not None for r in requests) else [])
    order = [stage.value for stage in Stage]
    samples: dict[str, list[int | None]] = {"ttft": [request.ttft_ns for request in requests]}
    if with_wall:
        samples["wall"] = [sum(r.stages_ns.values()) + (r.unattributed_ns or 0) for r in requests]
    for stage in sorted(names, key=lambda name: order.index(name) if name in order else len(order)):
        whole = stage == Stage.PREPROCESSING
        samples[stage] = [r.preprocessing_ns if whole else r.stages_ns.get(stage) for r in requests]
    samples[Stage.UNATTRIBUTED.value] = [request.unattributed_ns for request in requests]
    samples["tpot"] = [request.tpot_ns for request in requests]
    found = {
        name: distribution_ms([value for value in values if value is not None]) for name, values in samples.items()
    }
    return {name: sample for name, sample in found.items() if sample is not None}


def _stage_changes(before: dict[str, Distribution], after: dict[str, Distribution]) -> Iterable[Change]:
    for name in _merged_order(list(before), list(after)):
        yield _change("stage", name, "", before.get(name), after.get(name), (None, None), 0.0)


def _merged_order(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """All names; what only the second has comes before the name that follows it there."""
    merged = list(first)
    for place, name in reversed(list(enumerate(second))):
        if name not in merged:
            following = next((later for later in second[place + 1 :] if later in merged), None)
            merged.insert(merged.index(following) if following else len(merged), name)
    return merged


def _change(
    level: Level,
    stage: str,
    name: str,
    before: Distribution | None,
    after: Distribution | None,
    counts: tuple[float | None, float | None],
    least_ms: float,
) -> Change:
    first, second = (side.median if side else 0.0 for side in (before, after))
    difference = second - first
    interval = None
    status: Status = "same"
    if abs(difference) >= least_ms and difference:
        interval = median_difference_interval(before, after) if before and after else None
        certain = interval is None or interval[0] > 0 or interval[1] < 0
        if before is None or after is None:
            status = "new" if before is None else "vanished"
        elif abs(difference) >= LEAST_CHANGE * first and certain:
            status = "slower" if difference > 0 else "faster"
    elif before and after and level == "stage":
        interval = median_difference_interval(before, after)
    return Change(level, stage, name, before, after, *counts, interval, status)


@dataclass(frozen=True)
class _Costs:
    """What each row cost each request: int64 [requests, rows] ns, and how many calls it had in all."""

    keys: list[tuple[str, str]]
    sums_ns: np.ndarray
    counts: np.ndarray

    def sample(self, place: int) -> tuple[Distribution | None, float]:
        """A row's distribution over the requests, and its calls a request."""
        return distribution_ms(self.sums_ns[:, place].tolist()), int(self.counts[place]) / len(self.sums_ns)


def _inside_changes(before: Trace, after: Trace) -> list[Change]:
    """Families, ops and kernels of the device; of the host for stages that give the device nothing on either side."""
    traces = (before, after)
    device = [device_work(trace) for trace in traces]
    busy = {stage for trace, work in zip(traces, device, strict=True) for stage in _stages_of(trace, work)}
    host = [host_work(trace) for trace in traces]
    request_ms = max(sum(r.wall_ns for r in find_requests(t)) / len(find_requests(t)) for t in traces) / 1e6
    changes: list[Change] = []
    for level, by in _INSIDE:
        found: list[Change] = []
        for works, on_host in ((device, False), (host, True)):
            if on_host and level == "kernel":
                continue  # the host has no kernels; its ops are listed
            sides = [_costs(trace, work, by) for trace, work in zip(traces, works, strict=True)]
            found += _matched(level, sides, busy if on_host else set(), LEAST_SHARE * request_ms)
        changes += sorted(found, key=lambda change: -abs(change.difference_ms))
    return changes


def _stages_of(trace: Trace, work: Work) -> set[str]:
    names = [*trace.stage_names, UNLINKED]
    return {names[code] for code in np.unique(stage_of_work(trace, work)).tolist()}


def _matched(level: Level, sides: Sequence[_Costs], without: set[str], least_ms: float) -> list[Change]:
    places = [{key: place for place, key in enumerate(side.keys)} for side in sides]
    changes = []
    for key in dict.fromkeys([*sides[0].keys, *sides[1].keys]):
        if key[0] in without:
            continue
        samples = [
            side.sample(place[key]) if key in place else (None, 0.0) for side, place in zip(sides, places, strict=True)
        ]
        counts = (samples[0][1], samples[1][1])
        changes.append(_change(level, *key, samples[0][0], samples[1][0], counts, least_ms))
    return changes


def _costs(trace: Trace, work: Work, by: By) -> _Costs:
    """Sums by request, stage and group; what lies outside of all requests is left out."""
    requests = find_requests(trace)
    groups = group(trace, work, by)
    request = request_of_work(trace, work, requests)
    stage_names = [*trace.stage_names, UNLINKED]
    inside = request != NONE
    # Groups of one name (an op whose inputs differ in what is no tensor) are one row.
    first = {name: code for code, name in reversed(list(enumerate(groups.names)))}
    code = np.array([first[name] for name in groups.names], dtype=np.int64)[groups.code[inside]]
    pairs, row = np.unique(stage_of_work(trace, work)[inside] * len(groups.names) + code, return_inverse=True)
    sums = np.zeros((len(requests), len(pairs)), dtype=np.int64)
    np.add.at(sums, (request[inside], row), work.length_ns[inside])
    calls = np.unique(np.stack((row, groups.call[inside])), axis=1)[0]
    keys = [(stage_names[pair // len(groups.names)], groups.names[pair % len(groups.names)]) for pair in pairs.tolist()]
    return _Costs(keys, sums, np.bincount(calls, minlength=len(pairs)))


def _settings(before: Trace, after: Trace) -> Iterable[str]:
    """What the two captures say of themselves and don't agree on."""
    sides = [trace.metadata for trace in (before, after)]
    first, second = sides
    if first is None or second is None:
        return
    pairs = [(name, getattr(first.run, name), getattr(second.run, name)) for name in _IDENTITY]
    pairs += [(name, getattr(first.environment, name), getattr(second.environment, name)) for name in _ENVIRONMENT]
    known = {name for name, _, _ in pairs} | _INCIDENTAL
    options = [name for name in dict.fromkeys([*first.config, *second.config]) if name not in known]
    pairs += [(name, first.config.get(name), second.config.get(name)) for name in options]
    for name, one, other in pairs:
        if one != other:
            yield f"{name}: {'none' if one is None else one} → {'none' if other is None else other}"
