"""The result of a comparison: a row per stage, family, op and kernel, and what the two sides are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from gemma_trace.analysis.noise import NoiseFloor
from gemma_trace.analysis.sides import Level
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.errors import InputError
from gemma_trace.tabular import Tabular

ChangeStatus = Literal["same", "slower", "faster", "new", "vanished"]
Timing = Literal["timed", "profiled"]


@dataclass(frozen=True)
class Change:
    """One row of a comparison. Differences are after less before, so what got slower is above zero.

    Attributes:
        level: what the row is of.
        stage: `ttft`, `tpot` and `wall` are measures beside the stages.
        name: the family, the op with its shapes, or the kernel; "" of a stage.
        before, after: in ms, a value per request; of several processes a value per process, the median of its requests.
            None where that side has no such row.
        before_count, after_count: calls or activities per request; None of a stage.
        difference_ms: of the medians of requests, or of the means over processes; a side that has no such row is 0.
        interval_ms: 95% interval of the difference. With one process per side it leaves out what processes differ by.
            None where there are too few values.
        p_value: of no difference, by Holm's adjustment over the rows of its level; None with one process on a side.
        processes: how many each side has.
        status: `slower` and `faster` where the difference is 1% and certain.
    """

    level: Level
    stage: str
    name: str
    before: Distribution | None
    after: Distribution | None
    before_count: float | None
    after_count: float | None
    difference_ms: float
    interval_ms: tuple[float, float] | None
    p_value: float | None
    processes: tuple[int, int]
    status: ChangeStatus

    @property
    def before_ms(self) -> float:
        """The value before: the median over the requests, or the mean over the processes; 0 if there is none."""
        if self.before is None:
            return 0.0
        return self.before.mean if self.is_between_processes else self.before.median

    @property
    def after_ms(self) -> float:
        """The value after, likewise."""
        if self.after is None:
            return 0.0
        return self.after.mean if self.is_between_processes else self.after.median

    @property
    def is_between_processes(self) -> bool:
        """Whether both sides are several processes."""
        return min(self.processes) > 1

    @property
    def relative_pct(self) -> float | None:
        """The difference as a share of what was before; None where that is nothing."""
        return 100 * self.difference_ms / self.before_ms if self.before_ms else None


@dataclass(frozen=True, repr=False)
class TraceDiff(Tabular):
    """Two sides compared.

    Attributes:
        names: what the sides are called.
        befores, afters: the processes of the two sides, summed up; one or more.
        is_paired: process i of one side ran in the same round as process i of the other.
        timing: `timed` where all have requests that ran without the profiler, else `profiled`; of the stages. What is
            inside of them always comes from the profiled requests.
        stages: TTFT, where a request has none the wall time, then the stages in order, then TPOT.
        inside: families, ops and kernels, each by the size of its difference.
        settings: what was configured differently, e.g. "image_backend: torchvision → pil".
        noise: what a difference has to exceed where a side is one process.
    """

    names: tuple[str, str]
    befores: tuple[RunSummary, ...]
    afters: tuple[RunSummary, ...]
    is_paired: bool
    timing: Timing
    stages: tuple[Change, ...]
    inside: tuple[Change, ...]
    settings: tuple[str, ...]
    noise: NoiseFloor

    @property
    def label(self) -> str:
        """The names of the two sides, for people."""
        return " → ".join(self.names) if self.names[0] != self.names[1] else f"{self.names[0]}, before → after"

    @property
    def before(self) -> RunSummary:
        """The first process of the side before."""
        return self.befores[0]

    @property
    def after(self) -> RunSummary:
        """The first process of the side after."""
        return self.afters[0]

    @property
    def is_between_processes(self) -> bool:
        """Whether run-to-run variation is in the intervals."""
        return min(len(self.befores), len(self.afters)) > 1

    @property
    def changed(self) -> tuple[Change, ...]:
        """The rows that aren't the same, of all levels."""
        return tuple(change for change in (*self.stages, *self.inside) if change.status != "same")

    def of_stage(self, stage: str, *, with_request: bool = False) -> TraceDiff:
        """The rows of one stage alone, and what is inside of it.

        Args:
            with_request: keep the rows of the whole request, too: TTFT and the wall time.

        Raises:
            InputError: neither side has it.
        """
        stages = tuple(change for change in self.stages if change.stage == stage)
        inside = tuple(change for change in self.inside if change.stage == stage)
        if not stages and not inside:
            known = ", ".join(change.stage for change in self.stages) or "none"
            raise InputError(f"{self.label} has no stage {stage!r}; it has {known}")
        if with_request:
            stages = tuple(change for change in self.stages if change.stage in ("ttft", "wall", stage))
        return replace(self, stages=stages, inside=inside)

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"{self.label}: {len(self.changed)} of {len(self.stages) + len(self.inside)} rows changed"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per stage, then one per family, op and kernel."""
        for change in (*self.stages, *self.inside):
            low, high = change.interval_ms or (None, None)
            yield {
                "level": change.level,
                "stage": change.stage,
                "name": change.name,
                "before_ms": change.before_ms if change.before else None,
                "after_ms": change.after_ms if change.after else None,
                "difference_ms": change.difference_ms,
                "relative_pct": change.relative_pct,
                "interval_low_ms": low,
                "interval_high_ms": high,
                "p_value": change.p_value,
                "status": change.status,
            }
