"""What changed between two sides: stages, and inside of them families, ops and kernels.

A side is one process or several of one configuration. Rows are matched by what they are: the stage; the stage and the
family; the stage, the op and its shapes; the stage and the kernel. What is called slower or faster has to be certain:
of several processes by an interval that has the variation between them in it, with the false alarms of all stages
together held at 5%; of one process per side by a noise floor. See `nested.py` and `noise.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gemma_trace.analysis.changes import Change, ChangeStatus, Timing, TraceDiff
from gemma_trace.analysis.gpu_settings import differing_gpus
from gemma_trace.analysis.nested import LEVEL, difference, holm
from gemma_trace.analysis.noise import NoiseFloor
from gemma_trace.analysis.sides import INSIDE, Costs, Level, Side, side_of
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.structure import merged_trees, paired_trees
from gemma_trace.arguments import checked
from gemma_trace.errors import ConfigError
from gemma_trace.metadata import RunMetadata
from gemma_trace.trace.trace import Trace

LEAST_CHANGE: Final = 0.01
"""A smaller difference than this share of what was before is called the same."""

LEAST_SHARE: Final = 0.001
"""A difference inside a stage that is less than this share of the whole request is called the same."""

STRUCTURE: Final = "structure"
"""The level of rows that call trees were matched for, not names."""

_IDENTITY: Final = ("model", "weights", "dtype", "device", "image_backend")
_ENVIRONMENT: Final = ("torch", "torchvision", "transformers", "python", "device_name", "driver", "cuda", "host_cpu")
_INCIDENTAL: Final = frozenset({"output", "name", "force", "quiet"})


@checked
def diff(before: Trace | Sequence[Trace], after: Trace | Sequence[Trace], *, paired: bool = False) -> TraceDiff:
    """Compare two traces, or several processes of one configuration with several of another.

    Args:
        paired: trace i of the two sides ran in one round.

    Raises:
        ConfigError: a side is empty, or paired sides don't have as many traces.

    >>> diff(load("traces/torchvision"), load("traces/pil")).changed[0].stage      # doctest: +SKIP
    'ttft'
    """
    sides = [[side] if isinstance(side, Trace) else list(side) for side in (before, after)]
    return diff_sides(*([side_of(trace) for trace in side] for side in sides), paired=paired)


def diff_sides(
    before: Sequence[Side],
    after: Sequence[Side],
    *,
    paired: bool = False,
    noise: NoiseFloor | None = None,
    names: tuple[str, str] | None = None,
) -> TraceDiff:
    """Compare what was taken of two sides' processes.

    Args:
        paired: process i of the two sides ran in one round.
        noise: what a difference has to exceed where a side is one process.
        names: what the sides are called; without, what their first runs are.

    Raises:
        ConfigError: a side is empty, or paired sides don't have as many processes.
    """
    if not before or not after:
        raise ConfigError("a comparison requires a trace on both sides")
    if paired and len(before) != len(after):
        raise ConfigError(f"paired rounds require as many traces on both sides, not {len(before)} and {len(after)}")
    sides = (before, after)
    compared = _Comparison(sides, paired and len(before) > 1, noise or NoiseFloor())
    timing: Timing = "timed" if all(side.timed_ms for processes in sides for side in processes) else "profiled"
    inside: list[Change] = []
    for level in (*(level for level, _ in INSIDE), STRUCTURE):
        unjudged = compared.structure() if level == STRUCTURE else compared.inside(level)
        rows = _judged(unjudged, compared.noise, compared.whole_ms)
        inside += sorted(rows, key=lambda change: -abs(change.difference_ms))
    return TraceDiff(
        names=names or (before[0].run.run, after[0].run.run),
        befores=tuple(side.run for side in before),
        afters=tuple(side.run for side in after),
        is_paired=compared.paired,
        timing=timing,
        stages=tuple(_judged(compared.stages(timing), compared.noise, compared.whole_ms)),
        inside=tuple(inside),
        settings=(
            *_settings(before[0].metadata, after[0].metadata),
            *differing_gpus(*([process.metadata for process in side] for side in sides)),
        ),
        noise=compared.noise,
    )


@dataclass(frozen=True)
class _Comparison:
    """Two sides, row by row; what is certain is judged once all rows of a level are there."""

    sides: tuple[Sequence[Side], Sequence[Side]]
    paired: bool
    noise: NoiseFloor

    @property
    def whole_ms(self) -> float:
        """The mean length of a request, of the longer side."""
        return max(side.wall_ms for each in self.sides for side in each)

    def stages(self, timing: Timing) -> list[Change]:
        """A row per stage and measure."""
        values = [[side.timed_ms if timing == "timed" else side.profiled_ms for side in each] for each in self.sides]
        names = _merged_order(*(list(dict.fromkeys(name for side in each for name in side)) for each in values))
        # Where a side has no first token, or not every time, the wall time is what can be compared.
        with_wall = any(len(side.get("ttft", ())) < len(side.get("wall", ())) for each in values for side in each)
        return [
            self._row("stage", (name, ""), [[side.get(name, ()) for side in each] for each in values], 0.0)
            for name in names
            if with_wall or name != "wall"
        ]

    def inside(self, level: Level) -> list[Change]:
        """A row per family, op or kernel of a stage; of the host for stages that give the device nothing."""
        busy = frozenset[str]().union(*(side.device_stages for each in self.sides for side in each))
        least_ms = LEAST_SHARE * self.whole_ms
        rows = []
        for costs, without in (
            ([[side.device.get(level) for side in each] for each in self.sides], frozenset[str]()),
            ([[side.host.get(level) for side in each] for each in self.sides], busy),
        ):
            known = [[cost for cost in each if cost] for each in costs]
            for key in dict.fromkeys(key for each in known for cost in each for key in cost.places):
                if key[0] not in without:
                    samples = [[cost.values_ms(key) for cost in each] for each in known]
                    rows.append(self._row(level, key, samples, least_ms, [_mean_count(each, key) for each in known]))
        return rows

    def structure(self) -> list[Change]:
        """A row per piece of work of the call trees, under whichever name; means over the requests of all processes."""
        trees = [[side.tree for side in each if side.tree] for each in self.sides]
        if not all(trees):
            return []
        before, after = (merged_trees(each) for each in trees)
        requests = [sum(side.requests for side in each) for each in self.sides]
        rows = []
        for pair in paired_trees(before, after):
            before_ms, after_ms = pair.before_ns / requests[0] / 1e6, pair.after_ns / requests[1] / 1e6
            if pair.is_alike and abs(after_ms - before_ms) < LEAST_SHARE * self.whole_ms:
                continue
            samples = (
                Distribution((before_ms,), "ms") if pair.before else None,
                Distribution((after_ms,), "ms") if pair.after else None,
            )
            rows.append(
                Change(
                    level=STRUCTURE,
                    stage=pair.path[0],
                    name=pair.name,
                    before=samples[0],
                    after=samples[1],
                    before_count=pair.before_count / requests[0],
                    after_count=pair.after_count / requests[1],
                    difference_ms=after_ms - before_ms,
                    interval_ms=None,
                    p_value=None,
                    processes=(1, 1),
                    status=_one_sided(samples, (before_ms, after_ms), LEAST_SHARE * self.whole_ms),
                )
            )
        return rows

    def _row(
        self,
        level: Level,
        key: tuple[str, str],
        samples: Sequence[Sequence[tuple[float, ...]]],
        least_ms: float,
        counts: Sequence[float | None] = (None, None),
    ) -> Change:
        """A row that isn't judged yet. A process without it has spent nothing on it, unless none of its side has it."""
        several = min(len(side) for side in samples) > 1
        sides = [_sample(side, several=several) for side in samples]
        measured = None
        if sides[0] and sides[1]:
            given = [[values or (0.0,) for values in side] for side in samples]
            cheap = abs(_center(sides[1], several=several) - _center(sides[0], several=several)) < least_ms
            measured = None if cheap else difference(*given, paired=self.paired)
        apart = [0.0 if side is None else _center(side, several=several) for side in sides]
        return Change(
            level=level,
            stage=key[0],
            name=key[1],
            before=sides[0],
            after=sides[1],
            before_count=counts[0],
            after_count=counts[1],
            difference_ms=measured.value if measured else apart[1] - apart[0],
            interval_ms=measured.interval if measured else None,
            p_value=measured.p_value if measured else None,
            processes=(len(samples[0]), len(samples[1])),
            status=_one_sided(sides, apart, least_ms),
        )


