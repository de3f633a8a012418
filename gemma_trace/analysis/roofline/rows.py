"""The roofline: what ops achieve of what their device can do.

Every op has two roofs: its FLOPs over the device's rate for their dtype, and its bytes over the memory's rate (S.
Williams, A. Waterman, D. Patterson: Roofline, CACM 52(4), 2009). The nearer one is what its time is held against.
What isn't a matrix product has the memory's roof alone: at a few FLOPs an element that is always the nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.analysis.roofline.opcosts import FloatArray, OpCosts, op_costs
from gemma_trace.analysis.work_groups import group
from gemma_trace.analysis.work_pieces import Work, select
from gemma_trace.peaks import Peaks
from gemma_trace.trace.events import BoolArray
from gemma_trace.trace.trace import Trace

Bound = Literal["compute", "memory"]


@dataclass(frozen=True)
class RowRoofline:
    """What a row of the drilldown achieves.

    Attributes:
        flops: of all its ops; `matrix_flops` are those of matrix products, convolutions and attention.
        bytes: that its ops read and write at least, wherever they find them; of copies what they copy.
        tflop_per_s, gb_per_s: over the time that is covered; None where nothing is.
        peak_pct: the time that the nearer roof takes, over the time taken; None without peaks. Over 100 the data came
            from the cache.
        bound: which roof is the nearer one for most of the row.
        covered_pct: the share of the row's time that ops with a cost, or copies, take.
    """

    flops: float
    matrix_flops: float
    bytes: float
    tflop_per_s: float | None
    gb_per_s: float | None
    peak_pct: float | None
    bound: Bound | None
    covered_pct: float


@dataclass(frozen=True)
class Roofs:
    """What ops' work takes at the peak rates, in ns. All columns are float64 [k]; zeros without peaks.

    Attributes:
        compute_ns, memory_ns: of all FLOPs of matrices, and of all bytes.
        least_compute_ns: of the FLOPs that no algorithm saves.
        least_memory_ns: of the bytes that no cache holds: parameters, and of what is read and of what is written else
            all beyond one cacheful.
    """

    compute_ns: FloatArray
    memory_ns: FloatArray
    least_compute_ns: FloatArray
    least_memory_ns: FloatArray


def roofs_of(costs: OpCosts, peaks: Peaks | None) -> Roofs:
    """The roofs of every costed op. A dtype that the device has no rate for has no roof of compute."""
    if peaks is None:
        return Roofs(*[np.zeros(len(costs.op))] * 4)
    rates = np.array(
        [
            [peaks.flops_per_ns(cost.dtype, without_tf32=plain) or np.inf for cost in costs.table]
            for plain in (False, True)
        ]
    ).reshape(2, len(costs.table))
    rate = rates[costs.without_tf32.astype(np.int64), costs.cost]
    read, written = (np.maximum(costs.column(name) - peaks.cache_bytes, 0) for name in ("read_bytes", "written_bytes"))
    return Roofs(
        compute_ns=costs.column("matrix_flops") / rate,
        memory_ns=costs.column("bytes") / peaks.bytes_per_ns,
        least_compute_ns=costs.column("bound_flops") / rate,
        least_memory_ns=(costs.column("weight_bytes") + read + written) / peaks.bytes_per_ns,
    )


def row_rooflines(trace: Trace, table: KernelTable, peaks: Peaks | None) -> tuple[RowRoofline, ...]:
    """What each row of a drilldown achieves, in the rows' order. An op's cost is spread over its work by length."""
    work = select(trace, table.stage, table.request, table.device)
    figures = _by_piece(trace, work, peaks)
    code = group(trace, work, table.by).code
    groups = int(code.max(initial=-1)) + 1
    sums = {name: np.bincount(code, values, groups) for name, values in figures.items()}
    return tuple(_row({name: float(values[row]) for name, values in sums.items()}) for row in table.codes)


def _by_piece(trace: Trace, work: Work, peaks: Peaks | None) -> dict[str, FloatArray]:
    """Figures of each piece of work, which add up over any group of them."""
    costs = op_costs(trace, work.on)
    roofs = roofs_of(costs, peaks)
    owner = costs.owner_of(trace, work)
    owned = np.flatnonzero(owner >= 0)
    part = work.length_ns[owned] / costs.work_ns[owner[owned]]

    def spread(values: FloatArray) -> FloatArray:
        pieces = np.zeros(len(work))
        pieces[owned] = values[owner[owned]] * part
        return pieces

    copied, on_bus = _copied_bytes(trace, work)
    copying_ns = np.where(on_bus, 0, copied / peaks.bytes_per_ns) if peaks else np.zeros(len(work))
    compute, memory = spread(roofs.compute_ns), spread(roofs.memory_ns) + copying_ns
    length = work.length_ns.astype(np.float64)
    covered = (owner >= 0) | (copied > 0)
    return {
        "flops": spread(costs.column("flops")),
        "matrix_flops": spread(costs.column("matrix_flops")),
        "bytes": spread(costs.column("bytes")) + copied,
        "roof": np.maximum(compute, memory),
        "compute": np.where(compute > memory, compute, 0),
        "length": length,
        "covered": np.where(covered, length, 0),
        "roofed": np.where(covered & ~on_bus, length, 0),
    }


def _row(sums: dict[str, float]) -> RowRoofline:
    covered, roofed, roof = sums["covered"], sums["roofed"], sums["roof"]
    has_roof = roofed > 0 and roof > 0
    return RowRoofline(
        flops=sums["flops"],
        matrix_flops=sums["matrix_flops"],
        bytes=sums["bytes"],
        tflop_per_s=sums["flops"] / covered / 1e3 if covered and sums["flops"] else None,
        gb_per_s=sums["bytes"] / covered if covered else None,
        peak_pct=100 * roof / roofed if has_roof else None,
        bound=("compute" if 2 * sums["compute"] > roof else "memory") if has_roof else None,
        covered_pct=100 * covered / sums["length"] if sums["length"] else 0.0,
    )


def _copied_bytes(trace: Trace, work: Work) -> tuple[FloatArray, BoolArray]:
    """What copies and fills move in the device's memory, and which of them cross the bus, whose rate is another.

    A fill writes its size, a copy on the device reads and writes it, one across the bus does either.
    """
    spans = trace.spans
    if work.on == "host":
        return np.zeros(len(work)), np.zeros(len(work), dtype=bool)
    copies = spans.in_categories(frozenset({"gpu_memcpy", "memcpy"}))[work.span]
    fills = spans.in_categories(frozenset({"gpu_memset", "memset"}))[work.span]
    within = np.array([any(mark in name.lower() for mark in _WITHIN) for name in spans.names], dtype=bool)
    stays = within[spans.name[work.span]]
    times = np.where(copies & stays, 2, np.where(copies | fills, 1, 0))
    return times * np.maximum(spans.bytes[work.span], 0).astype(np.float64), copies & ~stays


_WITHIN = ("dtod", "devicetodevice", "device -> device")
