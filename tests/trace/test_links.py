from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.stages import Stage
from gemma_trace.trace.events import NONE
from gemma_trace.trace.trace import Trace
from tests.trace_builder import MAIN, TraceBuilder, decimal_us


def links(trace: Trace) -> list[tuple[str, str | None]]:
    """Each device activity's name, and that of the call that launched it."""
    names = [trace.spans.names[code] for code in trace.spans.name]
    return [
        (names[activity], None if call == NONE else names[call])
        for activity, call in zip(trace.activities.tolist(), trace.launch.tolist(), strict=True)
    ]


def stages(trace: Trace) -> list[str]:
    """The stage that each device activity was launched in."""
    return [trace.stage_names[code] for code in trace.stage_at(trace.launch)]


@pytest.mark.parametrize(
    ("cat", "name"),
    [
        ("cuda_runtime", "cudaLaunchKernel"),
        ("cuda_runtime", "cudaLaunchKernelExC"),
        ("cuda_driver", "cuLaunchKernel"),
        ("cuda_runtime", "hipModuleLaunchKernel"),
        ("Runtime", "cudaMemcpyAsync"),
        ("hip_runtime", "hipExtModuleLaunchKernel"),
        ("a_category_to_come", "aCallToCome"),
    ],
)
def test_an_activity_links_to_the_call_with_its_id_whatever_that_is_named(tmp_path: Path, cat: str, name: str) -> None:
    built = TraceBuilder().span(cat, name, 0, 5, correlation=42).kernel("gemm", 10, 5, correlation=42)
    assert links(built.load(tmp_path)) == [("gemm", name)]


@pytest.mark.parametrize("cat", ["kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy"])
def test_every_kind_of_activity_links(tmp_path: Path, cat: str) -> None:
    built = TraceBuilder().launch(3, 0).kernel("work", 10, 5, correlation=3, cat=cat)
    assert links(built.load(tmp_path)) == [("work", "cudaLaunchKernel")]


def test_activities_link_by_id_and_not_by_order_or_time(tmp_path: Path) -> None:
    built = TraceBuilder().launch(9, 50, name="late").launch(4, 0, name="early").launch(700, 20, name="between")
    # `first` even starts before its own call, as clocks that disagree have it.
    built.kernel("first", 10, 5, correlation=9).kernel("second", 60, 5, correlation=700)
    built.kernel("third", 70, 5, correlation=4)
    assert links(built.load(tmp_path)) == [("first", "late"), ("second", "between"), ("third", "early")]


def test_an_activity_whose_call_is_missing_is_unlinked(tmp_path: Path) -> None:
    built = TraceBuilder().launch(5, 0)
    built.kernel("smaller", 10, 1, correlation=4).kernel("linked", 20, 1, correlation=5)
    built.kernel("larger", 30, 1, correlation=6)
    assert links(built.load(tmp_path)) == [("smaller", None), ("linked", "cudaLaunchKernel"), ("larger", None)]


def test_without_any_call_all_activities_are_unlinked(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5).kernel("gemm", 10, 1, correlation=5)
    assert links(built.load(tmp_path)) == [("gemm", None)]


def test_without_any_activity_there_is_no_link(tmp_path: Path) -> None:
    assert links(TraceBuilder().launch(5, 0).load(tmp_path)) == []


def test_correlation_zero_ties_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().launch(0, 0, name="cudaGetDevice").launch(1, 5).kernel("gemm", 10, 1, correlation=0)
    assert links(built.load(tmp_path)) == [("gemm", None)]


def test_an_activity_without_a_correlation_is_unlinked(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 5).launch(1, 5).span("kernel", "gemm", 10, 1, pid=0, tid=7, stream=7)
    assert links(built.load(tmp_path)) == [("gemm", None)]


def test_of_several_spans_with_one_id_the_launch_comes_first(tmp_path: Path) -> None:
    built = TraceBuilder().span("cpu_op", "aten::mm", 0, 50, correlation=8).launch(8, 20)
    built.kernel("gemm", 60, 1, correlation=8)
    assert links(built.load(tmp_path)) == [("gemm", "cudaLaunchKernel")]


def test_of_several_launches_with_one_id_the_latest_before_the_activity_counts(tmp_path: Path) -> None:
    built = TraceBuilder().launch(8, 30, name="second").launch(8, 20, name="first").launch(8, 70, name="third")
    built.kernel("a", 25, 1, correlation=8).kernel("b", 60, 1, correlation=8).kernel("c", 70, 1, correlation=8)
    built.kernel("early", 10, 1, correlation=8)
    assert links(built.load(tmp_path)) == [("early", "first"), ("a", "first"), ("b", "second"), ("c", "third")]


def test_a_driver_call_inside_the_runtime_call_of_its_id_is_the_same_launch(tmp_path: Path) -> None:
    built = TraceBuilder().launch(8, 10, 20, name="cudaLaunchKernel").launch(8, 15, 5, name="cuLaunchKernel")
    assert links(built.kernel("gemm", 60, 1, correlation=8).load(tmp_path)) == [("gemm", "cudaLaunchKernel")]


def test_an_activity_never_launches_another(tmp_path: Path) -> None:
    built = TraceBuilder().kernel("one", 0, 5, correlation=8).kernel("two", 9, 5, correlation=8)
    assert links(built.load(tmp_path)) == [("one", None), ("two", None)]


