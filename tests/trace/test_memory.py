"""What torch's allocators say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemma_trace.trace.cache import TraceCache
from gemma_trace.trace.reader import read_trace
from tests.trace_builder import TraceBuilder, memory_of


def memory(ts_us: float, device: int, size: int, allocated: int, reserved: int) -> dict[str, Any]:
    args = {"Device Type": int(device >= 0), "Device Id": device, "Addr": 4096, "Bytes": size}
    args |= {"Total Allocated": allocated, "Total Reserved": reserved}
    return {"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 100} | {
        "ts": ts_us,
        "args": args,
    }


def built() -> TraceBuilder:
    builder = TraceBuilder().op("aten::empty", 1000, 500).raw(**memory(1.2, 0, 512, 512, 2 << 20))
    freed = memory(1.4, 0, -512, 0, 2 << 20)
    freed["args"]["Addr"] = "8192"
    builder.raw(**memory(1.3, -1, 64, 64, 0)).raw(**freed)
    return builder.raw(ph="i", s="g", name="Record Window End", pid="", tid="", ts=9).raw(
        ph="i", s="t", name="[memory]", pid=1, tid=100, ts=0.25
    )


def test_memory_events_are_columns(tmp_path: Path) -> None:
    file = read_trace(built().write(tmp_path / "built.json"))
    found = memory_of(file)
    assert found.ts_ns.tolist() == [1200, 1300, 1400]
    assert [(file.events.tracks[code].pid, file.events.tracks[code].tid) for code in found.track] == [("1", "100")] * 3
    assert found.device.tolist() == [0, -1, 0]
    assert found.address.tolist() == [4096, 4096, 8192]
    assert found.bytes.tolist() == [512, 64, -512]
    assert found.allocated_bytes.tolist() == [512, 64, 0]
    assert found.reserved_bytes.tolist() == [2 << 20, 0, 2 << 20]
    assert file.report.first_ns == 250, "instants count too"
    assert len(file.events) == 1


def test_the_cache_keeps_them(tmp_path: Path) -> None:
    file = read_trace(built().write(tmp_path / "built.json"))
    cache = TraceCache(tmp_path)
    cache.keep(file, tmp_path / "kept.columns")
    again = cache.load(tmp_path / "kept.columns")
    assert again is not None
    assert memory_of(again).allocated_bytes.tolist() == [512, 64, 0]
    assert memory_of(again).device.dtype == memory_of(file).device.dtype
    assert memory_of(again).address.tolist() == memory_of(file).address.tolist()
    assert again.report.first_ns == 250


def test_the_counts_of_a_real_trace(corpus: Path) -> None:
    found = memory_of(read_trace(corpus / "h100_bert_small.json.gz"))
    assert len(found) == 236
    assert (found.device[0], found.bytes[0], found.allocated_bytes[0]) == (0, 144384, 91505152)
    assert found.address[0] == 128184607182336
