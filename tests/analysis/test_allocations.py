"""Memory by stage, worked out by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from gemma_trace.analysis.allocations import MemoryUse, StageMemory, memory_use
from tests.conftest import real_trace, thorough
from tests.trace_builder import MAIN, TraceBuilder, decimal_us

RESIDENT = 1000
CACHE, FEATURES, INPUTS, LOGITS, ID, SCRATCH, CACHE_TOO = range(4096, 4103)

EVENTS = [  # time, bytes, address
    (110, 300, INPUTS),
    (160, 500, SCRATCH),
    (200, -500, SCRATCH),
    (250, 40, FEATURES),
    (310, 200, CACHE),
    (320, 600, SCRATCH),
    (330, -600, SCRATCH),
    (340, 10, LOGITS),
    (510, -10, LOGITS),
    (520, 4, ID),
    (610, 210, CACHE_TOO),
    (620, -200, CACHE),
    (810, 220, CACHE),
    (820, -210, CACHE_TOO),
    (830, 50, SCRATCH),
    (840, -50, SCRATCH),
    (950, -220, CACHE),
    (960, -300, INPUTS),
    (970, -40, FEATURES),
]


class MemoryBuilder(TraceBuilder):
    """Traces with allocators; totals are kept for each device, that of a device starts at `RESIDENT`."""

    def __init__(self) -> None:
        super().__init__()
        self.totals = {0: RESIDENT, -1: 0}

    def memory(self, at_ns: int, size: int, address: int = 1, *, device: int = 0, tid: int = MAIN) -> MemoryBuilder:
        """An event of an allocator."""
        self.totals[device] += size
        args = {"Device Type": int(device >= 0), "Device Id": device, "Addr": address, "Bytes": size}
        args |= {"Total Allocated": self.totals[device], "Total Reserved": 4096 if device >= 0 else 0}
        self.raw(ph="i", s="t", name="[memory]", pid=1, tid=tid, ts=decimal_us(at_ns), args=args)
        return self


def request(events: list[tuple[int, int, int]], device: int = 0) -> MemoryBuilder:
    """A request of three tokens from 0 to 1000."""
    built = MemoryBuilder()
    built.range("request", 0, 1000).range("transfer", 100, 50).range("vision_tower", 150, 150)
    built.range("prefill", 300, 200).range("sampling", 500, 50).range("decode", 600, 100).range("decode", 800, 100)
    for at_ns, size, address in events:
        built.memory(at_ns, size, address, device=device)
    return built


def use_of(built: TraceBuilder, folder: Path) -> MemoryUse:
    found = memory_use(built.load(folder))
    assert found is not None
    return found


def rows_of(found: MemoryUse, device: int = 0) -> dict[str, StageMemory]:
    return {row.stage: row for row in found.stages if row.device == device}


def test_the_stages_of_a_request_by_hand(tmp_path: Path) -> None:
    found = use_of(request(EVENTS), tmp_path)
    names = ("start_bytes", "peak_bytes", "growth_bytes", "allocated_bytes", "freed_bytes", "activations_bytes")
    assert {stage: tuple(getattr(row, name) for name in names) for stage, row in rows_of(found).items()} == {
        "transfer": (1000, 1300, 300, 300, 0, 300),
        "vision_tower": (1300, 1800, 40, 540, 500, 800),
        "prefill": (1340, 2140, 210, 810, 600, 940),
        "sampling": (1550, 1550, -6, 4, 10, 350),
        "decode": (1544, 1774, 20, 480, 460, 344),
        "unattributed": (1000, 1564, -560, 0, 560, 344),
    }
    assert sum(row.growth_bytes for row in found.stages) == 4, "the token's id is what stays"
    assert rows_of(found)["unattributed"].range_peak_bytes == 2140


def test_the_allocator_by_hand(tmp_path: Path) -> None:
    (device,) = use_of(request(EVENTS), tmp_path).devices
    assert (device.device, device.events, device.resident_bytes) == (0, 19, RESIDENT)
    assert (device.peak_bytes, device.peak_reserved_bytes) == (2140, 4096)
    assert (device.peak_request, device.peak_stage, device.peak_ns) == (0, "prefill", 320)
    assert (device.missing, device.unmatched) == (0, 0)
    (cache,) = device.caches
    assert (cache.cache_bytes, cache.step_bytes) == (210, 10.0), "200 as the first step begins, 210 as the second does"


def test_what_outlives_the_request_is_no_cache(tmp_path: Path) -> None:
    kept = use_of(request([(310, 200, CACHE), (320, 30, SCRATCH), (950, -200, CACHE)]), tmp_path)
    assert kept.devices[0].caches[0].cache_bytes == 200
    assert rows_of(kept)["sampling"].activations_bytes == 30


def test_the_hosts_allocator_counts_from_the_profilers_start(tmp_path: Path) -> None:
    found = use_of(request(EVENTS, device=-1).memory(970, 8), tmp_path)
    assert [device.device for device in found.devices] == [0, -1]
    assert found.devices[1].resident_bytes is None
    assert found.devices[1].peak_bytes == 1140
    assert rows_of(found, -1)["prefill"].activations_bytes == 940


def test_without_a_decode_the_prefill_cannot_be_told_apart(tmp_path: Path) -> None:
    built = MemoryBuilder()
    built.range("request", 0, 1000).range("vision_tower", 100, 100).range("prefill", 300, 200)
    found = use_of(built.memory(110, 70, 1).memory(310, 200, 2).memory(400, -200, 2), tmp_path)
    assert rows_of(found)["vision_tower"].activations_bytes == 70
    assert rows_of(found)["prefill"].activations_bytes is None
    assert rows_of(found)["prefill"].peak_bytes == RESIDENT + 270
    assert found.devices[0].caches == ()


def test_missing_events_are_counted_and_nothing_is_guessed(tmp_path: Path) -> None:
    built = request(EVENTS[:6])
    built.totals[0] += 5000
    found = use_of(built.memory(345, 10, LOGITS), tmp_path)
    assert (found.devices[0].missing, found.devices[0].unmatched, found.devices[0].caches) == (1, 0, ())
    assert all(row.activations_bytes is None for row in found.stages)
    assert rows_of(found)["prefill"].peak_bytes == 2140 + 5000 + 10


@pytest.mark.parametrize(
    "events",
    [
        [(310, 200, CACHE), (320, 200, CACHE)],
        [(310, 200, CACHE), (320, -100, CACHE)],
        [(310, -200, CACHE), (320, -100, CACHE)],
        [(310, 200, -1)],
    ],
    ids=["allocated twice", "freed in another size", "freed twice", "no address"],
)
def test_blocks_that_do_not_pair_are_counted(tmp_path: Path, events: list[tuple[int, int, int]]) -> None:
    found = use_of(request(events), tmp_path)
    assert (found.devices[0].missing, found.devices[0].unmatched) == (0, 1)
    assert rows_of(found)["prefill"].activations_bytes is None


def test_nested_stages_and_other_threads(tmp_path: Path) -> None:
    built = MemoryBuilder()
    built.range("request", 0, 1000).range("preprocessing", 100, 300).range("image_processing", 200, 100)
    built.range("vision_tower", 600, 200, tid=7)
    built.memory(150, 10, 1)
    built.memory(205, 30, 3, tid=8)  # of a thread without ranges, while the request processes an image
    built.memory(210, 500, 2).memory(290, -500, 2).memory(320, -10, 1)
    built.memory(650, 900, 4, tid=7).memory(1500, 5000, 5)
    trace = built.load(tmp_path)
    found = memory_use(trace)
    assert found is not None
    rows = rows_of(found)
    assert (rows["preprocessing"].peak_bytes, rows["preprocessing"].range_peak_bytes) == (1040, 1540)
    assert (rows["preprocessing"].growth_bytes, rows["image_processing"].growth_bytes) == (0, 0)
    assert rows["image_processing"].peak_bytes == 1540, "whoever allocates"
    assert (rows["unattributed"].allocated_bytes, rows["vision_tower"].allocated_bytes) == (30, 900)
    assert (rows["vision_tower"].start_bytes, rows["vision_tower"].peak_bytes) == (1030, 1930)
    device = found.devices[0]
    assert (device.peak_bytes, device.peak_request, device.peak_stage) == (6930, None, "")
    assert device.peak_ns == 1500 - 150
    assert memory_use(trace, []) == MemoryUse((device,), ())


def test_a_profiler_that_gives_no_totals(tmp_path: Path) -> None:
    built = request(EVENTS)
    for event in built.events:
        event["args"].pop("Total Allocated", None)
        event["args"].pop("Total Reserved", None)
    (device,) = use_of(built, tmp_path).devices
    assert (device.resident_bytes, device.peak_bytes, device.peak_reserved_bytes) == (None, 1140, 0)
    assert device.caches[0].cache_bytes == 210


def test_no_memory_events_no_memory(tmp_path: Path) -> None:
    assert memory_use(TraceBuilder().range("request", 0, 1000).load(tmp_path)) is None


@pytest.mark.parametrize("name", ["h100_bert_small", *thorough(["h100_owlv2_vlm_proxy", "h100_qwen15_0.5b_unlinked"])])
def test_real_traces_against_a_plain_count(corpus: Path, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    with gzip.open(path) as file:
        events = [event for event in json.load(file)["traceEvents"] if event.get("name") == "[memory]"]
    found = memory_use(real_trace(path))
    assert found is not None
    assert [device.device for device in found.devices] == [0, -1]
    for device in found.devices:
        mine = [event["args"] for event in events if event["args"]["Device Id"] == device.device]
        assert device.events == len(mine)
        assert device.peak_bytes == max(args["Total Allocated"] for args in mine)
        assert device.peak_reserved_bytes == max(args["Total Reserved"] for args in mine)
        before = mine[0]["Total Allocated"] - mine[0]["Bytes"]
        assert device.resident_bytes == (before if device.device == 0 else None)
        assert (device.missing, device.unmatched) == (0, 0)
        rows = [row for row in found.stages if row.device == device.device]
        assert sum(row.allocated_bytes for row in rows) == sum(max(args["Bytes"], 0) for args in mine)
        assert sum(row.growth_bytes for row in rows) == mine[-1]["Total Allocated"] - before
        assert max(row.peak_bytes for row in rows) == device.peak_bytes
        assert max(row.activations_bytes or 0 for row in rows) == device.peak_bytes - before


def test_requests_grow_by_the_sum_of_their_stages(tmp_path: Path) -> None:
    built = request(EVENTS)
    built.range("request", 2000, 500).memory(2100, 64, 9).memory(2400, -4, ID)
    trace = built.load(tmp_path)
    found = memory_use(trace)
    assert found is not None
    growth = [sum(row.growth_bytes for row in found.stages if row.request == one.index) for one in trace.requests]
    assert growth == [4, 60]


def test_what_comes_and_goes_between_two_recordings_is_nobodys(tmp_path: Path) -> None:
    """Cycles of the profiler: blocks of the first are freed unseen, and others are where they were."""
    built = request(EVENTS[:-2])  # INPUTS and FEATURES outlive the recording
    built.totals[0] = RESIDENT + 7  # what the next one begins with
    for start in (0, 5000):
        built.span("Trace", "PyTorch Profiler (0)", start, 1000, pid="Spans", tid="PyTorch Profiler")
    built.range("request", 5000, 1000).range("prefill", 5300, 200).range("decode", 5600, 100).range("decode", 5800, 100)
    for at_ns, size, address in EVENTS:
        built.memory(5000 + at_ns, size, address)
    found = use_of(built, tmp_path)
    (device,) = found.devices
    assert (device.missing, device.unmatched, device.resident_bytes) == (0, 0, RESIDENT)
    assert [(cache.request, cache.cache_bytes) for cache in device.caches] == [(0, 210), (1, 210)]
    starts = {row.request: row.start_bytes for row in found.stages if row.stage == "unattributed"}
    assert starts == {0: RESIDENT, 1: RESIDENT + 7}
