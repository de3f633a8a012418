"""When everything of a job of many ranks happens, in true time and exact in integer ns: its discrete model.

The host of a rank launches a segment's kernels, one every `OP_EVERY_NS`, and then its collective. A kernel starts when
it is launched and the one before it is done. A collective starts on each rank when it is launched and that rank's
kernels are done, and it ends on all ranks of its group together: when the last of them has started, and the transfer
is over. The next kernels wait for it, and at the end of a step the host waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from gemma_trace.trace.events import IntArray
from tests.benchmarks.rank_plan import ELEMENT_BYTES, ClockOffset, Collective, Job, Segment, SlowLink

START_NS: Final = 1_419_116_104_507_840
"""Where the first step starts, after the base of all times."""

STEP_GAP_NS: Final = 50_000
EDGE_NS: Final = 1_000
"""Between a range's edge and what is inside."""

OP_EVERY_NS: Final = 10_000
OP_NS: Final = 9_500
LAUNCH_AFTER_NS: Final = 4_000
"""From an op's start to the start of its launch."""

LAUNCH_NS: Final = 5_000
TO_DEVICE_NS: Final = 2_000
"""From a launch's end to the earliest start of its kernel."""

COLLECTIVE_NS: Final = 40_000
"""Of the host, to launch a collective."""

COLLECTIVE_LAUNCH_AFTER_NS: Final = 20_000
COLLECTIVE_LAUNCH_NS: Final = 8_000
SYNC_NS: Final = 3_000
"""Of the host, to notice that the device is done."""


@dataclass(frozen=True)
class Groups:
    """Process groups of the same size, next to each other or across.

    Attributes:
        members: int64 [groups, size], the ranks of each.
        first_name: the name of the first one is this number; those of the others follow it.
        description: what torch calls them.
    """

    members: IntArray
    first_name: int
    description: str

    def number(self, rank: int) -> int:
        """Which of the groups a rank is in."""
        return int(np.flatnonzero((self.members == rank).any(axis=1))[0])

    def name(self, rank: int) -> str:
        """The name of the group that a rank is in."""
        return str(self.first_name + self.number(rank))

    def ranks(self, rank: int) -> list[int]:
        """The ranks of the group that a rank is in."""
        return [int(member) for member in self.members[self.number(rank)]]


def all_groups(job: Job) -> list[Groups]:
    """The default group, and, in a job with groups, the tensor-parallel and the data-parallel ones."""
    every = np.arange(job.ranks)
    found = [Groups(every.reshape(1, -1), 0, "default_pg")]
    if job.group_size:
        square = every.reshape(-1, job.group_size)
        found.append(Groups(square, 1, "tensor_parallel"))
        found.append(Groups(np.ascontiguousarray(square.T), 1 + len(square), "data_parallel"))
    return found


def groups_of(job: Job, segment: Segment) -> Groups:
    """The groups whose ranks a segment's collective joins."""
    groups = all_groups(job)
    if not job.group_size:
        return groups[0]
    return groups[2] if segment.stage.across else groups[1]


@dataclass(frozen=True)
class Schedule:
    """When everything happens, in true time: int64, [steps, segments, ranks] unless it says otherwise.

    Attributes:
        range_ns: where a stage's range starts, of its first segment.
        ops_ns, host_end_ns: where the host's ops start, and where it has launched all of the segment.
        free_ns: when the device may start the segment's kernels.
        compute_end_ns: when they are done.
        collective_start_ns, collective_end_ns: of the collective's kernel on this rank.
        step_start_ns, sync_ns, step_end_ns: [steps, ranks], a step, and where its host starts to wait for the device.
    """

    range_ns: IntArray
    ops_ns: IntArray
    host_end_ns: IntArray
    free_ns: IntArray
    compute_end_ns: IntArray
    collective_start_ns: IntArray
    collective_end_ns: IntArray
    step_start_ns: IntArray
    sync_ns: IntArray
    step_end_ns: IntArray

    def of(self, rank: int) -> Schedule:
        """That of one rank, without the last axis."""
        return Schedule(*(np.ascontiguousarray(getattr(self, field.name)[..., rank]) for field in fields(self)))


def simulate(job: Job) -> Schedule:
    """Run the job."""
    run = _Run(job)
    for step in range(job.steps):
        run.step(step)
    return run.schedule


