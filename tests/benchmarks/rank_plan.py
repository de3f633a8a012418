"""What a job of many ranks does, and what is wrong with it: the parameters of `rank_job`. All times are integer ns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final, TypeVar

import numpy as np

from gemma_trace.trace.events import IntArray

HOST_DEVICES: Final = 8
"""Devices of a host, and so ranks."""

ELEMENT_BYTES: Final = 2
"""Of bfloat16, the data type of all messages."""


@dataclass(frozen=True)
class CollectiveNames:
    """How a collective is called in its events.

    Attributes:
        recorded: its argument "Collective name".
        op, annotation, kernel: the names of the op, of the range that torch opens, and of the kernel.
    """

    recorded: str
    op: str
    annotation: str
    kernel: str


class Collective(Enum):
    """A collective operation."""

    ALL_REDUCE = CollectiveNames(
        "allreduce",
        "c10d::allreduce_",
        "nccl:all_reduce",
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
    )
    ALL_GATHER = CollectiveNames(
        "_allgather_base",
        "c10d::_allgather_base_",
        "nccl:_all_gather_base",
        "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
    )
    ALL_TO_ALL = CollectiveNames(
        "all_to_allv",
        "c10d::alltoall_base_",
        "nccl:all_to_all",
        "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)",
    )


@dataclass(frozen=True)
class StagePlan:
    """A stage of every step.

    Attributes:
        name: of its range, without a prefix.
        kernel_ns: of one kernel, without noise and faults; of one op of the host where there is no collective.
        collective: what ends each of its segments; None for a stage of the host, which gives the device no work.
        elements: that each rank puts into the collective.
        segments: so often kernels and a collective follow each other.
        across: whether the collective joins the data-parallel group, where there are groups.
    """

    name: str
    kernel_ns: int
    collective: Collective | None = None
    elements: int = 0
    segments: int = 1
    across: bool = False


STAGES: Final = (
    StagePlan("preprocessing", 40_000),
    StagePlan("vision_tower", 14_000, Collective.ALL_GATHER, 589_824, across=True),
    StagePlan("projector", 12_000, Collective.ALL_TO_ALL, 655_360),
    StagePlan("prefill", 16_000, Collective.ALL_REDUCE, 1_310_720),
    StagePlan("decode", 11_000, Collective.ALL_REDUCE, 2_560),
)


@dataclass(frozen=True)
class SlowRank:
    """A rank's kernels of a stage are longer by exactly `delay_ns` in sum, in each of the steps.

    Attributes:
        stage: one of the host is slow on the host.
        steps: those in which it is slow; None for all.
    """

    rank: int
    stage: str
    delay_ns: int
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LateLaunch:
    """A rank's host sleeps for `delay_ns` inside the stage's range, before its first op; `steps` as of `SlowRank`."""

    rank: int
    stage: str
    delay_ns: int
    steps: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SlowLink:
    """Transfers are longer by a factor in all groups that have all of these ranks."""

    ranks: tuple[int, ...]
    factor: float


@dataclass(frozen=True)
class ClockOffset:
    """A clock that is ahead of the true time, and gains on it.

    Attributes:
        offset_ns: how far it is ahead when the job starts.
        drift_ppm: how much faster than the true time it runs.
        host: whose clock it is, or
        rank: the one rank that has it.
    """

    offset_ns: int
    drift_ppm: float = 0.0
    host: int | None = None
    rank: int | None = None

    def of(self, rank: int) -> bool:
        """Whether this rank reads this clock."""
        return self.rank == rank or self.host == host_of(rank)


@dataclass(frozen=True)
class LostRank:
    """A rank that took part and left no trace."""

    rank: int


@dataclass(frozen=True)
class CutFile:
    """A rank whose file ends after a share of its bytes."""

    rank: int
    share: float


Fault = SlowRank | LateLaunch | SlowLink | ClockOffset | LostRank | CutFile
_Fault = TypeVar("_Fault", bound=Fault)


@dataclass(frozen=True)
class Segment:
    """Some kernels and a collective, or some ops of the host; the parts of a step.

    Attributes:
        first, last: whether it begins, and ends, its stage's range.
        start: where its kernels' lengths begin among all of the step's.
    """

    stage: StagePlan
    kernels: int
    first: bool
    last: bool
    start: int

    @property
    def lengths(self) -> slice:
        """Where its kernels' lengths are among all of the step's."""
        return slice(self.start, self.start + self.kernels)


@dataclass(frozen=True)
class Job:
    """A job of many ranks.

    Attributes:
        kernels: of each segment of a stage; a stage of the host has four ops.
        group_size: ranks of a tensor-parallel group, consecutive ones; 0 for one group of all.
        latency_ns, gigabytes_per_second: a transfer takes the latency, and its bus bytes at this rate.
        jitter_pct: the standard deviation of a kernel's length in percent of it, log-normal.
        alltoall_skew: how much more the last rank of a group receives than the first: 1.0 for twice as much.
        overlap: whether the next kernels start without waiting for a collective.
        steps_only: write ranges of `ProfilerStep#N` and of plain names instead of ours.
        sequence_numbers: write the argument "Seq", as newer versions of torch do.
        distributed_info: write the header's `distributedInfo`.
        base_step_ns: how much later each host's `baseTimeNanoseconds` is than that of the host before.
        names: a file's name, with the fields `rank` and `time`.
    """

    ranks: int = 8
    steps: int = 10
    kernels: int = 20
    group_size: int = 0
    stages: tuple[StagePlan, ...] = STAGES
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    latency_ns: int = 12_000
    gigabytes_per_second: float = 80.0
    jitter_pct: float = 0.0
    alltoall_skew: float = 0.0
    overlap: bool = False
    steps_only: bool = False
    sequence_numbers: bool = True
    distributed_info: bool = True
    base_step_ns: int = 0
    names: str = "rank{rank}.{time}.pt.trace.json.gz"

    def __post_init__(self) -> None:
        if self.group_size and self.ranks % self.group_size:
            raise ValueError(f"{self.ranks} ranks can't be groups of {self.group_size}")

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """The parts of a step, in order."""
        found: list[Segment] = []
        start = 0
        for stage in self.stages:
            count = self.kernels if stage.collective else 4
            for number in range(stage.segments):
                found.append(Segment(stage, count, number == 0, number == stage.segments - 1, start))
                start += count
        return tuple(found)

    @cached_property
    def kernel_count(self) -> int:
        """Kernels, and ops of the host's stages, of one step."""
        return sum(segment.kernels for segment in self.segments)

    def of_kind(self, kind: type[_Fault]) -> list[_Fault]:
        """The faults of one kind."""
        return [fault for fault in self.faults if isinstance(fault, kind)]

    def kernel_ns(self, rank: int, step: int) -> IntArray:
        """How long each kernel of a rank's step is: int64 [kernel_count]."""
        lengths = np.repeat(
            [segment.stage.kernel_ns for segment in self.segments], [segment.kernels for segment in self.segments]
        )
        if self.jitter_pct:
            sigma = np.sqrt(np.log1p((self.jitter_pct / 100) ** 2))
            noise = np.random.default_rng((self.seed, rank, step)).lognormal(-(sigma**2) / 2, sigma, len(lengths))
            lengths = np.rint(lengths * noise).astype(np.int64)
        for fault in self.of_kind(SlowRank):
            if fault.rank == rank and (fault.steps is None or step in fault.steps):
                self._slow_down(lengths, fault)
        return lengths

    def _slow_down(self, lengths: IntArray, fault: SlowRank) -> None:
        places = np.concatenate(
            [np.arange(self.kernel_count)[part.lengths] for part in self.segments if part.stage.name == fault.stage]
        )
        each, rest = divmod(fault.delay_ns, len(places))
        lengths[places] += each
        lengths[places[:rest]] += 1

    def late_ns(self, stage: str, step: int) -> IntArray:
        """How long each rank's host sleeps before it launches a stage: int64 [ranks]."""
        late = np.zeros(self.ranks, np.int64)
        for fault in self.of_kind(LateLaunch):
            if fault.stage == stage and (fault.steps is None or step in fault.steps):
                late[fault.rank] += fault.delay_ns
        return late


def host_of(rank: int) -> int:
    """The host that a rank runs on."""
    return rank // HOST_DEVICES
