"""Rooflines and floors of built traces, worked out by hand, and bounds that real ones keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.roofline.devices import device_peaks
from gemma_trace.analysis.roofline.floors import StageFloor, stage_floors
from gemma_trace.analysis.roofline.opcosts import op_costs
from gemma_trace.analysis.roofline.rows import RowRoofline, row_rooflines
from gemma_trace.metadata import Environment, RunIdentity, RunMetadata, Workload
from gemma_trace.peaks import Peaks
from gemma_trace.trace.trace import Trace
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder

# 1 FLOP a ps in bfloat16, 100 bytes a ns, a cache of 10 kB.
DEVICE = Peaks(("Test",), 100, 0.01, (("bfloat16", 1.0), ("float32", 0.1), ("tf32", 0.5)), "by hand")
BF16 = "c10::BFloat16"


def op(
    built: TraceBuilder, name: str, start: int, length: int, dims: list[Any], dtype: str = BF16, **args: Any
) -> TraceBuilder:
    """An op with shapes, all its inputs of one type."""
    types = [dtype if shape else "" for shape in dims]
    args |= {"Input Dims": dims, "Input type": types}
    return built.span("cpu_op", name, start, length, **args)


def floors(trace: Trace, peaks: Peaks | None = DEVICE) -> dict[str, StageFloor]:
    return {floor.stage: floor for floor in stage_floors(trace, breakdown(trace), peaks)}


def rows(trace: Trace, by: str, peaks: Peaks | None = DEVICE, stage: str | None = None) -> dict[str, RowRoofline]:
    table = kernel_table(trace, stage, by=by)
    return {row.name: found for row, found in zip(table.rows, row_rooflines(trace, table, peaks), strict=True)}


def linear(tmp_path: Path) -> Trace:
    """Prefill: a linear of 64×128 by 128×256 that calls addmm and launches two kernels; then another."""
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 1000)
    op(built, "aten::linear", 10, 200, [[64, 128], [256, 128], [256]])
    op(built, "aten::addmm", 20, 100, [[256], [64, 128], [128, 256]]).launch(1, 30).launch(2, 50)
    op(built, "custom::thing", 300, 50, [[64, 128]]).launch(3, 310)
    built.kernel("gemm", 2000, 6000, correlation=1).kernel("splitk_reduce", 8000, 2000, correlation=2)
    return built.kernel("mystery", 10_000, 2000, correlation=3).load(tmp_path)


FLOPS = 2 * 64 * 128 * 256  # 4,194,304: 4,194.3 ns
WEIGHTS = 2 * (256 * 128 + 256)  # 66,048: 660.48 ns
MOVED = WEIGHTS + 2 * 64 * 128 + 2 * 64 * 256  # 115,200: 1,152 ns


def test_an_op_counts_once_and_over_all_its_kernels(tmp_path: Path) -> None:
    trace = linear(tmp_path)
    costs = op_costs(trace)
    assert [trace.spans.names[trace.spans.name[span]] for span in costs.op] == ["aten::linear"]
    by_kernel = rows(trace, "kernel")
    gemm, reduce = by_kernel["gemm"], by_kernel["splitk_reduce"]
    assert gemm.flops == pytest.approx(FLOPS * 0.75)
    assert gemm.flops + reduce.flops == pytest.approx(FLOPS)
    assert gemm.tflop_per_s == pytest.approx(FLOPS / 8000 / 1e3)
    assert gemm.gb_per_s == pytest.approx(MOVED / 8000)
    assert gemm.peak_pct == pytest.approx(100 * (FLOPS / 1e3) / 8000)
    assert (gemm.bound, gemm.covered_pct) == ("compute", 100)
    mystery = by_kernel["mystery"]
    assert (mystery.flops, mystery.tflop_per_s, mystery.peak_pct, mystery.covered_pct) == (0, None, None, 0)


def test_every_way_to_group_has_the_same_flops(tmp_path: Path) -> None:
    trace = linear(tmp_path)
    for by in ("kernel", "op", "module", "layer", "family", "shape"):
        found = rows(trace, by)
        assert sum(row.flops for row in found.values()) == pytest.approx(FLOPS), by
        assert sum(row.bytes for row in found.values()) == pytest.approx(MOVED), by


def test_a_stages_floor_by_hand(tmp_path: Path) -> None:
    floor = floors(linear(tmp_path))["prefill"]
    assert (floor.flops, floor.bytes, floor.on, floor.floor_source) == (FLOPS, MOVED, "device", "shapes")
    assert floor.compute_ns == pytest.approx(FLOPS / 1e3)
    # Of the activations 16,384 are read and 32,768 written, of which the cache may hold 10,000 each; and of the
    # parameters 10,000 may lie there from before.
    assert floor.memory_ns == pytest.approx((WEIGHTS + 6384 + 22_768 - 10_000) / 100)
    assert floor.floor_ns == pytest.approx(FLOPS / 1e3)
    assert (floor.bound, floor.measured_ns) == ("compute", 10_000)
    assert floor.distance == pytest.approx(10_000 / (FLOPS / 1e3))
    assert floor.covered_pct == pytest.approx(80)


def test_a_stage_bound_by_memory_gives_a_cacheful_a_range(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000)
    for step in range(2):
        built.range("decode", 1000 * step, 500)
        op(built, "aten::linear", 1000 * step + 10, 50, [[1, 128], [256, 128], []]).launch(step + 1, 1000 * step + 20)
        built.kernel("gemv", 5000 + 2000 * step, 1000, correlation=step + 1)
    floor = floors(built.load(tmp_path))["decode"]
    assert floor.bound == "memory"
    assert floor.floor_ns == pytest.approx(2 * (2 * 256 * 128 - 10_000) / 100)
    assert floor.compute_ns == pytest.approx(2 * 2 * 128 * 256 / 1e3)


def test_float32_counts_at_tf32_unless_a_kernel_says_otherwise(tmp_path: Path) -> None:
    for kernel, rate in (("sm80_xmma_gemm_tf32f32", 0.5e3), ("ampere_sgemm_128x64_tn", 0.1e3)):
        built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 100)
        op(built, "aten::mm", 10, 50, [[64, 64], [64, 64]], "float").launch(1, 20)
        built.kernel(kernel, 1000, 8000, correlation=1)
        assert floors(built.load(tmp_path))["prefill"].floor_ns == pytest.approx(2 * 64**3 / rate)


def test_a_dtype_without_a_rate_has_the_memorys_roof_alone(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 100)
    op(built, "aten::mm", 10, 50, [[64, 64], [64, 64]], "c10::Half").launch(1, 20)
    trace = built.kernel("gemm", 1000, 800, correlation=1).load(tmp_path)
    assert floors(trace)["prefill"].compute_ns == 0
    assert rows(trace, "kernel")["gemm"].bound == "memory"


def test_ops_side_by_side_share_the_roofs(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 90_000).range("prefill", 0, 1000)
    op(built, "aten::mm", 10, 50, [[128, 128], [128, 128]]).launch(1, 20)
    op(built, "aten::linear", 100, 50, [[1, 128], [2560, 128], []]).launch(2, 110)
    built.kernel("gemm", 2000, 9000, correlation=1).kernel("gemv", 2000, 9000, correlation=2, stream=8)
    floor = floors(built.load(tmp_path))["prefill"]
    assert floor.compute_ns == pytest.approx((2 * 128**3 + 2 * 128 * 2560) / 1e3)
    # The product reads 65,536 bytes and writes 32,768, the cache may hold 10,000 of each; the other's are parameters.
    assert floor.memory_ns == pytest.approx((65_536 - 10_000 + 32_768 - 10_000 + 2 * 128 * 2560 - 10_000) / 100)
    assert floor.floor_ns == floor.memory_ns


def test_copies_move_their_bytes_and_hold_no_roof_across_the_bus(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("transfer", 0, 100)
    op(built, "aten::copy_", 10, 50, [[1000], [1000], []], "float").launch(1, 20, name="cudaMemcpyAsync")
    built.launch(2, 70).launch(3, 80)
    for correlation, (cat, name) in enumerate(
        (("gpu_memcpy", "Memcpy HtoD"), ("gpu_memcpy", "Memcpy DtoD"), ("gpu_memset", "Memset (Device)")), start=1
    ):
        args: dict[str, Any] = {"correlation": correlation, "stream": 7, "device": 0, "bytes": 4000}
        built.span(cat, name, 1000 * correlation, 100, pid=0, tid=7, **args)
    trace = built.load(tmp_path)
    found = rows(trace, "kernel")
    assert (found["Memcpy HtoD"].gb_per_s, found["Memcpy HtoD"].peak_pct) == (40, None)
    assert (found["Memcpy DtoD"].gb_per_s, found["Memcpy DtoD"].peak_pct) == (80, 80)
    assert (found["Memset (Device)"].gb_per_s, found["Memset (Device)"].peak_pct) == (40, 40)
    assert len(op_costs(trace).op) == 0, "an op that only copies is no op with a cost"


def test_without_peaks_there_are_rates_but_no_floor(tmp_path: Path) -> None:
    trace = linear(tmp_path)
    floor = floors(trace, None)["prefill"]
    assert (floor.flops, floor.floor_ns, floor.distance, floor.bound) == (FLOPS, None, None, None)
    gemm = rows(trace, "kernel", None)["gemm"]
    assert gemm.tflop_per_s == pytest.approx(FLOPS / 8000 / 1e3)
    assert (gemm.peak_pct, gemm.bound) == (None, None)


def test_on_a_cpu_an_op_is_held_against_its_time(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 9000)
    op(built, "aten::linear", 1000, 6000, [[64, 128], [256, 128], []], "float")
    op(built, "aten::addmm", 2000, 4000, [[256], [64, 128], [128, 256]], "float")
    trace = built.load(tmp_path)
    floor = floors(trace)["prefill"]
    assert (floor.on, floor.measured_ns) == ("host", 9000)
    assert floor.covered_pct == pytest.approx(100 * 6 / 9)
    assert floor.floor_ns == pytest.approx(FLOPS / 0.5e3)
    addmm = rows(trace, "op")["aten::addmm"]
    assert addmm.flops == pytest.approx(FLOPS * 4 / 6), "an op's cost is spread over the time in it"
    assert addmm.tflop_per_s == pytest.approx(FLOPS / 6000 / 1e3)


def test_ops_of_the_host_beside_a_device_have_no_floor_on_it(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("image_processing", 0, 500)
    op(built, "aten::mul", 10, 400, [[1000], [1000]], "float")
    built.range("prefill", 600, 100).launch(1, 610).kernel("k", 1000, 100, correlation=1)
    trace = built.load(tmp_path)
    assert floors(trace) == {}
    found = rows(trace, "op", stage="image_processing")
    assert found["aten::mul"].gb_per_s == pytest.approx(12_000 / 400)


def _capture(model: str, dtype: str, batch: int = 1) -> RunMetadata:
    return RunMetadata(
        schema_version=1,
        created_utc="2026-01-01T00:00:00+00:00",
        run=RunIdentity("run", model, "random", dtype, "cuda", "torchvision"),
        workload=Workload(("a.jpg",), (300,), 2),
        environment=Environment("1", "3.12", "2", None, "5", "Linux", "CPU", 8, 1, 8, "Test"),
        config={"batch": batch, "images_per_request": 1, "prefill_chunk": None},
        profiled_images=("a.jpg",),
    )


def replay(metadata: RunMetadata, tmp_path: Path) -> Trace:
    """Graph launches: nothing of what ran is known."""
    built = TraceBuilder().metadata(metadata).range("request", 0, 90_000_000)
    for place, stage in enumerate(("vision_tower", "projector", "prefill", "decode", "decode")):
        built.range(stage, 1000 * place, 500).launch(place + 1, 1000 * place + 10, name="cudaGraphLaunch")
        built.kernel(f"k{place}", 10_000_000 * (place + 1), 9_000_000, correlation=place + 1)
    return built.load(tmp_path)


def test_a_replays_floor_comes_from_the_models_config(tmp_path: Path) -> None:
    found = floors(replay(_capture("4b", "bfloat16"), tmp_path))
    assert {floor.floor_source for floor in found.values()} == {"config"}
    tower = found["vision_tower"]
    layer = 4 * 1152**2 + 2 * 1152 * 4304
    assert tower.flops == 2 * 4096 * (27 * layer + 1152 * 588) + 27 * 4 * 4096**2 * 1152
    assert found["projector"].flops == 2 * 256 * 1152 * 2560
    text = 2560 * (2 * 8 + 2 * 4) * 256 + 3 * 2560 * 10_240
    head = 2560 * 262_208
    prefill = found["prefill"]
    assert prefill.flops == 34 * (2 * 300 * text + 4 * (300 * 301 // 2) * 8 * 256) + 2 * head
    assert prefill.bytes == 2 * (34 * text + head)
    decode = found["decode"]
    cache = sum(34 * 2 * 4 * 256 * context for context in (300, 301))
    assert decode.bytes == 2 * (2 * (34 * text + head) + cache)
    assert decode.flops == sum(34 * (2 * text + 4 * context * 8 * 256) + 2 * head for context in (301, 302))
    assert decode.floor_ns == pytest.approx((decode.bytes - 2 * 10_000) / 100)
    assert decode.measured_ns == 18_000_000


def test_the_sliding_window_bounds_what_is_attended_to(tmp_path: Path) -> None:
    long = replace(_capture("gemma-3-27b-it", "bfloat16"), workload=Workload(("a.jpg",), (3000,), 2))
    decode = floors(replay(long, tmp_path))["decode"]
    text = 5376 * (2 * 32 + 2 * 16) * 128 + 3 * 5376 * 21_504
    seen = sum(10 * context + 52 * 1024 for context in (3001, 3002))
    assert decode.flops == 2 * (62 * 2 * text + 2 * 5376 * 262_208) + 4 * 32 * 128 * seen


def test_a_batch_reads_the_parameters_once(tmp_path: Path) -> None:
    one, four = (floors(replay(_capture("12b", "bfloat16", batch), tmp_path))["prefill"] for batch in (1, 4))
    assert four.flops == 4 * one.flops
    assert four.bytes == one.bytes


def test_other_models_have_no_config_to_count_from(tmp_path: Path) -> None:
    assert floors(replay(_capture("llava", "bfloat16"), tmp_path)) == {}


@pytest.mark.parametrize(
    "name",
    [
        "a100_train_legacy_flows",
        "h100_bert_small",
        "h100_owlv2_vlm_proxy",
        "h100_qwen15_0.5b_unlinked",
        "mi300x_sglang_prefill_decode",
    ],
)
def test_no_stage_of_a_real_trace_is_under_its_floor(name: str, corpus: Path) -> None:
    trace = real_trace(corpus / f"{name}.json.gz")
    peaks = device_peaks(trace).peaks
    assert peaks is not None
    found = stage_floors(trace, breakdown(trace), peaks)
    assert found
    for floor in found:
        assert floor.floor_ns is not None
        assert 0 <= floor.floor_ns <= floor.measured_ns, floor
        assert floor.floor_ns >= (floor.compute_ns or 0) * 0.999, floor
        assert 0 <= floor.covered_pct <= 100
    total = op_costs(trace).column("flops").sum()
    table = kernel_table(trace)
    by_kernel = row_rooflines(trace, table, peaks)
    assert sum(row.flops for row in by_kernel) == pytest.approx(total)
    gemms = [found for row, found in zip(table.rows, by_kernel, strict=True) if row.family == "gemm"]
    assert all((found.peak_pct or 0) <= 100 for found in gemms if found.bound == "compute")


def test_the_vision_tower_of_a_real_trace_by_hand(corpus: Path) -> None:
    """OWLv2-large: 24 layers of 5,185 tokens, 1,024 wide, 16 heads, MLP of 4,096; five images."""
    trace = real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz")
    tokens, width, hidden = 5185, 1024, 4096
    layer = 2 * tokens * (4 * width**2 + 2 * width * hidden) + 4 * tokens**2 * width
    patches = 2 * 72 * 72 * width * 3 * 14 * 14
    tower = floors(trace, device_peaks(trace).peaks)["vision_tower"]
    assert tower.matrix_flops == pytest.approx(5 * (24 * layer + patches), rel=1e-4)