def _one_sided(sides: Sequence[Distribution | None], centers: Sequence[float], least_ms: float) -> ChangeStatus:
    if (sides[0] is None) == (sides[1] is None) or abs(centers[1] - centers[0]) < least_ms or not any(centers):
        return "same"
    return "new" if sides[0] is None else "vanished"


def _sample(processes: Sequence[tuple[float, ...]], *, several: bool) -> Distribution | None:
    """A side: its requests, or its processes' medians; None where no process has any value."""
    if not any(processes):
        return None
    if not several:
        return Distribution(tuple(value for values in processes for value in values), "ms")
    medians = [Distribution(values, "ms").median if values else 0.0 for values in processes]
    return Distribution(tuple(medians), "ms")


def _center(side: Distribution, *, several: bool) -> float:
    return side.mean if several else side.median


def _mean_count(costs: Sequence[Costs], key: tuple[str, str]) -> float:
    return sum(cost.count(key) for cost in costs) / len(costs) if costs else 0.0


def _judged(rows: Sequence[Change], noise: NoiseFloor, whole_ms: float) -> Iterable[Change]:
    """The rows of one level with what is certain of them."""
    for row, p_value in zip(rows, holm([row.p_value for row in rows]), strict=True):
        judged = replace(row, p_value=p_value)
        if row.status == "same" and row.before and row.after:
            judged = replace(judged, status=_status(judged, noise, whole_ms))
        yield judged


