from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.kernels import KernelTable, kernel_table
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.work_groups import OUTSIDE_MODULES, OUTSIDE_OPS, WITHOUT_OP, families
from gemma_trace.analysis.work_pieces import device_work
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.trace.trace import Trace
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder


def test_activities_are_summed_by_name(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 50)
    for correlation, start in ((1, 10), (2, 20), (3, 30)):
        built.launch(correlation, start)
    built.kernel("gemm", 100, 40, correlation=1).kernel("gemm", 120, 60, correlation=2, stream=8)
    built.kernel("softmax", 300, 100, correlation=3)
    table = kernel_table(built.load(tmp_path))
    assert table.on == "device"
    assert [row.name for row in table.rows] == ["gemm", "softmax"]
    gemm = table.rows[0]
    assert (gemm.count, gemm.sum_ns, gemm.busy_ns) == (2, 100, 80)
    assert (gemm.min_ns, gemm.median_ns, gemm.max_ns, gemm.share_pct) == (40, 50.0, 60, 50.0)
    assert (table.totals.device_sum_ns, table.totals.device_busy_ns, table.totals.activities) == (200, 180, 3)


def test_a_stage_has_only_what_it_launched(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000)
    built.range("vision_tower", 0, 50).launch(1, 10).range("prefill", 50, 50).launch(2, 60)
    built.kernel("conv", 500, 10, correlation=1).kernel("gemm", 510, 20, correlation=2).kernel("lost", 600, 5)
    trace = built.load(tmp_path)
    assert [row.name for row in kernel_table(trace, "vision_tower").rows] == ["conv"]
    assert [row.name for row in kernel_table(trace, "prefill").rows] == ["gemm"]
    unlinked = kernel_table(trace, "unlinked")
    assert ([row.name for row in unlinked.rows], unlinked.totals.unlinked) == (["lost"], 1)
    assert kernel_table(trace).totals.unlinked == 1


def test_a_request_has_only_its_own(tmp_path: Path) -> None:
    built = TraceBuilder()
    for index in range(2):
        built.range("request", 1000 * index, 500).range("prefill", 1000 * index, 50).launch(index + 1, 1000 * index + 9)
        built.kernel(f"k{index}", 1000 * index + 100, 10, correlation=index + 1)
    trace = built.load(tmp_path)
    assert [row.name for row in kernel_table(trace, request=1).rows] == ["k1"]
    with pytest.raises(InputError, match=r"request 2 not found: .* has requests 0 to 1"):
        kernel_table(trace, request=2)


def test_on_a_cpu_ops_are_listed_by_self_time(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 200)
    built.op("aten::linear", 110, 100).op("aten::addmm", 120, 60).op("aten::copy_", 130, 10)
    built.op("aten::addmm", 220, 20).op("aten::addmm", 400, 500)
    table = kernel_table(built.load(tmp_path), "prefill")
    assert table.on == "host"
    sums = {row.name: (row.sum_ns, row.count) for row in table.rows}
    assert sums == {
        "aten::addmm": (50 + 20, 2),
        "aten::linear": (40, 1),
        "aten::copy_": (10, 1),
        OUTSIDE_OPS: (200 - 100 - 20, 3),
    }
    assert table.totals.host_self_ns == 200
    addmm = next(row for row in table.rows if row.name == "aten::addmm")
    assert (addmm.min_ns, addmm.max_ns) == (20, 50)


