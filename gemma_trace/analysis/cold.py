"""Calls that take long because they are the first of their kind: a cold start.

A kernel's first launch loads its code, the first allocation makes the context, the first convolution is tuned, and what
is compiled is compiled once. A mean of many launches hides such a call, so it is looked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.events import NONE, BoolArray, Codes, Events, IntArray
from gemma_trace.trace.named_spans import named
from gemma_trace.trace.places import is_among
from gemma_trace.trace.trace import Trace

FloatArray = npt.NDArray[np.float64]

LEAST_NS: Final = 100_000
"""A shorter call is none that is worth a name."""

CALL_FACTOR: Final = 10
"""A call of the runtime over this many times as long as the median of its name was the first of its kind."""

OP_FACTOR: Final = 20
"""The first op of a name and shape over this many times as long as the median of the later ones was tuned or loaded."""

FEWEST_OTHERS: Final = 3
"""So many others of its name are needed to say what is usual."""

MOST_CALLS: Final = 8
"""So many calls of a request are looked at one by one."""

INNER_SHARE: Final = 0.8
"""A call with more than this share of its time in one inside it is long because of that one."""

_WAITS_OR_COPIES: Final = re.compile(r"(?>\w*?(?:Synchronize|Memcpy))\w*")
_SETS_UP: Final = re.compile(
    r"(?>\w*?(?:Module(?:Load|Unload|GetFunction)|Library(?:Load|GetKernel)|KernelGetFunction|GetFuncBySymbol|FatBinary"
    r"|LinkAdd|LinkComplete|nvrtc|Malloc|HostAlloc|MemAlloc|HostRegister|MemCreate|MemMap|MemAddressReserve"
    r"|CtxCreate|PrimaryCtx|StreamCreate|GraphInstantiate))\w*"
    r"|(?:cu|cuda|hip)(?:Init|InitDevice)(?:_v\w+)?"
)
"""Calls of the runtime that make something: contexts, streams, memory, code. All their time is a cold start's."""

_COMPILES: Final = re.compile(
    r"triton/compiler/compiler\.py\(\d+\): compile|triton/runtime/autotuner\.py\(\d+\): (?:_bench|benchmark)"
    r"|torch/_dynamo/convert_frame\.py\(\d+\): _compile\w*|torch/_inductor/compile_fx\.py\(\d+\): compile_fx\w*"
    r"|torch/_inductor/runtime/triton_heuristics\.py\(\d+\): benchmark_all_configs|CachingAutotuner\.benchmark\w*"
    r"|torch/utils/cpp_extension\.py\(\d+\): (?:load|load_inline)|torch/jit/_script\.py\(\d+\): script"
    r"|torch/_inductor/async_compile\.py\(\d+\): \w+|\(dynamo_timed\)"
)
"""What the names of Python frames and ranges that compile or tune hold."""

_COMPILE_HINTS: Final = ("compil", "tun", "benchmark", "cpp_extension", "_script.py", "dynamo")


@dataclass(frozen=True)
class LongCalls:
    """Calls that take long, or that make something, by start. All columns have the length c.

    Attributes:
        span: int64, index of the call.
        cold: bool, whether it is known to be long because it is the first of its kind.
        usual_ns: float64, the median length of the others of its name; NaN where there are too few.
    """

    span: IntArray
    cold: BoolArray
    usual_ns: FloatArray

    def of(self, chosen: BoolArray) -> LongCalls:
        """The chosen ones."""
        return LongCalls(self.span[chosen], self.cold[chosen], self.usual_ns[chosen])


def is_inside(spans: Events, inner: int, outer: int) -> bool:
    """Whether one span lies in another's time."""
    start, end = spans.ts_ns[[inner, outer]], spans.ends_ns(np.array([inner, outer]))
    return bool(start[1] <= start[0] and end[0] <= end[1])


