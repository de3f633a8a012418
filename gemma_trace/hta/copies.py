"""What HTA is given: a copy of a trace, or of what one stage launched, in which nothing trips it up.

HTA takes every span that names a stream for work of the device, even where the device only waits (`cuda_sync`) or the
span is an op's; knows launches by a few exact names; leaves out what the last step or no step launched; rounds times
to µs, or else sums them up as floats and asserts that nothing comes out negative. So a copy has activities, the calls
that launched them by our own links under the names that HTA knows, ops and ranges; no steps; and whole nanoseconds
where HTA expects µs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from gemma_trace.analysis.timeline import Request
from gemma_trace.foreign import UnreadableValueError, decoded, text, value_of
from gemma_trace.trace.clock import time_ns
from gemma_trace.trace.events import LAUNCH_CATEGORIES, NONE, BoolArray, IntArray
from gemma_trace.trace.reader import stream_events
from gemma_trace.trace.trace import Trace

WINDOW: Final = "hta::request"
"""The annotation that a copy has over each request, in their order."""

UNIT_NS: Final = 1
SYNC: Final = "cuda_sync"

_HOST_PID: Final = 1 << 20
_HOST_TID: Final = 1 << 20
"""The first thread's id; above those of streams, since HTA takes threads and streams of one id for one stack."""

_FAR_NS: Final = 1 << 33
"""Beyond what 32 bits hold. HTA narrows a column of integers to what its values need, and then adds times up in it."""

_MOST_CORRELATION: Final = 2**31 - 1
"""Where ids are larger than profilers count, they are numbered anew: above them there has to be room for more."""

_KINDS: Final = {
    "kernel": ("kernel", "cudaLaunchKernel", ""),
    "concurrent_kernel": ("kernel", "cudaLaunchKernel", ""),
    "gpu_memcpy": ("gpu_memcpy", "cudaMemcpyAsync", "Memcpy"),
    "memcpy": ("gpu_memcpy", "cudaMemcpyAsync", "Memcpy"),
    "gpu_memset": ("gpu_memset", "cudaMemsetAsync", "Memset"),
    "memset": ("gpu_memset", "cudaMemsetAsync", "Memset"),
}
"""An activity's category → its category in the copy, its launching call's name, and how its own name begins."""

_HEAD: Final = b"""{"schemaVersion": 1, "traceEvents": [
{"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": 0, "dur": 0}"""
"""HTA takes the index 0 of a linked event for none, so the first event is one that it drops. It has times, since one
that is missing makes floats of all."""

_encoder = msgspec.json.Encoder()
_JsonEvent = dict[str, Any]