def test_a_mirrored_annotation_launches_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().span("gpu_user_annotation", "step", 0, 50, pid=0, tid=7, correlation=8)
    assert links(built.kernel("gemm", 60, 1, correlation=8).load(tmp_path)) == [("gemm", None)]


def test_a_graph_launch_owns_all_activities_of_its_replay(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).launch(77, 10, name="cudaGraphLaunch").launch(2, 20)
    built.kernel("before", 30, 1, correlation=1)
    for index in range(5):
        built.kernel(f"node{index}", 40 + index, 1, correlation=77, stream=7 + index % 2)
    built.kernel("copy", 50, 1, correlation=77, cat="gpu_memcpy").kernel("after", 60, 1, correlation=2)
    assert links(built.load(tmp_path)) == [
        ("before", "cudaLaunchKernel"),
        *((f"node{index}", "cudaGraphLaunch") for index in range(5)),
        ("copy", "cudaGraphLaunch"),
        ("after", "cudaLaunchKernel"),
    ]


def test_a_launch_on_another_thread_has_its_stage_or_else_that_of_the_requests_thread(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).launch(1, 10, name="main")
    built.range("decode", 0, 50, tid=200).launch(2, 10, name="inside", tid=200).launch(3, 60, name="outside", tid=200)
    for correlation in (1, 2, 3):
        built.kernel(f"kernel{correlation}", 200 + correlation, 1, correlation=correlation)
    trace = built.load(tmp_path)
    assert links(trace) == [("kernel1", "main"), ("kernel2", "inside"), ("kernel3", "outside")]
    assert stages(trace) == [Stage.PREFILL, Stage.DECODE, Stage.PREFILL]


def test_an_unlinked_activity_has_no_stage(tmp_path: Path) -> None:
    trace = TraceBuilder().range("prefill", 0, 100).kernel("gemm", 10, 1, correlation=1).load(tmp_path)
    assert stages(trace) == [Stage.UNATTRIBUTED]


def test_a_request_alone_is_no_stage(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).launch(1, 10).range("prefill", 20, 10).launch(2, 22)
    trace = built.kernel("a", 30, 1, correlation=1).kernel("b", 40, 1, correlation=2).load(tmp_path)
    assert stages(trace) == [Stage.UNATTRIBUTED, Stage.PREFILL]


def test_without_ids_an_arrow_from_a_call_links_the_activity(tmp_path: Path) -> None:
    built = TraceBuilder().span("cuda_runtime", "first", 0, 5).span("cuda_runtime", "second", 10, 5)
    built.span("kernel", "gemm", 20, 5, pid=0, tid=7).span("kernel", "conv", 30, 5, pid=0, tid=7)
    for key, source, target in ((1, 10, 20), (2, 0, 30)):
        built.raw(ph="s", cat="async_cpu_to_gpu", id=key, pid=1, tid=MAIN, ts=decimal_us(source))
        built.raw(ph="f", cat="async_cpu_to_gpu", id=key, pid=0, tid=7, ts=decimal_us(target))
    assert links(built.load(tmp_path)) == [("gemm", "second"), ("conv", "first")]


def test_an_id_comes_before_an_arrow(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0, name="by id").span("cuda_runtime", "by arrow", 10, 5)
    built.kernel("gemm", 20, 5, correlation=1)
    built.raw(ph="s", cat="ac2g", id=1, pid=1, tid=MAIN, ts=decimal_us(10))
    built.raw(ph="f", cat="ac2g", id=1, pid=0, tid=7, ts=decimal_us(20))
    assert links(built.load(tmp_path)) == [("gemm", "by id")]


def test_an_arrow_without_its_start_links_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().span("cuda_runtime", "call", 0, 5).span("kernel", "gemm", 20, 5, pid=0, tid=7)
    built.raw(ph="s", cat="ac2g", id=1, pid=1, tid=MAIN, ts=decimal_us(0))
    built.raw(ph="f", cat="ac2g", id=2, pid=0, tid=7, ts=decimal_us(20))
    assert links(built.load(tmp_path)) == [("gemm", None)]


def test_a_gradients_launch_has_the_stage_of_its_forward_op(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).op("aten::mm", 10, 20)
    built.op("MmBackward0", 200, 50, tid=300).launch(1, 210, tid=300).kernel("gemm", 260, 5, correlation=1)
    built.raw(ph="s", cat="fwdbwd", id=1, pid=1, tid=MAIN, ts=decimal_us(10))
    built.raw(ph="f", cat="fwdbwd", id=1, pid=1, tid=300, ts=decimal_us(200))
    assert stages(built.load(tmp_path)) == [Stage.PREFILL]


def test_an_arrow_stays_one_where_its_ends_write_the_id_differently(tmp_path: Path) -> None:
    built = TraceBuilder().span("cuda_runtime", "call", 0, 5).span("kernel", "gemm", 20, 5, pid=0, tid=7)
    built.raw(ph="s", cat="ac2g", id=4, pid=1, tid=str(MAIN), ts=decimal_us(0))
    built.raw(ph="f", cat="ac2g", id="4", pid=0, tid=7, ts=decimal_us(20))
    assert links(built.load(tmp_path)) == [("gemm", "call")]
