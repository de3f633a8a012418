"""HTA's tables → figures of ours: one value each, its unit in its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from gemma_trace.hta.answers import Analysis, Answer, Figure

MOST_SEQUENCES: Final = 10

_Table = Mapping[str, list[Any]]
_Values = Iterator[tuple[str, str, float]]
"""What a value is of, its name with the unit, the value."""

_WAITS: Final = ("host_wait", "kernel_wait", "other")
_STATISTICS: Final = ("mean", "min", "50%", "max")
_BOUND_BY: Final = {
    "cpu_bound": "host_ns",
    "gpu_compute_bound": "compute_ns",
    "gpu_communication_bound": "communication_ns",
    "gpu_kernel_kernel_overhead": "between_kernels_ns",
    "gpu_kernel_launch_overhead": "launching_ns",
    "": "dependencies_ns",
}


def figures_of(answer: Answer) -> list[Figure]:
    """The figures in an answer that has no error; numbers that aren't (HTA's 0 over 0) are left out.

    Raises:
        KeyError: HTA's table lacks a column that it should have.
    """
    read = _READERS[answer.call.analysis]
    return [
        Figure(answer.call.analysis, answer.call.scope, of, measure, value)
        for of, measure, value in read(answer)
        if math.isfinite(value)
    ]


def _temporal(answer: Answer) -> _Values:
    table, unit_ns = answer.frames["temporal"], answer.task.unit_ns
    compute, other, idle, extent = (
        unit_ns * float(table[f"{name}_time(us)"][0]) for name in ("compute", "non_compute", "idle", "kernel")
    )
    yield "", "busy_ns", compute + other
    yield "", "compute_ns", compute
    yield "", "idle_ns", idle
    yield "", "extent_ns", extent


def _idle(answer: Answer) -> _Values:
    table, unit_ns = answer.frames["idle"], answer.task.unit_ns
    by_stream: dict[str, dict[str, float]] = {}
    for stream, kind, length in zip(table["stream"], table["idle_category"], table["idle_time"], strict=True):
        waits = by_stream.setdefault(_stream(answer, stream), dict.fromkeys(_WAITS, 0.0))
        waits[kind] += unit_ns * float(length)
    for stream, waits in by_stream.items():
        yield stream, "idle_ns", sum(waits.values())
        yield from ((stream, f"{kind}_ns", length) for kind, length in waits.items())


def _kernels(answer: Answer) -> _Values:
    kinds, table, unit_ns = answer.frames["kinds"], answer.frames["kernels"], answer.task.unit_ns
    sums = [unit_ns * float(value) for value in table["sum (us)"]]
    means = [unit_ns * float(value) for value in table["mean (us)"]]
    counts = [round(total / mean) if mean else 0 for total, mean in zip(sums, means, strict=True)]
    yield "", "sum_ns", sum(sums)
    yield "", "names", len(sums)
    yield "", "count", sum(counts)
    for kind, length in zip(kinds["kernel_type"], kinds["sum"], strict=True):
        yield str(kind).lower(), "time_ns", unit_ns * float(length)
    for row in sorted(range(len(sums)), key=lambda row: -sums[row]):
        name = str(table["name"][row])
        yield name, "sum_ns", sums[row]
        yield name, "count", counts[row]
        yield name, "mean_ns", means[row]
        yield name, "min_ns", unit_ns * float(table["min (us)"][row])
        yield name, "max_ns", unit_ns * float(table["max (us)"][row])


def _launches(answer: Answer) -> _Values:
    table = answer.frames["launches"]
    call, activity, delay = (
        answer.task.unit_ns * np.array(table[name], dtype=np.float64)
        for name in ("cpu_duration", "gpu_duration", "launch_delay")
    )
    yield "", "count", len(call)
    if not len(call):
        return
    yield "", "call_median_ns", float(np.median(call))
    yield "", "activity_median_ns", float(np.median(activity))
    yield "", "delay_median_ns", float(np.median(delay))
    yield "", "delay_max_ns", float(delay.max())
    yield "", "shorter_than_call_count", int((activity < call).sum())


def _queue(answer: Answer) -> _Values:
    table = answer.frames.get("queue", {})
    for row, stream in enumerate(table.get("stream", ())):
        name = _stream(answer, stream)
        yield name, "changes_count", float(table["queue_length count"][row])
        for column, statistic in (("mean", "mean"), ("50%", "median"), ("max", "max")):
            yield name, f"length_{statistic}", float(table[f"queue_length {column}"][row])


def _bandwidth(answer: Answer) -> _Values:
    table = answer.frames.get("bandwidth", {})
    for row, kind in enumerate(table.get("name", ())):
        yield kind, "changes_count", float(table["memory_bw_gbps count"][row])
        for column in _STATISTICS:
            statistic = "median" if column == "50%" else column
            yield kind, f"bandwidth_{statistic}_gb_s", float(table[f"memory_bw_gbps {column}"][row])


def _overlap(answer: Answer) -> _Values:
    yield "", "overlapped_pct", float(answer.frames["overlap"]["comp_comm_overlap_pctg"][0])


def _sequences(answer: Answer) -> _Values:
    table, unit_ns = answer.frames.get("sequences", {}), answer.task.unit_ns
    for row, pattern in enumerate(table.get("pattern", ())[:MOST_SEQUENCES]):
        yield pattern, "count", float(table["count"][row])
        yield pattern, "device_ns", unit_ns * float(table["GPU kernel duration (us)"][row])
        yield pattern, "host_ns", unit_ns * float(table["CPU op duration (us)"][row])


def _critical_path(answer: Answer) -> _Values:
    table = answer.frames["path"]
    lengths = {
        str(kind): answer.task.unit_ns * float(length)
        for kind, length in zip(table["bound_by"], table["duration"], strict=True)
    }
    yield "", "length_ns", sum(lengths.values())
    for kind, measure in _BOUND_BY.items():
        yield "", measure, lengths.get(kind, 0.0)


def _stream(answer: Answer, number: Any) -> str:
    return answer.task.streams.get(int(number), str(int(number)))


_READERS: Final[dict[Analysis, Callable[[Answer], _Values]]] = {
    Analysis.TEMPORAL: _temporal,
    Analysis.IDLE: _idle,
    Analysis.KERNELS: _kernels,
    Analysis.LAUNCHES: _launches,
    Analysis.QUEUE: _queue,
    Analysis.BANDWIDTH: _bandwidth,
    Analysis.OVERLAP: _overlap,
    Analysis.SEQUENCES: _sequences,
    Analysis.CRITICAL_PATH: _critical_path,
}
