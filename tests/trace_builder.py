"""A fluent builder of synthetic traces, so that a test can work its values out by hand. All times are ns."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Self

import msgspec

from gemma_trace.metadata import RunMetadata
from gemma_trace.trace.clock import ns_to_decimal_us
from gemma_trace.trace.events import MemoryEvents
from gemma_trace.trace.header import METADATA_KEY
from gemma_trace.trace.reader import TraceFile
from gemma_trace.trace.trace import Trace, load

MAIN = 100
"""The thread that ranges, ops and launches are on unless they say otherwise."""


def decimal_us(ns: int) -> msgspec.Raw:
    """Nanoseconds as the JSON number that Kineto writes, to the last digit."""
    return msgspec.Raw(ns_to_decimal_us(ns))


class TraceBuilder:
    """Collects events in the order they are added."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.header: dict[str, Any] = {"schemaVersion": 1, "deviceProperties": []}

    def span(
        self, cat: str, name: str, start_ns: int, dur_ns: int, *, tid: int | str = MAIN, pid: int | str = 1, **args: Any
    ) -> Self:
        """A complete event."""
        event = {"ph": "X", "cat": cat, "name": name, "pid": pid, "tid": tid}
        self.events.append(event | {"ts": decimal_us(start_ns), "dur": decimal_us(dur_ns), "args": args})
        return self

    def range(self, name: str, start_ns: int, dur_ns: int, *, tid: int = MAIN, pid: int = 1) -> Self:
        """A `record_function` range; a bare stage name gets our prefix."""
        full = name if "::" in name or "#" in name else f"gemma_trace::{name}"
        return self.span("user_annotation", full, start_ns, dur_ns, tid=tid, pid=pid)

    def frame(self, name: str, start_ns: int, dur_ns: int, *, tid: int = MAIN, pid: int = 1) -> Self:
        """A Python frame, as `with_stack` records them."""
        return self.span("python_function", name, start_ns, dur_ns, tid=tid, pid=pid)

    def op(self, name: str, start_ns: int, dur_ns: int, *, tid: int = MAIN, dims: Any = None) -> Self:
        """A PyTorch op."""
        args = {} if dims is None else {"Input Dims": dims}
        return self.span("cpu_op", name, start_ns, dur_ns, tid=tid, **args)

    def launch(
        self,
        correlation: int,
        start_ns: int,
        dur_ns: int = 2,
        *,
        name: str = "cudaLaunchKernel",
        tid: int = MAIN,
        pid: int = 1,
    ) -> Self:
        """A call of the runtime."""
        return self.span("cuda_runtime", name, start_ns, dur_ns, tid=tid, pid=pid, correlation=correlation)

    def kernel(
        self,
        name: str,
        start_ns: int,
        dur_ns: int,
        *,
        correlation: int = 0,
        stream: int = 7,
        device: int = 0,
        cat: str = "kernel",
    ) -> Self:
        """A device activity; its process is its device's index, as Kineto writes it."""
        args = {"correlation": correlation, "stream": stream, "device": device}
        return self.span(cat, name, start_ns, dur_ns, pid=device, tid=stream, **args)

    def counter(self, name: str, at_ns: int, values: Any, *, pid: int | str = 0, **more: Any) -> Self:
        """A sample of a counter; `values` are its arguments, or the one that is called `value`."""
        args = values if isinstance(values, dict) else {"value": values}
        self.events.append({"ph": "C", "name": name, "pid": pid, "ts": decimal_us(at_ns), "args": args} | more)
        return self

    def names(self, kind: str, name: str, *, pid: int | str, tid: int | str = 0) -> Self:
        """A metadata event that names something: `process_name`, `process_labels` or `thread_name`."""
        args = {"labels" if kind == "process_labels" else "name": name}
        self.events.append({"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": args})
        return self

    def raw(self, **event: Any) -> Self:
        """Any event at all."""
        self.events.append(event)
        return self

    def metadata(self, metadata: RunMetadata) -> Self:
        """What our capture says of itself."""
        self.header[METADATA_KEY] = msgspec.Raw(metadata.to_json())
        return self

    def json(self) -> bytes:
        """The trace as JSON, indented as Kineto does it."""
        return msgspec.json.format(msgspec.json.encode(self.header | {"traceEvents": self.events}), indent=2)

    def write(self, path: Path) -> Path:
        """Write the trace; gzip if the name ends in .gz."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.json()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return path

    def load(self, folder: Path) -> Trace:
        """Write the trace into a folder and read it back."""
        return load(self.write(folder / "built.json"))


def memory_of(file: TraceFile | None) -> MemoryEvents:
    """The memory events of a file that was read with its details."""
    assert file is not None
    assert file.memory is not None
    return file.memory