def test_a_stage_that_launched_nothing_shows_its_ops(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("tokenization", 0, 20).op("aten::tensor", 5, 10)
    built.range("prefill", 30, 20).launch(1, 31).kernel("k", 60, 10, correlation=1)
    table = kernel_table(built.load(tmp_path), "tokenization")
    assert table.on == "host"
    assert {row.name: row.sum_ns for row in table.rows} == {"aten::tensor": 10, OUTSIDE_OPS: 10}


def test_an_unknown_or_absent_stage_is_refused(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 100).range("prefill", 0, 20).load(tmp_path)
    with pytest.raises(InputError, match="has no stage 'prefil'; it has prefill"):
        kernel_table(trace, "prefil")
    with pytest.raises(InputError, match="has no stage 'decode'; it has prefill"):
        kernel_table(trace, "decode")


def _drilldown() -> TraceBuilder:
    built = TraceBuilder().range("request", 0, 1000)
    for layer, start in ((0, 0), (1, 100)):
        built.range("prefill", start, 90).range(f"gemma_trace::layer::decoder.layers.{layer}", start + 1, 80)
        built.op("aten::linear", start + 5, 60).op("aten::addmm", start + 10, 40, dims=[[8], [2, 4], [4, 8]])
        built.launch(2 * layer + 1, start + 20).op("aten::mul", start + 70, 8, dims=[[2, 8], []])
        built.launch(2 * layer + 2, start + 72)
    built.launch(9, 195)
    built.kernel("sm80_gemm", 200, 30, correlation=1).kernel("sm80_gemm", 230, 50, correlation=3)
    built.kernel("frobnicate", 300, 7, correlation=2).kernel("frobnicate", 310, 9, correlation=4)
    return built.kernel("Memset (Device)", 400, 3, correlation=9, cat="gpu_memset").kernel("sm80_gemm", 500, 11)


def _sums(table: KernelTable) -> dict[str, tuple[int, int]]:
    return {row.name: (row.count, row.sum_ns) for row in table.rows}


def test_activities_are_grouped_by_what_launched_them(tmp_path: Path) -> None:
    trace = _drilldown().load(tmp_path)
    rest = {WITHOUT_OP: (1, 3), "unlinked": (1, 11)}
    assert _sums(kernel_table(trace, by="op")) == {"aten::addmm": (2, 80), "aten::mul": (2, 16), **rest}
    shapes = {"aten::addmm 8, 2×4, 4×8": (2, 80), "aten::mul 2×8": (2, 16)}
    assert _sums(kernel_table(trace, by="shape")) == {**shapes, **rest}
    layers = {"decoder.layers.0": (2, 37), "decoder.layers.1": (2, 59)}
    outside = {OUTSIDE_MODULES: (1, 3), "unlinked": (1, 11)}
    assert _sums(kernel_table(trace, by="layer")) == {**layers, **outside}
    assert _sums(kernel_table(trace, by="module")) == {**layers, **outside}
    families = {"gemm": (3, 80 + 11), "elementwise": (2, 16), "memset": (1, 3)}
    assert _sums(kernel_table(trace, by="family")) == families
    assert next(row.family for row in kernel_table(trace, by="layer").rows) == "gemm"


def test_an_unlinked_activity_is_in_the_family_of_its_name(tmp_path: Path) -> None:
    table = kernel_table(_drilldown().load(tmp_path), "unlinked", by="family")
    assert (_sums(table), table.totals.unlinked) == ({"gemm": (1, 11)}, 1)


def test_rows_tell_launch_latency_shares_and_percentiles(tmp_path: Path) -> None:
    trace = _drilldown().load(tmp_path)
    gemm = kernel_table(trace, "prefill").rows[0]
    assert gemm.launch_latency_ns == ((200 - 20) + (230 - 120)) / 2
    assert (gemm.mean_ns, gemm.p90_ns) == (40.0, None)
    assert gemm.share_pct == 100 * 80 / 96
    assert gemm.request_share_pct == 100 * 80 / (96 + 3 + 11)
    assert [row.name for row in kernel_table(trace, sort="name").rows] == ["Memset (Device)", "frobnicate", "sm80_gemm"]
    latencies = [(row.name, row.launch_latency_ns) for row in kernel_table(trace, sort="latency").rows]
    assert latencies == [("Memset (Device)", 205.0), ("frobnicate", 183.0), ("sm80_gemm", 145.0)]
    with pytest.raises(ConfigError, match=r"^sort='size' is none of sum, busy"):
        kernel_table(trace, sort="size")


def test_rows_tell_grid_block_and_occupancy_where_recorded(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000)
    for index, (grid, occupancy, length) in enumerate((([4, 1, 1], 50, 10), ([4, 1, 1], 50, 10), ([8, 1, 1], 90, 20))):
        args = {"grid": grid, "block": [128, 1, 1], "est. achieved occupancy %": occupancy}
        built.span("kernel", "k", 100 * index, length, pid=0, tid=7, stream=7, device=0, **args)
    row = kernel_table(built.kernel("bare", 500, 5).load(tmp_path)).rows[0]
    assert (row.grid, row.block, row.launch_shapes) == ("4×1×1", "128×1×1", 2)
    assert row.occupancy_pct == (50 * 20 + 90 * 20) / 40
    bare = kernel_table(built.load(tmp_path)).rows[1]
    assert (bare.grid, bare.launch_shapes, bare.occupancy_pct) == (None, 0, None)


def test_statistics_are_those_of_a_distribution(corpus: Path) -> None:
    trace = real_trace(corpus / "h100_bert_small.json.gz")
    for row in kernel_table(trace).rows:
        own = [i for i in trace.activities if trace.spans.names[trace.spans.name[i]] == row.name]
        found = Distribution(tuple(float(trace.spans.dur_ns[i]) for i in own), "ns")
        assert row.median_ns == found.median
        assert row.mean_ns == pytest.approx(found.mean)
        assert row.p90_ns == (None if found.p90 is None else pytest.approx(found.p90))


@pytest.mark.parametrize("by", list(By))
def test_every_grouping_adds_up_on_every_trace_of_the_corpus(corpus: Path, by: By) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        trace = real_trace(path)
        table = kernel_table(trace, by=by)
        assert sum(row.sum_ns for row in table.rows) == table.totals.device_sum_ns + table.totals.host_self_ns
        unlinked = [row for row in table.rows if row.name == "unlinked"]
        if by not in (By.KERNEL, By.FAMILY) and table.totals.unlinked:
            assert [row.count for row in unlinked] == [table.totals.unlinked], path.name


def test_on_a_cpu_work_is_grouped_too(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 200)
    built.range("gemma_trace::layer::layers.0", 110, 100).op("aten::addmm", 120, 60, dims=[[2, 4], [4, 8]])
    trace = built.op("aten::mul", 130, 10).op("aten::mul", 220, 20).load(tmp_path)
    assert _sums(kernel_table(trace, "prefill", by="layer")) == {"layers.0": (1, 100), OUTSIDE_MODULES: (4, 100)}
    families = {"gemm": (1, 50), "elementwise": (2, 30), OUTSIDE_OPS: (5, 120)}
    assert _sums(kernel_table(trace, "prefill", by="family")) == families


def test_sums_equal_the_device_sum_on_every_trace_of_the_corpus(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        trace = real_trace(path)
        table = kernel_table(trace)
        if table.on == "device":
            assert sum(row.sum_ns for row in table.rows) == trace.spans.dur_ns[trace.activities].sum(), path.name
            assert sum(row.count for row in table.rows) == len(trace.activities), path.name


def test_families_are_the_same_behind_more_names_than_32_bits_hold_pairs_of(tmp_path: Path) -> None:
    """Codes of names are int32, and a pair of two is not: 46,341 squared is over 2**31."""
    built = TraceBuilder().range("request", 0, 1000).op("aten::softmax", 0, 100).op("aten::addmm", 200, 100)
    built.launch(1, 10).launch(2, 210)
    built.kernel("kernel_0", 300, 10, correlation=1).kernel("ampere_sgemm_64x64", 400, 10, correlation=2)
    trace = built.load(tmp_path)
    before = 46_341
    names = (*map(str, range(before)), *trace.spans.names)
    spans = replace(trace.spans, names=names, name=trace.spans.name + np.int32(before))
    wide = cast(Trace, SimpleNamespace(spans=spans, innermost_op=trace.innermost_op))
    code, found = families(wide, device_work(trace))
    assert [found[each] for each in code.tolist()] == ["softmax", "gemm"]
