"""Rules that look at how kernels fill a device, and at its streams: ceilings worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gemma_trace.advice.advise import advise
from gemma_trace.advice.findings import Advice, Finding
from tests.trace_builder import TraceBuilder

MS = 1_000_000
GEMM = "ampere_bf16_s16816gemm_bf16_128x128"


def request(wall_ms: int = 100) -> TraceBuilder:
    return TraceBuilder().range("request", 0, wall_ms * MS)


def kernels(*each: tuple[str, int, Sequence[int]], multiprocessors: int | str | None = 100) -> TraceBuilder:
    """A request whose device runs kernels of so many ms with such grids, from the 10th ms on; the host waits for it."""
    built, now = request(), 10
    for place, (name, length, grid) in enumerate(each, start=1):
        built.launch(place, place * 1000, 500)
        args = {"correlation": place, "stream": 7, "device": 0} | ({"grid": list(grid)} if grid else {})
        built.span("kernel", name, now * MS, length * MS, pid=0, tid=7, **args)
        now += length
    if multiprocessors is not None:
        built.header["deviceProperties"] = [{"id": 0, "name": "A", "numSms": multiprocessors}]
    return built.span("cuda_runtime", "cudaDeviceSynchronize", 9 * MS, (now - 9) * MS)


def found(built: TraceBuilder, folder: Path, rule: str) -> Finding | None:
    return next((each for each in advise(built.load(folder)).findings if each.rule == rule), None)


def missing(advice: Advice, rule: str) -> list[str]:
    return [each.missing for each in advice.abstentions if each.rule == rule]


def test_low_occupancy(tmp_path: Path) -> None:
    finding = found(kernels(("k", 40, (5, 5, 1)), ("k", 30, (200, 2, 1))), tmp_path, "low_occupancy")
    assert finding is not None
    # 25 of 100 multiprocessors: on all of them 40 ms would be 10, and the other kernel is as it was.
    assert finding.ceiling.mean_ns == 30 * MS
    assert finding.evidence.startswith("1 kernels of 25 blocks (median) on 100 multiprocessors take 40.000 ms (57%)")
    # A full grid, a small share, a collective, a kernel bound by its launch: none of them is one.
    assert found(kernels(("k", 40, (100, 1, 1))), tmp_path, "low_occupancy") is None
    assert found(kernels(("k", 10, (5, 5, 1)), ("k", 60, (200, 2, 1))), tmp_path, "low_occupancy") is None
    nccl = kernels(("ncclDevKernel_AllReduce_Sum_f32", 40, (8, 1, 1)), ("k", 30, (200, 2, 1)))
    assert found(nccl, tmp_path, "low_occupancy") is None
    short = request().launch(1, 1000, 500)
    short.span("kernel", "k", 2000, 9_999, pid=0, tid=7, correlation=1, stream=7, device=0, grid=[1, 1, 1])
    short.header["deviceProperties"] = [{"id": 0, "numSms": 100}]
    assert found(short, tmp_path, "low_occupancy") is None


def test_a_grid_of_hips_extended_launch_is_in_threads(tmp_path: Path) -> None:
    def on(call: str, block: object) -> TraceBuilder:
        built = request().launch(1, 1000, 500, name=call)
        args = {"correlation": 1, "stream": 0, "device": 0, "grid": [6400, 1, 1], "block": block}
        built.span("kernel", "Cijk_Alik", 10 * MS, 40 * MS, pid=0, tid=0, **args)
        built.header["deviceProperties"] = [{"id": 0, "numSms": 100}]
        return built.span("hip_runtime", "hipDeviceSynchronize", 9 * MS, 41 * MS)

    finding = found(on("hipExtModuleLaunchKernel", [256, 1, 1]), tmp_path, "low_occupancy")
    assert finding is not None
    assert "kernels of 25 blocks" in finding.evidence
    assert found(on("hipLaunchKernel", [256, 1, 1]), tmp_path, "low_occupancy") is None
    assert found(on("hipExtModuleLaunchKernel", "unknown"), tmp_path, "low_occupancy") is None


def test_low_occupancy_says_what_it_lacks(tmp_path: Path) -> None:
    for unknown in (None, 0, -3, "many", 1 << 40):
        advice = advise(kernels(("k", 60, (5, 5, 1)), multiprocessors=unknown).load(tmp_path))
        assert missing(advice, "low_occupancy") == ["the trace does not say how many multiprocessors the device has"]
    for grid in ((), (5, 5), (0, 5, 5), (1 << 40, 1 << 40, 1)):
        advice = advise(kernels(("k", 60, grid)).load(tmp_path))
        assert missing(advice, "low_occupancy") == ["the grids of kernels aren't recorded"]
    # Of a device that is idle for most of the request nothing is asked.
    assert missing(advise(kernels(("k", 40, ())).load(tmp_path)), "low_occupancy") == []


def test_tail_effect(tmp_path: Path) -> None:
    finding = found(kernels((GEMM, 40, (130, 1, 1)), (GEMM, 30, (10, 40, 1))), tmp_path, "tail_effect")
    assert finding is not None
    # 130 blocks are two waves of 100, 65% full; 400 are four full ones.
    assert finding.ceiling.mean_ns == 14 * MS
    assert "take 40.000 ms (57%) of all matrix products with waves that are 65% full" in finding.evidence
    assert found(kernels((GEMM, 40, (95, 2, 1))), tmp_path, "tail_effect") is None  # 95% full
    assert found(kernels((GEMM, 40, (50, 1, 1))), tmp_path, "tail_effect") is None  # has no second wave
    assert found(kernels(("k", 40, (130, 1, 1))), tmp_path, "tail_effect") is None
    assert found(kernels((GEMM, 40, (130, 1, 1)), multiprocessors=None), tmp_path, "tail_effect") is None


def two_streams(second_start_ms: int, *calls: str) -> TraceBuilder:
    """A request with 40 ms on one stream and 20 ms on another, launched at once; the host waits for both."""
    built = request().launch(1, 1000, 500).launch(2, 2000, 500)
    built.kernel("k", 10 * MS, 40 * MS, correlation=1, stream=7)
    built.kernel("k", second_start_ms * MS, 20 * MS, correlation=2, stream=9)
    for place, name in enumerate(calls):
        built.span("cuda_runtime", name, 3000 + 1000 * place, 500)
    return built.span("cuda_runtime", "cudaDeviceSynchronize", 9 * MS, 61 * MS)


def test_stream_overlap(tmp_path: Path) -> None:
    finding = found(two_streams(50), tmp_path, "stream_overlap")
    assert finding is not None
    # Beside the first stream the second costs nothing: the wait ends at 50 instead of 70.
    assert finding.ceiling.mean_ns == 20 * MS
    assert finding.evidence.startswith("1 streams with 20.000 ms of work never run beside the main one")
    assert found(two_streams(40), tmp_path, "stream_overlap") is None  # half of it overlaps
    tied = advise(two_streams(50, "cudaStreamWaitEvent", "cudaStreamWaitEvent").load(tmp_path))
    assert "stream_overlap" not in [each.rule for each in tied.findings]
    (lacking,) = missing(tied, "stream_overlap")
    assert lacking.endswith("does not show which stream waits for which")
