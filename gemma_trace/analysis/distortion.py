"""How much longer each stage takes under the profiler: the profiled pass of a capture beside its timed one."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.metadata import RunMetadata

LEAST_SHARE: Final = 0.01
"""A stage with a smaller share of the timed request says nothing of the profiler: its own spread is as large."""


@dataclass(frozen=True)
class StageDistortion:
    """One stage on the host's clock, without the stages nested in it, in both passes.

    Attributes:
        timed_ns: median without the profiler, over the requests with the same images.
        profiled_ns: median under the profiler.
        factor: median over the profiled requests of their time / the median timed one with the same image.
        added_share: what the profiler adds, as a share of the timed request.
        requests: how many profiled requests it is of.
    """

    stage: str
    timed_ns: float
    profiled_ns: float
    factor: float
    added_share: float
    requests: int


def distortions(metadata: RunMetadata, profiled: StageBreakdown) -> tuple[StageDistortion, ...]:
    """The stages that both passes have and that matter, the one that the profiler distorts most first."""
    pairs: dict[str, list[tuple[float, int]]] = {}
    walls = []
    for request, image in zip(profiled.requests, metadata.profiled_images, strict=False):
        alike = [sample for sample in metadata.timed_requests if sample.image == image]
        wall_ns = median(sample.wall_ns for sample in alike) if alike else 0
        if not wall_ns:
            continue
        walls.append(wall_ns)
        for row in profiled.rows:
            times = [sample.stages[row.stage].host_ns for sample in alike if row.stage in sample.stages]
            if row.request == request.index and times and median(times) >= max(1, LEAST_SHARE * wall_ns):
                pairs.setdefault(row.stage, []).append((median(times), row.host_ns))
    distorted = []
    for stage, of_stage in pairs.items():
        timed_ns, profiled_ns = (median(values) for values in zip(*of_stage, strict=True))
        factor = median(under / without for without, under in of_stage)
        added = (profiled_ns - timed_ns) / median(walls)
        distorted.append(StageDistortion(stage, timed_ns, profiled_ns, factor, added, len(of_stage)))
    return tuple(sorted(distorted, key=lambda each: -each.factor))
