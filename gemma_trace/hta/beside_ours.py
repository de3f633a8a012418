"""Our own figures of what HTA measures too, and why they differ where they do."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.analysis.intervals import intersect, measure, union, union_ns
from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.analysis.timeline import is_step_name
from gemma_trace.hta.answers import Analysis, Figure
from gemma_trace.hta.copies import SYNC, stream_name
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.trace import Trace

_LAUNCHES: Final = frozenset({"cudaLaunchKernel", "cudaLaunchKernelExC", "cudaMemcpyAsync", "cudaMemsetAsync"})
KNOWN_LAUNCHES: Final = {
    Analysis.LAUNCHES: _LAUNCHES,
    Analysis.QUEUE: _LAUNCHES
    | {"cuLaunchKernel", "hipLaunchKernel", "hipExtModuleLaunchKernel"}
    | {"hipMemcpyAsync", "hipMemsetAsync", "hipMemcpyWithStream"},
}
"""The calls that HTA knows launches by."""

_COMPUTING: Final = frozenset({"kernel", "concurrent_kernel"})
_NOT_COMPUTING: Final = re.compile(r"(^nccl.*Kernel)|(.*Memcpy)|(^Memset)|(.*Sync)|(^dma)")
"""Names that HTA takes for something other than computation."""


class Own:
    """Our figures of the device activities that HTA was given.

    Args:
        chosen: bool [m], which activities of the trace.
    """

    def __init__(self, trace: Trace, chosen: BoolArray) -> None:
        self._trace = trace
        spans = trace.spans
        self._rows, self._launch = trace.activities[chosen], trace.launch[chosen]
        self._start, self._end = spans.ts_ns[self._rows], spans.ends_ns(self._rows)

    def value(self, figure: Figure) -> float | None:
        """Ours of the same thing; None where we don't measure it."""
        if figure.of and figure.analysis in (Analysis.IDLE, Analysis.QUEUE):
            return self._by_stream.get((figure.analysis, figure.of, figure.measure))
        if figure.of and figure.analysis is Analysis.KERNELS:
            return self._by_kernel.get((figure.of, figure.measure))
        return self._whole.get((figure.analysis, figure.measure)) if not figure.of else None

    @cached_property
    def _whole(self) -> dict[tuple[Analysis, str], float]:
        spans, linked = self._trace.spans, self._launch >= 0
        busy = union_ns(self._start, self._end)
        extent = int(self._end.max() - self._start.min()) if len(self._rows) else 0
        calls = self._launch[linked]
        values: dict[tuple[Analysis, str], float] = {
            (Analysis.TEMPORAL, "busy_ns"): busy,
            (Analysis.TEMPORAL, "compute_ns"): measure(self._computing),
            (Analysis.TEMPORAL, "idle_ns"): extent - busy,
            (Analysis.TEMPORAL, "extent_ns"): extent,
            (Analysis.KERNELS, "sum_ns"): int((self._end - self._start).sum()),
            (Analysis.KERNELS, "names"): len(np.unique(spans.name[self._rows])),
            (Analysis.KERNELS, "count"): len(self._rows),
            (Analysis.LAUNCHES, "count"): len(calls),
        }
        if len(calls):
            length = self._end[linked] - self._start[linked]
            delay = np.maximum(self._start[linked] - spans.ends_ns(calls), 0)
            values |= {
                (Analysis.LAUNCHES, "call_median_ns"): float(np.median(spans.dur_ns[calls])),
                (Analysis.LAUNCHES, "activity_median_ns"): float(np.median(length)),
                (Analysis.LAUNCHES, "delay_median_ns"): float(np.median(delay)),
                (Analysis.LAUNCHES, "delay_max_ns"): float(delay.max()),
            }
        communicating = union(self._start[self._communicates], self._end[self._communicates])
        if len(communicating[0]):
            start, end, _, _ = intersect(communicating, self._computing)
            values[Analysis.OVERLAP, "overlapped_pct"] = 100 * int((end - start).sum()) / measure(communicating)
        return values

    @cached_property
    def _communicates(self) -> BoolArray:
        spans = self._trace.spans
        named = np.array([family_of(name) == "communication" for name in spans.names], dtype=bool)
        return named[spans.name[self._rows]]

    @cached_property
    def _computing(self) -> tuple[IntArray, IntArray]:
        spans = self._trace.spans
        is_kernel = spans.in_categories(_COMPUTING)[self._rows] & ~self._communicates
        return union(self._start[is_kernel], self._end[is_kernel])

    @cached_property
    def _by_kernel(self) -> dict[tuple[str, str], float]:
        spans = self._trace.spans
        codes, place = np.unique(spans.name[self._rows], return_inverse=True)
        count = np.bincount(place, minlength=len(codes))
        total = np.zeros(len(codes), dtype=np.int64)
        np.add.at(total, place, self._end - self._start)
        values: dict[tuple[str, str], float] = {}
        for code, number, length in zip(codes.tolist(), count.tolist(), total.tolist(), strict=True):
            values[spans.names[code], "count"] = number
            values[spans.names[code], "sum_ns"] = length
        return values

    @cached_property
    def _by_stream(self) -> dict[tuple[Analysis, str, str], float]:
        spans = self._trace.spans
        every = self._trace.activities
        many = len(np.unique(spans.device[every])) > 1
        pairs = np.stack((spans.device[self._rows], spans.stream[self._rows]))
        values: dict[tuple[Analysis, str, str], float] = {}
        for device, stream in sorted(set(zip(*pairs.tolist(), strict=True))):
            on_stream = (pairs[0] == device) & (pairs[1] == stream)
            name, start, end = stream_name(device, stream, many=many), self._start[on_stream], self._end[on_stream]
            extent = int(end.max() - start.min())
            values[Analysis.IDLE, name, "idle_ns"] = extent - union_ns(start, end)
            launch = self._launch[on_stream]
            linked = launch >= 0
            if linked.any():
                longest = _longest_queue(spans.ts_ns[launch[linked]], start[linked])
                values[Analysis.QUEUE, name, "length_max"] = longest
        return values


