"""The floors of a trace's stages, summed up over the requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
from gemma_trace.analysis.roofline.devices import DevicePeaks, device_peaks
from gemma_trace.analysis.roofline.floors import StageFloor, stage_floors
from gemma_trace.peaks import Peaks
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class FloorSum:
    """A stage's floors, summed up over the requests.

    Attributes:
        requests: how many.
        floor_ns: the least time that its work takes; None where that of one request isn't known.
        measured_ns: what it took.
        compute_ns, memory_ns: what its FLOPs and its bytes take, each alone.
        covered_pct: the share of its work that ops with a cost take.
        by_config: whether the work of a request was counted from the model's config.
    """

    stage: str
    requests: int
    flops: float
    bytes: float
    floor_ns: float | None
    measured_ns: int
    compute_ns: float
    memory_ns: float
    covered_pct: float
    by_config: bool

    @property
    def mean_floor_ns(self) -> float | None:
        """The floor per request; None where there is none above 0."""
        return self.floor_ns / self.requests if self.floor_ns else None

    @property
    def mean_flops(self) -> float:
        """The FLOPs per request."""
        return self.flops / self.requests

    @property
    def mean_bytes(self) -> float:
        """The bytes per request."""
        return self.bytes / self.requests

    @property
    def distance(self) -> float | None:
        """Measured over floor; None without a floor."""
        return self.measured_ns / self.floor_ns if self.floor_ns else None

    @property
    def bound(self) -> Literal["compute", "memory"] | None:
        """Which of the two takes longer; None without a floor."""
        if not self.floor_ns:
            return None
        return "compute" if self.compute_ns >= self.memory_ns else "memory"

    @property
    def tflop_per_s(self) -> float | None:
        """The rate that was achieved, in 10¹² FLOP per second; None where it took no time."""
        seconds = self.measured_ns / 1e9
        return self.flops / 1e12 / seconds if seconds else None

    @property
    def gb_per_s(self) -> float | None:
        """The rate that was achieved, in 10⁹ bytes per second; None where it took no time."""
        seconds = self.measured_ns / 1e9
        return self.bytes / 1e9 / seconds if seconds else None


@dataclass(frozen=True)
class Floors:
    """The floors of a breakdown.

    Attributes:
        floors: one per request and stage.
        device: what they were held against.
        sums: the same by stage.
    """

    floors: tuple[StageFloor, ...]
    device: DevicePeaks
    sums: tuple[FloorSum, ...]

    @property
    def by_stage(self) -> dict[str, FloorSum]:
        """The sums by the stage's name."""
        return {floor.stage: floor for floor in self.sums}

    @property
    def are_known(self) -> bool:
        """Whether any stage has a floor."""
        return any(floor.floor_ns for floor in self.sums)

    @property
    def on_device(self) -> bool:
        """Whether they are of a device, and not of the host."""
        return any(floor.on == "device" for floor in self.floors)


def floors_of(trace: Trace, breakdown: StageBreakdown, user_peaks: Sequence[Peaks] = ()) -> Floors:
    """The floors of a breakdown's stages.

    Args:
        user_peaks: the user's own peaks.
    """
    device = device_peaks(trace, user_peaks)
    floors = tuple(stage_floors(trace, breakdown, device.peaks))
    return Floors(floors, device, tuple(summed_floors(floors)))


def request_floors(trace: Trace, request: int | Request | None = None, user_peaks: Sequence[Peaks] = ()) -> Floors:
    """The floors of one request's stages; of all requests for None.

    Raises:
        InputError: there is no such request.
    """
    return floors_of(trace, breakdown(trace, request), user_peaks)


def summed_floors(floors: Iterable[StageFloor]) -> list[FloorSum]:
    """The floors summed up by stage."""
    by_stage: dict[str, list[StageFloor]] = {}
    for floor in floors:
        by_stage.setdefault(floor.stage, []).append(floor)
    return [_sum(stage, each) for stage, each in by_stage.items()]


def _sum(stage: str, floors: Sequence[StageFloor]) -> FloorSum:
    measured = sum(floor.measured_ns for floor in floors)
    known = [floor.floor_ns for floor in floors if floor.floor_ns is not None]
    return FloorSum(
        stage=stage,
        requests=len(floors),
        flops=sum(floor.flops for floor in floors),
        bytes=sum(floor.bytes for floor in floors),
        floor_ns=sum(known) if len(known) == len(floors) else None,
        measured_ns=measured,
        compute_ns=sum(floor.compute_ns or 0 for floor in floors),
        memory_ns=sum(floor.memory_ns or 0 for floor in floors),
        covered_pct=sum(floor.covered_pct * floor.measured_ns for floor in floors) / measured if measured else 0.0,
        by_config=any(floor.floor_source == "config" for floor in floors),
    )