def _status(row: Change, noise: NoiseFloor, whole_ms: float) -> ChangeStatus:
    if not row.difference_ms or abs(row.difference_ms) < LEAST_CHANGE * row.before_ms:
        return "same"
    if row.is_between_processes:
        certain = row.p_value is not None and row.p_value < 1 - LEVEL
    else:
        clear = row.interval_ms is None or row.interval_ms[0] > 0 or row.interval_ms[1] < 0
        certain = clear and abs(row.difference_ms) > noise.limit_ms(row.stage, row.before_ms, whole_ms)
    if not certain:
        return "same"
    return "slower" if row.difference_ms > 0 else "faster"


def _merged_order(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """All names; what only the second has comes before the name that follows it there."""
    merged = list(first)
    for place, name in reversed(list(enumerate(second))):
        if name not in merged:
            following = next((later for later in second[place + 1 :] if later in merged), None)
            merged.insert(merged.index(following) if following else len(merged), name)
    return merged


def _settings(first: RunMetadata | None, second: RunMetadata | None) -> Iterable[str]:
    """What the two captures say of themselves and don't agree on."""
    if first is None or second is None:
        return
    pairs = [(name, getattr(first.run, name), getattr(second.run, name)) for name in _IDENTITY]
    pairs += [(name, getattr(first.environment, name), getattr(second.environment, name)) for name in _ENVIRONMENT]
    known = {name for name, _, _ in pairs} | _INCIDENTAL
    options = [name for name in dict.fromkeys([*first.config, *second.config]) if name not in known]
    pairs += [(name, first.config.get(name), second.config.get(name)) for name in options]
    for name, earlier, later in pairs:
        if earlier != later:
            yield f"{name}: {'none' if earlier is None else earlier} → {'none' if later is None else later}"