class _Run:
    """A job that runs: its schedule so far, and what the time is for each rank's host and each of its streams."""

    def __init__(self, job: Job) -> None:
        segments, ranks = len(job.segments), job.ranks
        a_segment = [np.zeros((job.steps, segments, ranks), np.int64) for _ in range(7)]
        a_step = [np.zeros((job.steps, ranks), np.int64) for _ in range(3)]
        self.schedule = Schedule(*a_segment, *a_step)
        self._job = job
        self._members = [groups_of(job, segment).members for segment in job.segments]
        self._transfers = [_transfer_ns(job, segment) for segment in job.segments]
        self._host = self._compute = self._communication = np.full(ranks, START_NS, np.int64)

    def step(self, step: int) -> None:
        """Run a step on all ranks."""
        schedule = self.schedule
        self._host = schedule.step_start_ns[step] = self._host + STEP_GAP_NS
        lengths = np.stack([self._job.kernel_ns(rank, step) for rank in range(self._job.ranks)])
        for place, segment in enumerate(self._job.segments):
            own, at = lengths[:, segment.lengths], (step, place)
            if segment.first:
                schedule.range_ns[at] = self._host + EDGE_NS
                self._host = self._host + 2 * EDGE_NS + self._job.late_ns(segment.stage.name, step)
            schedule.ops_ns[at], schedule.free_ns[at] = self._host, self._compute
            if segment.stage.collective is None:
                self._host = self._host + own.sum(axis=1)
            else:
                self._launch_all(segment, own, at)
            schedule.host_end_ns[at] = self._host
            if segment.last:
                self._host = self._host + EDGE_NS
        self._wait_for_device(step)

    def _launch_all(self, segment: Segment, lengths: IntArray, at: tuple[int, int]) -> None:
        """Run a segment's kernels and its collective."""
        self._compute = kernel_ends_ns(self._host, self._compute, lengths)[:, -1]
        self.schedule.compute_end_ns[at] = self._compute
        called = self._host + OP_EVERY_NS * segment.kernels
        arrives = called + COLLECTIVE_LAUNCH_AFTER_NS + COLLECTIVE_LAUNCH_NS + TO_DEVICE_NS
        starts = np.maximum(np.maximum(self._compute, arrives), self._communication)
        ends, members = np.empty_like(starts), self._members[at[1]]
        ends[members] = (starts[members].max(axis=1) + self._transfers[at[1]])[:, None]
        self.schedule.collective_start_ns[at], self.schedule.collective_end_ns[at] = starts, ends
        self._communication, self._host = ends, called + COLLECTIVE_NS
        if not self._job.overlap:
            self._compute = ends

    def _wait_for_device(self, step: int) -> None:
        """End a step: the host waits until all of its device's work is done."""
        called = self.schedule.sync_ns[step] = self._host + EDGE_NS
        device = np.maximum(self._compute, self._communication)
        self._host = np.maximum(called, device) + SYNC_NS + EDGE_NS
        self.schedule.step_end_ns[step] = self._host


def kernel_ends_ns(ops_ns: IntArray, free_ns: IntArray, lengths: IntArray) -> IntArray:
    """When each kernel is done: as late as the latest of those before it became ready, and all since then.

    Args:
        ops_ns, free_ns: int64 [ranks], where the ops start, and when the device is free.
        lengths: int64 [ranks, kernels].

    Returns:
        int64 [ranks, kernels].
    """
    launched = LAUNCH_AFTER_NS + LAUNCH_NS + TO_DEVICE_NS + OP_EVERY_NS * np.arange(lengths.shape[1])
    ready = np.maximum(ops_ns[:, None] + launched, free_ns[:, None])
    done = np.cumsum(lengths, axis=1)
    ends: IntArray = np.maximum.accumulate(ready - (done - lengths), axis=1) + done
    return ends


def _transfer_ns(job: Job, segment: Segment) -> IntArray:
    """How long the segment's collective takes once all are there: int64 [groups]."""
    groups = groups_of(job, segment)
    if segment.stage.collective is None:
        return np.zeros(len(groups.members), np.int64)
    size = groups.members.shape[1]
    received = max(splits(job, segment, size)) * size * ELEMENT_BYTES
    bus_bytes = {
        Collective.ALL_REDUCE: 2 * (size - 1) * segment.stage.elements * ELEMENT_BYTES // size,
        Collective.ALL_GATHER: (size - 1) * segment.stage.elements * ELEMENT_BYTES,
        Collective.ALL_TO_ALL: (size - 1) * received // size,
    }[segment.stage.collective]
    exact = job.latency_ns + round(bus_bytes / job.gigabytes_per_second)
    times = np.full(len(groups.members), exact, np.int64)
    for fault in job.of_kind(SlowLink):
        slow = np.isin(groups.members, fault.ranks).sum(axis=1) == len(fault.ranks)
        times[slow] = np.rint(times[slow] * fault.factor).astype(np.int64)
    return times


def splits(job: Job, segment: Segment, size: int) -> list[int]:
    """How many elements every rank of a group sends to each of its `size` ranks, in an all-to-all."""
    weights = 1 + job.alltoall_skew * np.arange(size) / max(size - 1, 1)
    return [int(share) for share in segment.stage.elements * weights / weights.sum()]


def clock_ns(job: Job, rank: int, true_ns: IntArray) -> IntArray:
    """What a rank's clock shows at these times, after the base of the first host's: int64, of the same shape."""
    shown = true_ns.copy()
    for fault in job.of_kind(ClockOffset):
        if fault.of(rank):
            shown += fault.offset_ns + (true_ns - START_NS) * round(fault.drift_ppm * 1000) // 1_000_000_000
    return shown