def _longest_queue(launched_ns: IntArray, started_ns: IntArray) -> int:
    """The most activities that were launched and hadn't started at one time."""
    at = np.concatenate((launched_ns, started_ns))
    step = np.repeat([1, -1], len(launched_ns))
    order = np.lexsort((step, at))  # one that starts as another is launched makes room first
    return int(np.cumsum(step[order]).max())


class Causes:
    """Why HTA's figures of a trace differ from ours.

    Args:
        as_is: whether HTA read the trace's own file.
    """

    def __init__(self, trace: Trace, *, as_is: bool) -> None:
        self._trace, self._as_is = trace, as_is

    def of(self, figure: Figure) -> str:
        """What is known to make them differ; empty where they agree, or where we have no figure."""
        if figure.ours is None or figure.agrees:
            return ""
        return "; ".join(self._known(figure)) or "unknown"

    def compared(self, figure: Figure, ours: Own) -> Figure:
        """The figure with ours beside it, and the cause where they differ."""
        beside = replace(figure, ours=ours.value(figure))
        return replace(beside, cause=self.of(beside))

    def _known(self, figure: Figure) -> list[str]:
        causes = []
        if self._as_is:
            causes += self._of_the_file(figure)
        if figure.analysis is Analysis.IDLE and self._overlapping:
            causes.append("HTA counts the overlap of activities on a stream as idle time below zero")
        if figure.measure == "compute_ns" and self._misnamed:
            causes.append(f"HTA goes by names: some ({self._misnamed}) don't look like computation to it")
        if figure.analysis in (Analysis.OVERLAP, Analysis.TEMPORAL) and self._other_communication:
            causes.append("HTA counts only NCCL's kernels as communication")
        if figure.analysis is Analysis.QUEUE and self._together:
            causes.append("an activity starts at the instant of a launch, or before its own; HTA counts launches first")
        if figure.measure == "overlapped_pct" and figure.ours is not None and abs(figure.hta - figure.ours) <= 0.005:
            causes.append("HTA rounds to 0.01%")
        return causes

    def _of_the_file(self, figure: Figure) -> list[str]:
        """What a copy works around."""
        causes = []
        summed = figure.analysis in (Analysis.TEMPORAL, Analysis.KERNELS, Analysis.OVERLAP)
        if summed and self._syncs:
            causes.append(f"HTA takes cuda_sync spans ({self._syncs}), in which the device waits, for its work")
        if summed and self._host_on_stream:
            causes.append(f"HTA takes spans of the host that name a stream ({self._host_on_stream}) for device work")
        if self._dropped:
            causes.append(
                f"HTA drops activities ({self._dropped}) that nothing up to the last ProfilerStep's end launched"
            )
        unknown = sorted(self._launching - KNOWN_LAUNCHES.get(figure.analysis, self._launching))
        if unknown:
            causes.append(f"HTA doesn't know {', '.join(unknown)}")
        return causes

    @cached_property
    def _syncs(self) -> int:
        return int(self._trace.spans.in_categories(frozenset({SYNC})).sum())

    @cached_property
    def _host_on_stream(self) -> int:
        spans, host = self._trace.spans, self._trace.host
        return int((spans.stream[host] != NONE).sum())

    @cached_property
    def _dropped(self) -> int:
        """What HTA leaves out of a trace of several steps, though it is told to keep the last one."""
        spans, launch = self._trace.spans, self._trace.launch
        is_step = np.array([is_step_name(name) for name in spans.names], dtype=bool)[spans.name]
        steps = np.flatnonzero(is_step & self._trace.is_annotation)
        if len(np.unique(spans.name[steps])) < 2:
            return 0
        late = spans.ts_ns[launch] > spans.ends_ns(steps).max()
        return int((late | (launch == NONE)).sum())

    @cached_property
    def _launching(self) -> frozenset[str]:
        """The names of the calls that launched something."""
        spans, launch = self._trace.spans, self._trace.launch
        return frozenset(spans.names[code] for code in np.unique(spans.name[launch[launch >= 0]]).tolist())

    @cached_property
    def _overlapping(self) -> bool:
        spans, rows = self._trace.spans, self._trace.activities
        order = np.lexsort((spans.ts_ns[rows], spans.stream[rows], spans.device[rows]))
        rows = rows[order]
        same = (spans.stream[rows][1:] == spans.stream[rows][:-1]) & (spans.device[rows][1:] == spans.device[rows][:-1])
        return bool((same & (spans.ts_ns[rows][1:] < spans.ends_ns(rows)[:-1])).any())

    @cached_property
    def _misnamed(self) -> int:
        names = self._kernel_names
        return sum(bool(_NOT_COMPUTING.match(name)) and family_of(name) != "communication" for name in names)

    @cached_property
    def _other_communication(self) -> bool:
        return any(
            family_of(name) == "communication" and not re.match(r"^nccl.*Kernel", name) for name in self._kernel_names
        )

    @cached_property
    def _kernel_names(self) -> list[str]:
        spans = self._trace.spans
        codes = np.unique(spans.name[self._trace.activities[spans.in_categories(_COMPUTING)[self._trace.activities]]])
        return [spans.names[code] for code in codes.tolist()]

    @cached_property
    def _together(self) -> bool:
        """Whether the order of launches and starts isn't clear."""
        spans, launch = self._trace.spans, self._trace.launch
        linked = launch >= 0
        launched, started = spans.ts_ns[launch[linked]], spans.ts_ns[self._trace.activities[linked]]
        return bool(np.isin(started, launched).any() or (started < launched).any())
