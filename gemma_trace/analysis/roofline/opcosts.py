"""The cost of every op of a trace that did work of its own, and which work is whose.

An op is costed once: of ops that call each other (linear → addmm) the outermost that has a formula, with all that runs
below it. On a device its work is the kernels launched below it, on the host the time spent in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.roofline.costs import Cost
from gemma_trace.analysis.roofline.matrix_ops import MATRIX_OPS
from gemma_trace.analysis.roofline.tensors import read_inputs
from gemma_trace.analysis.roofline.vector_ops import VECTOR_OPS
from gemma_trace.analysis.work_pieces import Work, device_work, host_work
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, IntArray
from gemma_trace.trace.trace import Trace

FloatArray = npt.NDArray[np.float64]

_FORMULAS: Final = VECTOR_OPS | MATRIX_OPS

_WITHOUT_TF32: Final = re.compile(r"(?<![a-z0-9])sgemm|simt|ffma", re.IGNORECASE)
"""Names of kernels that multiply float32 matrices as such: cuBLAS's sgemm, CUTLASS's SIMT."""

_COPIES: Final = frozenset({"gpu_memcpy", "memcpy", "gpu_memset", "memset"})


@dataclass(frozen=True)
class OpCosts:
    """Ops with a cost. All columns but `owner` have the length k.

    Attributes:
        on: where their work runs.
        op: int64 [k], indices of the spans.
        table: the distinct costs.
        cost: int64 [k], index into `table`.
        without_tf32: bool [k], whether the kernels' names say that float32 is multiplied as such.
        work_ns: int64 [k], the sum of the lengths of the op's pieces of work, never 0.
        owner: int32 [n], for each span on the host the costed op that it is in, an index into `op`; else `NONE`.
    """

    on: Literal["device", "host"]
    op: IntArray
    table: tuple[Cost, ...]
    cost: IntArray
    without_tf32: BoolArray
    work_ns: IntArray
    owner: CodeArray

    def column(self, name: str) -> FloatArray:
        """float64 [k], a figure of `Cost`, e.g. `matrix_flops`."""
        return np.array([getattr(cost, name) for cost in self.table], dtype=np.float64)[self.cost]

    def owner_of(self, trace: Trace, work: Work) -> CodeArray:
        """int32, for each piece of work the costed op it is of; `NONE` for none, and for copies and fills."""
        owners = np.where(work.caller >= 0, self.owner[np.maximum(work.caller, 0)], NONE)
        if work.on == "host":
            return owners
        return np.where(trace.spans.in_categories(_COPIES)[work.span], NONE, owners)


def has_shapes(trace: Trace) -> bool:
    """Whether the shapes of ops' inputs were recorded."""
    return bool((trace.spans.input_dims[trace.is_op] >= 0).any())


def op_costs(trace: Trace, on: Literal["device", "host"] | None = None) -> OpCosts:
    """Cost the ops of a trace.

    Args:
        on: ops that gave a device work, or those that ran on the host alone; None is the device, where one worked.
    """
    on = on or ("device" if len(trace.activities) else "host")
    known, table, cost = _costed(trace)
    owner = _outermost(trace, known)
    place = np.full(len(trace.spans) + 1, NONE, dtype=np.int32)  # the last is for no op
    place[known] = np.arange(len(known))
    owner = place[owner]
    del place
    everything = OpCosts(on, known, table, cost, np.zeros(len(known), bool), np.zeros(len(known), np.int64), owner)
    work = device_work(trace) if on == "device" else host_work(trace)
    owners = everything.owner_of(trace, work)
    owned = owners >= 0
    work_ns = np.bincount(owners[owned], work.length_ns[owned], len(known)).astype(np.int64)
    if on == "host" and len(trace.activities):
        launching = np.where(trace.launch >= 0, owner[np.maximum(trace.launch, 0)], NONE)
        work_ns[launching[launching >= 0]] = 0
    worked = np.flatnonzero(work_ns)
    renumbered = np.full(len(known) + 1, NONE, dtype=np.int32)
    renumbered[worked] = np.arange(len(worked))
    plain = _by_names(trace, work, owners, len(known)) if on == "device" else np.zeros(len(known), bool)
    return OpCosts(on, known[worked], table, cost[worked], plain[worked], work_ns[worked], renumbered[owner])


def _costed(trace: Trace) -> tuple[IntArray, tuple[Cost, ...], IntArray]:
    """The ops with a cost, the distinct costs, and which each op has; texts are read once a distinct call."""
    spans = trace.details.spans
    has_formula = np.array([name in _FORMULAS for name in spans.names], dtype=bool)
    ops = np.flatnonzero(has_formula[spans.name] & trace.is_op & (spans.input_dims >= 0))
    calls = spans.name[ops].astype(np.int64)
    columns = (spans.input_dims, spans.input_types, spans.input_strides, spans.concrete_inputs)
    for column in columns:  # a call's number after each column: pairs of numbers, numbered anew
        _, calls = np.unique(calls * (len(spans.texts) + 1) + column[ops] + 1, return_inverse=True)
        calls = np.asarray(calls, dtype=np.int64)
    _, first = np.unique(calls, return_index=True)
    texts = (*spans.texts, "")  # `NONE` is the last
    costs = [
        _FORMULAS[spans.names[spans.name[op]]](read_inputs(*(texts[column[op]] for column in columns)))
        for op in ops[first].tolist()
    ]
    table = tuple(dict.fromkeys(cost for cost in costs if cost is not None))
    place = {cost: index for index, cost in enumerate(table)}
    numbers = np.array([NONE if cost is None else place[cost] for cost in costs], dtype=np.int64)
    cost = numbers[calls] if len(ops) else np.zeros(0, dtype=np.int64)
    return ops[cost >= 0], table, cost[cost >= 0]


def _outermost(trace: Trace, wanted: IntArray) -> CodeArray:
    """int32 [n], for each span on the host the outermost wanted span around it, or itself; else `NONE`."""
    host, nesting = trace.host, trace.nesting
    is_wanted = np.zeros(len(trace.spans), dtype=bool)
    is_wanted[wanted] = True
    inner = trace.innermost(is_wanted)
    place = np.searchsorted(host, wanted)
    above = nesting.parent[place]
    over = np.where(above >= 0, inner[host[np.maximum(above, 0)]], NONE)  # the wanted span around a wanted span
    # `innermost` goes by time and `nesting` by clipped extents: of spans that cross, each may be around the other.
    depth = nesting.depth[place]
    depth_over = np.where(over >= 0, nesting.depth[np.searchsorted(host, np.maximum(over, 0))], 0)
    up = np.full(len(trace.spans), NONE, dtype=np.int32)
    up[wanted] = np.where(depth_over < depth, over, NONE)
    while True:
        higher = np.where(inner >= 0, up[inner], NONE)
        is_inside = higher >= 0
        if not is_inside.any():
            return inner
        np.copyto(inner, higher, where=is_inside)


def _by_names(trace: Trace, work: Work, owners: CodeArray, ops: int) -> BoolArray:
    """bool [ops], whether an op has a kernel that multiplies float32 as such."""
    named = np.array([bool(_WITHOUT_TF32.search(name)) for name in trace.spans.names], dtype=bool)
    is_named = np.zeros(ops, dtype=bool)
    is_named[owners[(owners >= 0) & named[trace.spans.name[work.span]]]] = True
    return is_named