class Copier:
    """Writes copies of one trace.

    Attributes:
        streams: HTA's stream numbers → the streams' names.
        syncs: how many synchronisation spans the trace has.
    """

    def __init__(self, trace: Trace, requests: Sequence[Request]) -> None:
        self._trace, self._requests = trace, requests
        spans, activities = trace.spans, trace.activities
        self._zero_ns = int(spans.ts_ns.min())
        pairs = sorted(set(zip(spans.device[activities].tolist(), spans.stream[activities].tolist(), strict=True)))
        many = len({device for device, _ in pairs}) > 1
        self._codes = {pair: code for code, pair in enumerate(pairs, 1)}
        self.streams = {code: stream_name(*pair, many=many) for pair, code in self._codes.items()}
        self.syncs = int(spans.in_categories(frozenset({SYNC})).sum())
        self._correlation = self._links()

    def write(self, file: Path, chosen: BoolArray, *, whole: bool = False, syncs: bool = False) -> None:
        """Write a copy.

        Args:
            chosen: bool [m], which device activities go into it; the calls that launched them do too.
            whole: also all other calls, the ops, and the ranges.
            syncs: also the spans in which the device or the host waits, which HTA's critical path wants.
        """
        calls = np.unique(self._trace.launch[chosen & (self._trace.launch >= 0)])
        with file.open("wb") as out:
            out.write(_HEAD)
            _write(out, self._marks())
            _write(out, self._on_host(self._others(calls) if whole else calls, calls))
            _write(out, self._on_device(chosen))
            if syncs:
                _write(out, self._waits())
            out.write(b"\n]}\n")

    def _links(self) -> IntArray:
        """int64 [n], the correlation id of each span: a launch's own or, where it has none, a new one; 0 is none.

        Two calls never share an id in the copy, as an outer and an inner call into the driver do in some traces.
        """
        spans, launch = self._trace.spans, self._trace.launch
        correlation = spans.correlation.astype(np.int64)
        if correlation.max(initial=0) > _MOST_CORRELATION:
            correlation = np.unique(np.maximum(correlation, 0), return_inverse=True)[1] + (correlation.min() > 0)
        calls = np.unique(launch[launch >= 0])
        is_call = spans.in_categories(LAUNCH_CATEGORIES)
        ids = np.where(is_call, np.maximum(correlation, 0), 0)
        ids[is_call & np.isin(correlation, correlation[calls])] = 0
        recorded = correlation[calls]
        fresh = int(correlation.max(initial=0)) + 1 + np.arange(len(calls))
        ids[calls] = np.where(recorded > 0, recorded, fresh)
        ids[self._trace.activities] = np.where(launch >= 0, ids[launch], 0)
        return ids

    def _marks(self) -> Iterator[_JsonEvent]:
        """The requests' windows, on a thread of their own; and one span far behind all, for the numbers' sake."""
        for request in sorted(self._requests, key=lambda request: request.index):
            yield self._span("user_annotation", WINDOW, _HOST_PID, _HOST_TID, request.start_ns, request.wall_ns)
        end = int(self._trace.spans.end_ns.max())
        yield self._span("user_annotation", "hta::end", _HOST_PID, _HOST_TID + 1, end + _FAR_NS, _FAR_NS)

    def _others(self, calls: IntArray) -> IntArray:
        """The spans of the host that go into a copy of everything: no Python frames, and no marks of the profiler."""
        trace = self._trace
        is_call = trace.spans.in_categories(LAUNCH_CATEGORIES)
        wanted = trace.is_op | trace.is_annotation | is_call
        wanted[calls] = True
        return trace.host[wanted[trace.host]]

    def _on_host(self, chosen: IntArray, calls: IntArray) -> Iterator[_JsonEvent]:
        """Spans of the host, cut off where the span around them ends."""
        trace, spans = self._trace, self._trace.spans
        place = np.searchsorted(trace.host, chosen)  # both ascend
        length = trace.nesting.end_ns[place] - spans.ts_ns[chosen]
        launched = self._launched_kind()
        is_call = spans.in_categories(LAUNCH_CATEGORIES)
        is_launch = np.zeros(len(spans), dtype=bool)
        is_launch[calls] = True
        columns = (chosen, spans.name[chosen], spans.track[chosen], spans.ts_ns[chosen], length)
        for index, name, track, start, dur in zip(*(column.tolist() for column in columns), strict=True):
            if is_launch[index]:
                cat, text = "cuda_runtime", launched[index]
            elif is_call[index]:
                cat, text = "cuda_runtime", _as_cuda(spans.names[name])
            else:
                cat = "cpu_op" if trace.is_op[index] else "user_annotation"
                text = spans.names[name].replace("ProfilerStep", "Step")
            event = self._span(cat, text, _HOST_PID, _HOST_TID + 2 + track, start, dur)
            correlation = int(self._correlation[index])
            yield event | {"args": {"correlation": correlation}} if correlation else event

    def _launched_kind(self) -> dict[int, str]:
        """Launching call → the name that HTA knows calls by that launch what this one did."""
        trace, spans = self._trace, self._trace.spans
        linked = np.flatnonzero(trace.launch >= 0)[::-1]  # the first activity of a call is the last to be written
        kinds = spans.cat[trace.activities[linked]].tolist()
        names = {code: _kind(cat)[1] for code, cat in enumerate(spans.cats)}
        return {call: names[kind] for call, kind in zip(trace.launch[linked].tolist(), kinds, strict=True)}

    def _on_device(self, chosen: BoolArray) -> Iterator[_JsonEvent]:
        spans = self._trace.spans
        rows = self._trace.activities[chosen]
        columns = (spans.name, spans.cat, spans.device, spans.stream, spans.ts_ns, spans.dur_ns, spans.bytes)
        values = zip(*(column[rows].tolist() for column in (*columns, self._correlation)), strict=True)
        for name, cat, device, stream, start, dur, size, correlation in values:
            kind, _, prefix = _kind(spans.cats[cat])
            text = spans.names[name]
            code = self._codes[device, stream]
            args: dict[str, Any] = {"stream": code, "device": max(device, 0)}
            if correlation:
                args["correlation"] = correlation
            if prefix:
                text = text if text.startswith(prefix) else f"{prefix} {text}"
                args["memory bandwidth (GB/s)"] = size / dur if size > 0 and dur > 0 else 0.0
            yield self._span(kind, text, max(device, 0), code, start, dur) | {"args": args}

    def _waits(self) -> Iterator[_JsonEvent]:
        """The synchronisation spans as the file has them, under the copy's stream numbers."""
        sink = _SyncSink()
        stream_events(self._trace.path, sink)
        for event in sink.events:
            args = event["args"]
            device = args.get("device", NONE)
            for key in ("stream", "wait_on_stream"):
                if key in args:
                    args[key] = self._codes.get((device, args[key]), NONE)
            yield self._span(
                SYNC, event["name"], max(device, 0), args.get("stream", NONE), event["ts"], event["dur"]
            ) | {"args": args}

    def _span(self, cat: str, name: str, pid: int, tid: int, start_ns: int, dur_ns: int) -> _JsonEvent:
        start, dur = start_ns - self._zero_ns, max(dur_ns, 0)
        return {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": dur}


class _SyncSink:
    """Keeps the synchronisation spans of a file, times in ns."""

    def __init__(self) -> None:
        self.events: list[_JsonEvent] = []

    def decode(self, array: bytes | memoryview) -> bool:
        """Look through a batch of events; those that don't decode hold none that could be told."""
        try:
            batch = decoded(bytes(array), list[dict[str, msgspec.Raw]])
        except UnreadableValueError:
            return False
        for event in batch:
            if bytes(event.get("cat", b"")) != b'"cuda_sync"' or bytes(event.get("ph", b"")) != b'"X"':
                continue
            start, dur = (time_ns(bytes(event.get(key, b"null"))) for key in ("ts", "dur"))
            args = value_of(event["args"]) if "args" in event else {}
            if start is not None and dur is not None and isinstance(args, dict):
                name = text(value_of(event["name"])) if "name" in event else ""
                self.events.append({"name": name, "ts": start, "dur": dur, "args": args})
        return True


def _kind(cat: str) -> tuple[str, str, str]:
    """The category in the copy and the rest of `_KINDS`; an activity of another vendor's category is a kernel."""
    return _KINDS.get(cat.lower(), _KINDS["kernel"])


def stream_name(device: int, stream: int, *, many: bool) -> str:
    """A stream's name; with its device where there are several.

    >>> stream_name(0, 7, many=False), stream_name(1, 7, many=True)
    ('7', '1:7')
    """
    return f"{device}:{stream}" if many else str(stream)


def _as_cuda(name: str) -> str:
    """The name by which HTA knows a call of ROCm's that waits."""
    return f"cuda{name[3:]}" if name.startswith("hip") else name


def _write(out: Any, events: Iterable[_JsonEvent]) -> None:
    batch = list(events)
    if batch:
        out.write(b",\n" + _encoder.encode_lines(batch)[:-1].replace(b"}\n{", b"},\n{"))