def long_calls(trace: Trace) -> LongCalls:
    """Find the calls that may make a cold start."""
    parts = [_runtime_calls(trace), _first_ops(trace), _compilations(trace)]
    span = np.concatenate([part.span for part in parts])
    order = np.argsort(span, kind="stable")
    return LongCalls(
        span[order],
        np.concatenate([part.cold for part in parts])[order],
        np.concatenate([part.usual_ns for part in parts])[order],
    )


def _runtime_calls(trace: Trace) -> LongCalls:
    """Calls of the runtime that are long, or that make something."""
    spans = trace.spans
    called = np.flatnonzero(trace.is_call)
    called = called[~named(spans, called, _WAITS_OR_COPIES)]
    makes_something = named(spans, called, _SETS_UP)
    usual = _median_of_others(spans.name[called], spans.dur_ns[called])
    long = spans.dur_ns[called] >= LEAST_NS
    first = long & (spans.dur_ns[called] > CALL_FACTOR * usual)
    kept = long | makes_something
    return LongCalls(called[kept], (first | makes_something)[kept], usual[kept])


def _first_ops(trace: Trace) -> LongCalls:
    """The first ops of a name and shape that take far longer than the later ones, where there is a device.

    Without one an op's time is its work, and that may differ.
    """
    spans = trace.spans
    ops = np.flatnonzero(trace.is_op) if len(trace.activities) else np.zeros(0, dtype=np.int64)
    ops = _of_kinds_with_a_long_one(spans, ops)
    _, kind = np.unique(_kinds(spans, ops), return_inverse=True)
    first = np.zeros(len(ops), dtype=bool)
    first[np.unique(kind, return_index=True)[1]] = True
    long = first & (spans.dur_ns[ops] >= LEAST_NS)
    if not long.any():
        return LongCalls(ops[:0], first[:0], np.zeros(0))
    usual = _median_of_others(kind, spans.dur_ns[ops])
    chosen = long & (spans.dur_ns[ops] > OP_FACTOR * usual)
    return LongCalls(ops[chosen], first[chosen], usual[chosen])


def _kinds(spans: Events, ops: IntArray) -> IntArray:
    """int64, a number for the name and the shape of each op."""
    kinds: IntArray = spans.name[ops].astype(np.int64) * (len(spans.texts) + 1) + spans.input_dims[ops] + 1
    return kinds


def _of_kinds_with_a_long_one(spans: Events, ops: IntArray) -> IntArray:
    """Those of some ops of whose name and shape one is long: most ops are of none, and need not be sorted by it."""
    long = ops[spans.dur_ns[ops] >= LEAST_NS]
    named = np.zeros(len(spans.names), dtype=bool)
    named[spans.name[long]] = True
    ops = ops[named[spans.name[ops]]]
    return ops[is_among(_kinds(spans, ops), _kinds(spans, long))]


def _compilations(trace: Trace) -> LongCalls:
    """Frames and ranges that compile or tune."""
    spans = trace.spans
    hinted = [any(hint in name for hint in _COMPILE_HINTS) for name in spans.names]
    compiles = np.array(
        [hint and bool(_COMPILES.search(name)) for hint, name in zip(hinted, spans.names, strict=True)], dtype=bool
    )
    compilations = trace.host[compiles[spans.name[trace.host]]] if compiles.any() else np.zeros(0, dtype=np.int64)
    return LongCalls(compilations, np.ones(len(compilations), dtype=bool), np.full(len(compilations), np.nan))


def _median_of_others(kind: Codes, length: IntArray) -> FloatArray:
    """float64, the median of each one's kind without the longest of it; NaN where it has under `FEWEST_OTHERS` more."""
    order = np.lexsort((length, kind))
    start = np.flatnonzero(np.diff(kind[order], prepend=NONE - 1))
    size = np.diff(np.append(start, len(kind)))
    others = size - 1
    ascending = length[order]
    middle = (ascending[start + np.maximum(others - 1, 0) // 2] + ascending[start + others // 2]) / 2
    usual = np.empty(len(kind))
    usual[order] = np.repeat(np.where(others >= FEWEST_OTHERS, middle, np.nan), size)
    return usual
