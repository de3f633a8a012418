from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.kernels import OUTSIDE_OPS, kernel_table
from gemma_trace.errors import InputError
from gemma_trace.trace.trace import load
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
    with pytest.raises(InputError, match="2 requests, 0 to 1; no 2"):
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
    with pytest.raises(InputError, match="no stage 'prefil'; the stages are image_load"):
        kernel_table(trace, "prefil")
    with pytest.raises(InputError, match="has no stage 'decode'; it has prefill"):
        kernel_table(trace, "decode")


def test_sums_equal_the_device_sum_on_every_trace_of_the_corpus(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        trace = load(path)
        table = kernel_table(trace)
        if table.on == "device":
            assert sum(row.sum_ns for row in table.rows) == trace.spans.dur_ns[trace.activities].sum(), path.name
            assert sum(row.count for row in table.rows) == len(trace.activities), path.name
