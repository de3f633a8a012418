"""Writes a trace as Kineto writes them, of any size: requests to a multimodal model, on a host thread and a device.

Deterministic from a seed, and streamed: memory is one layer of the model, whatever the trace's size.

    python -m tests.benchmarks.generate --megabytes 100 trace.json.gz
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.benchmarks.model import (
    DECODER_LAYER,
    ENCODER_LAYER,
    IMAGE_PROCESSING,
    PROJECTOR,
    SAMPLING,
    TRANSFER,
    Kind,
    Node,
)

PID: Final = 21587
TID: Final = 21587
WATCHER_TID: Final = 21716
START_NS: Final = 1_419_116_104_507_840
"""Relative to `baseTimeNanoseconds`, as Kineto writes times since 2024."""

ENCODER_LAYERS: Final = 27
DECODER_LAYERS: Final = 34
IMAGE_PATCHES: Final = 4096
MAX_DECODES: Final = 24

_OP: Final = (
    b',\n  {\n    "ph": "X", "cat": "cpu_op", "name": "%b", "pid": 21587, "tid": 21587,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n'
    b'      "External id": %d,"Record function id": 0%b, "Ev Idx": %d\n    }\n  }'
)
_FRAME: Final = (
    b',\n  {\n    "ph": "X", "cat": "python_function", "name": "%b", "pid": 21587, "tid": 21587,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n'
    b'      "Python parent id": %d, "Python id": %d%b, "Ev Idx": %d\n    }\n  }'
)
_MEMORY: Final = (
    b',\n  {\n    "ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]",\n'
    b'    "pid": 21587, "tid": 21587,\n    "ts": %d.%03d,\n    "args": {\n'
    b'      "Total Reserved": 9164554240, "Total Allocated": %d, "Bytes": %d, "Addr": %d, "Device Id": 0, '
    b'"Device Type": 1, "Ev Idx": %d\n    }\n  }'
)
_CALL: Final = (
    b',\n  {\n    "ph": "X", "cat": "cuda_runtime", "name": "%b", "pid": 21587, "tid": 21587,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n'
    b'      "External id": %d, "cbid": %d, "correlation": %d\n    }\n  }'
)
_KERNEL: Final = (
    b',\n  {\n    "ph": "X", "cat": "kernel", "name": "%b", "pid": 0, "tid": %d,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n'
    b'      "External id": %d, "queued": 0, "device": 0, "context": 1,\n      "stream": %d, "correlation": %d,\n'
    b'      "registers per thread": %d,\n      "shared memory": %d,\n      "blocks per SM": %d.%06d,\n'
    b'      "warps per SM": %d.%06d,\n      "grid": [%d, %d, 1],\n      "block": [%d, 1, 1],\n'
    b'      "est. achieved occupancy %%": %d\n    }\n  }'
)
_COPY: Final = (
    b',\n  {\n    "ph": "X", "cat": "%b", "name": "%b", "pid": 0, "tid": %d,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n'
    b'      "External id": %d, "device": 0, "context": 1,\n      "stream": %d, "correlation": %d,\n'
    b'      "bytes": %d, "memory bandwidth (GB/s)": %d.%06d\n    }\n  }'
)
_FLOW_START: Final = (
    b',\n  {\n    "ph": "s", "id": %d, "pid": 21587, "tid": 21587, "ts": %d.%03d,\n'
    b'    "cat": "ac2g", "name": "ac2g"\n  }'
)
_FLOW_END: Final = (
    b',\n  {\n    "ph": "f", "id": %d, "pid": 0, "tid": %d, "ts": %d.%03d,\n'
    b'    "cat": "ac2g", "name": "ac2g", "bp": "e"\n  }'
)
_RANGE: Final = (
    b',\n  {\n    "ph": "X", "cat": "%b", "name": "%b", "pid": %d, "tid": %d,\n'
    b'    "ts": %d.%03d, "dur": %d.%03d,\n    "args": {\n      "External id": %d\n    }\n  }'
)
_NAMED: Final = (
    b'%b\n  {\n    "name": "%b", "ph": "M", "ts": %d.%03d, "pid": %d, "tid": %d,\n'
    b'    "args": {\n      "%b": "%b"\n    }\n  }'
)
_HEADER: Final = {
    "schemaVersion": 1,
    "deviceProperties": [{"id": 0, "name": "NVIDIA H100 80GB HBM3", "totalGlobalMem": 85018279936, "numSms": 132}],
    "distributedInfo": {"backend": "nccl", "rank": 0, "world_size": 1},
    "record_shapes": 1,
    "profile_memory": 1,
    "with_stack": 1,
}


@dataclass
class Counts:
    """What was written."""

    bytes: int = 0
    events: int = 0
    spans: int = 0
    activities: int = 0
    """Kernels, copies and fills."""


@dataclass
class _Recorder:
    """The profiler of a program that isn't there: a host's clock, a device's clock, and the events between flushes."""

    file: gzip.GzipFile
    random: Random
    counts: Counts = field(default_factory=Counts)
    clock: int = START_NS
    device_clock: int = START_NS
    correlation: int = 524_000
    external_id: int = 1
    python_id: int = 6
    event_index: int = 0
    allocated: int = 8_589_934_592
    frames_open: list[int] = field(default_factory=lambda: [6])
    first_activity: list[int | None] = field(default_factory=list)
    host: list[bytes] = field(default_factory=list)
    device: list[bytes] = field(default_factory=list)

    def write(self, text: bytes) -> None:
        self.counts.bytes += len(text)
        self.file.write(text)

    def flush(self) -> None:
        self.write(b"".join(self.host))
        self.write(b"".join(self.device))
        self.host.clear()
        self.device.clear()

    def play(self, node: Node, layer: int, tokens: int, context: int) -> None:
        """Run a piece of the model.

        Args:
            layer: its number, which module names end in.
            tokens: sequence length that goes in.
            context: sequence length that it attends to.
        """
        if node.kind is Kind.LAUNCH:
            self._launch(node, tokens)
            return
        start = self.clock
        self.clock += 250 + self.random.getrandbits(9)
        place = len(self.host)
        self.host.append(b"")
        index = self.event_index
        self.event_index += 1
        is_frame = node.kind is Kind.FRAME
        if is_frame:
            self.python_id += 1
            ident, parent = self.python_id, self.frames_open[-1]
            self.frames_open.append(ident)
        else:
            self.external_id += 1
            ident, parent = self.external_id, 0
        for child in node.children:
            self.play(child, layer, tokens, context)
        if node.allocates:
            self._allocate(tokens)
        self.clock += 150 + self.random.getrandbits(8)
        length = self.clock - start
        name = b"%b_%d" % (node.name, layer) if node.numbered else node.name
        if is_frame:
            self.frames_open.pop()
            module = b', "Python module id": %d' % layer if node.numbered else b""
            self.host[place] = _FRAME % (name, *_us(start), *_us(length), parent, ident, module, index)
        else:
            inputs = node.inputs.replace(b"@T", b"%d" % tokens).replace(b"@C", b"%d" % context)
            self.host[place] = _OP % (name, *_us(start), *_us(length), ident, inputs, index)
        self.counts.events += 1
        self.counts.spans += 1

    def _allocate(self, tokens: int) -> None:
        size = 2304 * tokens
        self.allocated += size if self.random.getrandbits(1) else -size
        address = 0x7F0000000000 + (self.random.getrandbits(24) << 9)
        self.host.append(_MEMORY % (*_us(self.clock), self.allocated, size, address, self.event_index))
        self.event_index += 1
        self.counts.events += 1

    def _launch(self, node: Node, tokens: int) -> None:
        self.correlation += 1
        start = self.clock
        self.clock += 2200 + self.random.getrandbits(11)
        begin = max(self.device_clock + 320, self.clock + 1500)
        length = node.fixed_ns + node.token_ns * tokens + self.random.getrandbits(8)
        self.device_clock = begin + length
        for level, first in enumerate(self.first_activity):
            if first is None:
                self.first_activity[level] = begin
        if node.waits:
            self.clock = max(self.clock, self.device_clock + 900)
        called = self.clock - start
        ids = (self.external_id, node.stream, self.correlation)
        self.device.append(
            _CALL % (node.call, *_us(start), *_us(called), self.external_id, node.callback, self.correlation)
        )
        self.device.append(_FLOW_START % (self.correlation, *_us(start)))
        if node.category == b"kernel":
            blocks = -(-tokens // 64) * node.grid
            per_sm = divmod(blocks * 1_000_000 // 132, 1_000_000)
            warps = divmod(blocks * node.block // 32 * 1_000_000 // 132, 1_000_000)
            resources = (node.registers, node.shared_bytes, *per_sm, *warps, -(-tokens // 64), node.grid, node.block)
            self.device.append(
                _KERNEL % (node.name, node.stream, *_us(begin), *_us(length), *ids, *resources, min(100, warps[0]))
            )
        else:
            size = 2 * (tokens * 1152 if node.token_ns else 4)
            rate = divmod(size * 1_000_000 // length, 1_000_000)
            times = (*_us(begin), *_us(length))
            self.device.append(_COPY % (node.category, node.name, node.stream, *times, *ids, size, *rate))
        self.device.append(_FLOW_END % (self.correlation, node.stream, *_us(begin)))
        self.counts.events += 4
        self.counts.spans += 2
        self.counts.activities += 1

    @contextmanager
    def stage(self, name: bytes) -> Iterator[None]:
        """A `record_function` range, and its shadow on the device."""
        self.clock += 1200
        start, ident = self.clock, self.external_id
        self.external_id += 1
        self.first_activity.append(None)
        yield
        self.clock += 1200
        first = self.first_activity.pop()
        label = b"gemma_trace::" + name
        self.span(b"user_annotation", label, PID, TID, start, self.clock, ident)
        if first is not None:
            self.span(b"gpu_user_annotation", label, 0, 7, first, self.device_clock, ident)

    def span(self, category: bytes, name: bytes, pid: int, tid: int, start: int, end: int, ident: int) -> None:
        self.host.append(_RANGE % (category, name, pid, tid, *_us(start), *_us(end - start), ident))
        self.counts.events += 1
        self.counts.spans += 1

    def layers(self, node: Node, count: int, tokens: int, context: int) -> None:
        for layer in range(count):
            self.play(node, layer, tokens, context)
            self.flush()

    def request(self, target_bytes: int) -> None:
        """One image and a prompt, from the file to the last token, fewer tokens where the trace is long enough."""
        prompt = self.random.randrange(270, 900)
        begin = self.clock
        with self.stage(b"request"):
            with self.stage(b"image_load"):
                self.clock += 9_000_000
            with self.stage(b"preprocessing"), self.stage(b"image_processing"):
                self.layers(IMAGE_PROCESSING, 1, 896, 896)
            with self.stage(b"transfer"):
                self.layers(TRANSFER, 1, IMAGE_PATCHES, 1)
            with self.stage(b"vision_tower"):
                self.layers(ENCODER_LAYER, ENCODER_LAYERS, IMAGE_PATCHES, IMAGE_PATCHES)
            with self.stage(b"projector"):
                self.layers(PROJECTOR, 1, 256, 256)
            with self.stage(b"prefill"):
                self.layers(DECODER_LAYER, DECODER_LAYERS, prompt, prompt)
            with self.stage(b"sampling"):
                self.layers(SAMPLING, 1, 1, prompt)
            for token in range(MAX_DECODES):
                if self.counts.bytes >= target_bytes:
                    break
                with self.stage(b"decode"):
                    self.layers(DECODER_LAYER, DECODER_LAYERS, 1, prompt + token + 1)
                with self.stage(b"sampling"):
                    self.layers(SAMPLING, 1, 1, prompt + token + 1)
        self.span(b"python_function", b"threading.py(655): wait", PID, WATCHER_TID, begin, self.clock, 0)
        self.flush()
        self.clock += 50_000


def _us(ns: int) -> tuple[int, int]:
    """Nanoseconds as whole microseconds and the three digits behind the point."""
    return divmod(ns, 1000)


def write_trace(path: Path, target_bytes: int, seed: int = 0) -> Counts:
    """Write a gzip trace of about `target_bytes` inflated: no less, and at most one request's prefill more."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
        recorder = _Recorder(file, Random(seed))
        header = json.dumps(_HEADER, indent=2).rstrip("\n}")
        recorder.write(header.encode() + b',\n  "traceEvents": [')
        for number, (name, pid, tid, key, value) in enumerate(_NAMES):
            comma = b"," if number else b""
            recorder.write(_NAMED % (comma, name, *_us(START_NS), pid, tid, key, value))
            recorder.counts.events += 1
        while recorder.counts.bytes < target_bytes:
            recorder.request(target_bytes)
        recorder.write(
            b'\n  ],\n  "traceName": "trace.json",\n  "displayTimeUnit": "ms",\n'
            b'  "baseTimeNanoseconds": 1751410836000000000\n}\n'
        )
        return recorder.counts


_NAMES: Final = (
    (b"process_name", PID, 0, b"name", b"python3"),
    (b"process_labels", PID, 0, b"labels", b"CPU"),
    (b"process_name", 0, 0, b"name", b"python3"),
    (b"process_labels", 0, 0, b"labels", b"GPU 0"),
    (b"thread_name", PID, TID, b"name", b"thread 21587 (python3)"),
    (b"thread_name", PID, WATCHER_TID, b"name", b"thread 21716 (python3)"),
    (b"thread_name", 0, 7, b"name", b"stream 7 "),
    (b"thread_name", 0, 20, b"name", b"stream 20 "),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a trace as Kineto writes them, of any size.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--megabytes", type=int, default=100, help="inflated, of 10^6 bytes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts = write_trace(options.path, options.megabytes * 1_000_000, options.seed)
    print(json.dumps(vars(counts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
