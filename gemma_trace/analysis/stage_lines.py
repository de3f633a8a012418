"""A stage with all that is said of it: its time, its timings without the profiler, its floor, and what binds it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gemma_trace.analysis.bindings import Binding
from gemma_trace.analysis.reasons import Kind
from gemma_trace.analysis.roofline.floor_sums import FloorSum
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.analysis.timeline import StageTime
from gemma_trace.stages import Stage


@dataclass(frozen=True)
class StageLine:
    """A stage of one request, or of several summed up.

    Attributes:
        row: its times.
        share: its part of the wall time, from 0 to 1; None where that is 0.
        timed: over the requests without the profiler, up to the first token, in ms; None where there are none.
        floor: the least that its work takes; None where that isn't known.
        binding: what binds it; None where its time isn't split.
    """

    row: StageTime
    share: float | None
    timed: Distribution | None = None
    floor: FloorSum | None = None
    binding: Binding | None = None

    @property
    def share_pct(self) -> float | None:
        """The share of the wall time, in percent."""
        return None if self.share is None else 100 * self.share

    @property
    def profiler_ns(self) -> int:
        """The part of its time in which the profiler delayed it."""
        return self.binding.reason.by_kind_ns(Kind.PROFILER) if self.binding else 0


def stage_lines(
    rows: Iterable[StageTime],
    wall_ns: int,
    run: RunSummary,
    bindings: Sequence[Binding] = (),
    floors: Mapping[str, FloorSum] | None = None,
) -> tuple[StageLine, ...]:
    """The lines of a table of stages, one per row.

    Args:
        wall_ns: of the same requests.
        run: the same trace summed up, for its timed pass.
        bindings: what binds the stages, of the same requests.
        floors: by stage.
    """
    bound = {binding.reason.stage: binding for binding in bindings}
    return tuple(
        StageLine(
            row,
            row.time_ns / wall_ns if wall_ns else None,
            timed_of(run, row.stage),
            (floors or {}).get(row.stage),
            bound.get(row.stage),
        )
        for row in rows
    )


def timed_of(run: RunSummary, stage: str) -> Distribution | None:
    """What a stage took without the profiler; None without a timed pass.

    The measure called preprocessing is the whole processor call; the stage is what its parts leave, so it has none.
    """
    is_known = run.timing == "timed" and stage != Stage.PREPROCESSING
    return run.measures.get(f"{stage}_ms") if is_known else None
