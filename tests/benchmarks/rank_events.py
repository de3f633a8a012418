"""The trace of one rank of a job, as Kineto writes it on CUDA: the events of what `rank_schedule` found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from gemma_trace.stages import PREFIX
from gemma_trace.trace.events import IntArray
from tests.benchmarks import rank_schedule as times
from tests.benchmarks.rank_plan import HOST_DEVICES, Collective, Job, Segment, host_of
from tests.benchmarks.rank_schedule import Groups, Schedule, all_groups, clock_ns, groups_of, kernel_ends_ns, splits

BASE_NS: Final = 1_751_410_836_000_000_000
"""`baseTimeNanoseconds` of the first host."""

COMPUTE_STREAM: Final = 7
COMMUNICATION_STREAM: Final = 20
_MOST_LISTED: Final = 30
"""Entries of a list that Kineto writes into an event; three dots stand for the rest."""

_KERNEL_NAME: Final = (
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"
    "__5x_cublas"
)
_LAUNCHED: Final = f""",
  {{
    "ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": @PID, "tid": @PID,
    "ts": %d.%03d, "dur": %d.%03d,
    "args": {{
      "External id": %d,"Record function id": 0, "Ev Idx": %d
    }}
  }},
  {{
    "ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": @PID, "tid": @PID,
    "ts": %d.%03d, "dur": %d.%03d,
    "args": {{
      "External id": %d, "cbid": 211, "correlation": %d
    }}
  }},
  {{
    "ph": "s", "id": %d, "pid": @PID, "tid": @PID, "ts": %d.%03d,
    "cat": "ac2g", "name": "ac2g"
  }},
  {{
    "ph": "X", "cat": "kernel", "name": "{_KERNEL_NAME}", "pid": @DEVICE, "tid": {COMPUTE_STREAM},
    "ts": %d.%03d, "dur": %d.%03d,
    "args": {{
      "External id": %d, "queued": 0, "device": @DEVICE, "context": 1,
      "stream": {COMPUTE_STREAM}, "correlation": %d, "registers per thread": 168, "shared memory": 231424,
      "blocks per SM": 0.969697, "warps per SM": 11.636364, "grid": [8, 16, 1], "block": [384, 1, 1],
      "est. achieved occupancy %%": 18
    }}
  }},
  {{
    "ph": "f", "id": %d, "pid": @DEVICE, "tid": {COMPUTE_STREAM}, "ts": %d.%03d,
    "cat": "ac2g", "name": "ac2g", "bp": "e"
  }}"""


def rank_json(job: Job, schedule: Schedule, rank: int) -> Iterator[bytes]:
    """The trace of a rank, a part a step.

    Args:
        schedule: that of this rank alone.
    """
    writer = _RankWriter(job, schedule, rank)
    yield writer.header()
    for step in range(job.steps):
        yield writer.step(step)
    yield writer.footer()


class _RankWriter:
    """Writes one rank's events; times go in as true ones, and come out as its clock shows them."""

    def __init__(self, job: Job, schedule: Schedule, rank: int) -> None:
        self._job, self._schedule, self._rank = job, schedule, rank
        self._device = rank % HOST_DEVICES
        self._pid = 4_000 + self._device
        self._base_step_ns = host_of(rank) * job.base_step_ns
        launched = _LAUNCHED.replace("@PID", str(self._pid)).replace("@DEVICE", str(self._device))
        self._launched = launched.encode()
        self._groups = [groups_of(job, segment) for segment in job.segments]
        self._sequence: dict[str, int] = {}
        self._events = 0

    def header(self) -> bytes:
        """All before the first event, and the events that name processes and threads."""
        job, host = self._job, host_of(self._rank)
        devices = min(HOST_DEVICES, job.ranks - host * HOST_DEVICES)
        top: dict[str, Any] = {
            "schemaVersion": 1,
            "deviceProperties": [
                {"id": device, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936, "numSms": 132}
                for device in range(devices)
            ],
        }
        if job.distributed_info:
            top["distributedInfo"] = self._distributed_info()
        named = [
            self._names("process_name", self._pid, 0, name="python3"),
            self._names("process_labels", self._pid, 0, labels="CPU"),
            self._names("process_sort_index", self._pid, 0, sort_index=self._pid),
            self._names("process_name", self._device, 0, name="python3"),
            self._names("process_labels", self._device, 0, labels=f"GPU {self._device}"),
            self._names("process_sort_index", self._device, 0, sort_index=16_777_216 + self._device),
            self._names("thread_name", self._pid, self._pid, name=f"thread {self._pid} (python3)"),
            self._names("thread_name", self._device, COMPUTE_STREAM, name=f"stream {COMPUTE_STREAM} "),
            self._names("thread_name", self._device, COMMUNICATION_STREAM, name=f"stream {COMMUNICATION_STREAM} "),
        ]
        text = (
            json.dumps(top, indent=2).removesuffix("\n}") + ',\n  "traceEvents": [' + "".join(named).removeprefix(",")
        )
        return text.encode()

    def footer(self) -> bytes:
        """All behind the last event."""
        return (
            f'\n  ],\n  "traceName": "rank{self._rank}.json",\n  "displayTimeUnit": "ms",\n'
            f'  "baseTimeNanoseconds": {BASE_NS + self._base_step_ns}\n}}\n'
        ).encode()

    def step(self, step: int) -> bytes:
        """The events of a step."""
        job, schedule = self._job, self._schedule
        lengths = job.kernel_ns(self._rank, step)
        parts = []
        for place, segment in enumerate(job.segments):
            own = lengths[segment.lengths]
            if segment.stage.collective is None:
                parts.append(self._host_ops(int(schedule.ops_ns[step, place]), own).encode())
            else:
                parts.append(self._kernels(step, place, own))
                parts.append(self._collective(step, place, segment, segment.stage.collective).encode())
            if segment.last:
                parts.append(self._stage(step, place, segment).encode())
        start, end = int(schedule.step_start_ns[step]), int(schedule.step_end_ns[step])
        sync, done = int(schedule.sync_ns[step]), end - times.EDGE_NS
        name = f"ProfilerStep#{step}" if job.steps_only else f"{PREFIX}request"
        parts.append(self._call("cudaStreamSynchronize", 131, sync, done).encode())
        parts.append(self._span("user_annotation", name, start, end, {"External id": self._next()}).encode())
        return b"".join(parts)

    def _kernels(self, step: int, place: int, lengths: IntArray) -> bytes:
        """A segment's ops, launches and kernels."""
        schedule, count = self._schedule, len(lengths)
        op = schedule.ops_ns[step, place] + times.OP_EVERY_NS * np.arange(count)
        ends = kernel_ends_ns(schedule.ops_ns[step, place, None], schedule.free_ns[step, place, None], lengths[None])[0]
        ids = self._next(count) + np.arange(count)
        op_times = self._columns(op, op + times.OP_NS)
        launch = op + times.LAUNCH_AFTER_NS
        launch_times = self._columns(launch, launch + times.LAUNCH_NS)
        kernel_times = self._columns(ends - lengths, ends)
        number = [ids.tolist()]
        columns = [*op_times, *number * 2, *launch_times, *number * 3, *launch_times[:2], *kernel_times, *number * 3]
        template = self._launched
        return b"".join([template % row for row in zip(*columns, *kernel_times[:2], strict=True)])

    def _columns(self, start_ns: IntArray, end_ns: IntArray) -> list[list[int]]:
        """Start and length on the rank's clock, each in whole microseconds and the three digits behind the point."""
        start, end = self._shown(start_ns), self._shown(end_ns)
        return [part.tolist() for part in (*np.divmod(start, 1000), *np.divmod(end - start, 1000))]

    def _shown(self, true_ns: IntArray) -> IntArray:
        return clock_ns(self._job, self._rank, true_ns) - self._base_step_ns

    def _next(self, count: int = 1) -> int:
        """The first of so many new ids; they are external ids, correlations and the ids of flows."""
        self._events += count
        return self._events - count + 1

    def _host_ops(self, start_ns: int, lengths: IntArray) -> str:
        edges = start_ns + np.concatenate([[0], np.cumsum(lengths)])
        return "".join(
            self._span("cpu_op", "aten::_upsample_bilinear2d_aa", start, end - 500, {"External id": self._next()})
            for start, end in zip(edges.tolist(), edges.tolist()[1:], strict=False)
        )

    def _stage(self, step: int, place: int, segment: Segment) -> str:
        """A stage's range, and its shadow on the device."""
        schedule, first = self._schedule, place - segment.stage.segments + 1
        name = f"## {segment.stage.name} ##" if self._job.steps_only else PREFIX + segment.stage.name
        ident = self._next()
        start, end = int(schedule.range_ns[step, first]), int(schedule.host_end_ns[step, place]) + times.EDGE_NS
        written = self._span("user_annotation", name, start, end, {"External id": ident})
        if segment.stage.collective is not None:
            lengths = self._job.kernel_ns(self._rank, step)[self._job.segments[first].lengths][:1]
            ends = kernel_ends_ns(
                schedule.ops_ns[step, first, None], schedule.free_ns[step, first, None], lengths[None]
            )
            start, end = int(ends[0, 0] - lengths[0]), int(schedule.compute_end_ns[step, place])
            written += self._span(
                "gpu_user_annotation", name, start, end, {"External id": ident}, (self._device, COMPUTE_STREAM)
            )
        return written

    def _collective(self, step: int, place: int, segment: Segment, collective: Collective) -> str:
        """What the host does for a collective, from the op to the launch, and its kernel."""
        schedule, ident = self._schedule, self._next()
        host = int(schedule.host_end_ns[step, place]) - times.COLLECTIVE_NS
        end = host + times.COLLECTIVE_NS
        launch = host + times.COLLECTIVE_LAUNCH_AFTER_NS
        launched = launch + times.COLLECTIVE_LAUNCH_NS
        start, done = int(schedule.collective_start_ns[step, place]), int(schedule.collective_end_ns[step, place])
        names = collective.value
        external: dict[str, Any] = {"External id": ident}
        said = self._arguments(self._groups[place], segment, collective)
        kernel: dict[str, Any] = {"queued": 0, "device": self._device, "context": 1, "stream": COMMUNICATION_STREAM}
        kernel |= {"correlation": ident, "grid": [16, 1, 1], "block": [512, 1, 1]}
        on_device = (self._device, COMMUNICATION_STREAM)
        return "".join(
            (
                self._span("cpu_op", names.op, host + 500, end - 500, external),
                self._span("cpu_op", "record_param_comms", host + 2_000, end - 6_000, external | said),
                self._span("user_annotation", names.annotation, host + 4_000, end - 9_000, external),
                self._call("cudaEventRecord", 135, host + 8_000, host + 10_000),
                self._call("cudaStreamWaitEvent", 147, host + 12_000, host + 14_000),
                self._span(
                    "cuda_runtime", "cudaLaunchKernelExC", launch, launched, {"cbid": 430, "correlation": ident}
                ),
                self._flow("s", ident, self._pid, self._pid, launch),
                self._span("kernel", names.kernel, start, done, external | kernel | said, on_device),
                self._flow("f", ident, *on_device, start),
                self._span("gpu_user_annotation", names.annotation, start, done, external, on_device),
                "" if self._job.overlap else self._call("cudaStreamWaitEvent", 147, end - 5_000, end - 3_000),
            )
        )

    def _arguments(self, groups: Groups, segment: Segment, collective: Collective) -> dict[str, Any]:
        """What torch records of a collective."""
        name, ranks = groups.name(self._rank), groups.ranks(self._rank)
        sent = received = segment.stage.elements
        split_in: list[int] = []
        split_out: list[int] = []
        if collective is Collective.ALL_GATHER:
            received *= len(ranks)
        elif collective is Collective.ALL_TO_ALL:
            split_in = splits(self._job, segment, len(ranks))
            split_out = [split_in[ranks.index(self._rank)]] * len(ranks)
            sent, received = sum(split_in), sum(split_out)
        self._sequence[name] = self._sequence.get(name, 0) + 1
        said = {
            "Collective name": collective.value.recorded,
            "In msg nelems": sent,
            "Out msg nelems": received,
            "Group size": len(ranks),
            "dtype": "BFloat16",
            "In split size": _listed(split_in),
            "Out split size": _listed(split_out),
            "Process Group Name": name,
            "Process Group Description": groups.description,
            "Process Group Ranks": _listed(ranks),
        }
        return said | ({"Seq": self._sequence[name]} if self._job.sequence_numbers else {})

    def _distributed_info(self) -> dict[str, Any]:
        groups = [
            {
                "pg_name": group.name(self._rank),
                "pg_desc": group.description,
                "backend_config": "cuda:nccl",
                "pg_size": group.members.shape[1],
                "ranks": group.ranks(self._rank),
            }
            for group in all_groups(self._job)
        ]
        return {
            "backend": "nccl",
            "rank": self._rank,
            "world_size": self._job.ranks,
            "pg_count": len(groups),
            "pg_config": groups,
            "nccl_version": "2.27.5",
        }

    def _call(self, name: str, callback: int, start_ns: int, end_ns: int) -> str:
        """A call of the runtime that starts nothing on the device."""
        return self._span("cuda_runtime", name, start_ns, end_ns, {"cbid": callback, "correlation": self._next()})

    def _span(
        self,
        category: str,
        name: str,
        start_ns: int,
        end_ns: int,
        args: dict[str, Any],
        track: tuple[int, int] | None = None,
    ) -> str:
        """A complete event, of the host's thread unless it says otherwise."""
        pid, tid = track or (self._pid, self._pid)
        start, end = self._shown(np.array([start_ns, end_ns])).tolist()
        return (
            f',\n  {{\n    "ph": "X", "cat": "{category}", "name": "{name}", "pid": {pid}, "tid": {tid},\n'
            f'    "ts": {_us(start)}, "dur": {_us(end - start)},\n    "args": {json.dumps(args)}\n  }}'
        )

    def _flow(self, phase: str, ident: int, pid: int, tid: int, at_ns: int) -> str:
        end = ', "bp": "e"' if phase == "f" else ""
        return (
            f',\n  {{\n    "ph": "{phase}", "id": {ident}, "pid": {pid}, "tid": {tid}, '
            f'"ts": {_us(int(self._shown(np.array(at_ns))))},\n    "cat": "ac2g", "name": "ac2g"{end}\n  }}'
        )

    def _names(self, kind: str, pid: int, tid: int, **args: Any) -> str:
        at = _us(int(self._shown(np.array(times.START_NS))))
        return (
            f',\n  {{\n    "name": "{kind}", "ph": "M", "ts": {at}, "pid": {pid}, "tid": {tid},\n'
            f'    "args": {json.dumps(args)}\n  }}'
        )


def _us(ns: int) -> str:
    """Nanoseconds as microseconds with three decimals.

    >>> _us(12_345_006)
    '12345.006'
    """
    return f"{ns // 1000}.{ns % 1000:03d}"


def _listed(numbers: list[int]) -> str:
    """A list as Kineto writes it: as text, and cut short.

    >>> _listed([1, 2])
    '[1, 2]'
    """
    rest = ", ..." if len(numbers) > _MOST_LISTED else ""
    return f"[{', '.join(map(str, numbers[:_MOST_LISTED]))}{rest}]"
