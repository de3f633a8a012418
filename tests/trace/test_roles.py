"""What spans stand for, in traces of torch.profiler and of others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.trace.events import Role
from gemma_trace.trace.roles import RoleSource
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder


def roles(trace: Trace) -> list[tuple[str, Role, RoleSource]]:
    """Of each span its name, its role, and what that rests on; by start."""
    spans, found = trace.spans, trace.roles
    codes = zip(spans.name.tolist(), found.role.tolist(), found.source.tolist(), strict=True)
    return [(spans.names[name], Role(role), RoleSource(source)) for name, role, source in codes]


@pytest.mark.parametrize(
    ("category", "role"),
    [
        ("cpu_op", Role.OP),
        ("Operator", Role.OP),
        ("user_annotation", Role.ANNOTATION),
        ("python_function", Role.PYTHON),
        ("cuda_runtime", Role.LAUNCH),
        ("xpu_runtime", Role.LAUNCH),
        ("xpu_driver", Role.LAUNCH),
        ("mtia_runtime", Role.LAUNCH),
        ("privateuse1_runtime", Role.LAUNCH),
        ("privateuse1_driver", Role.LAUNCH),
        ("hpu_op", Role.LAUNCH),
        ("kernel", Role.DEVICE),
        ("Memcpy", Role.DEVICE),
        ("mtia_ccp_events", Role.DEVICE),
        ("gpu_user_annotation", Role.ASIDE),
        ("overhead", Role.ASIDE),
        ("Trace", Role.ASIDE),
        ("cuda_sync", Role.ASIDE),
        ("cuda_event", Role.ASIDE),
        ("xpu_sync", Role.ASIDE),
        ("mtia_insight", Role.ASIDE),
        ("cuda_profiler_range", Role.ASIDE),
        ("collective_comm", Role.HOST),
    ],
)
def test_categories_of_torch_profiler(tmp_path: Path, category: str, role: Role) -> None:
    built = TraceBuilder().span(category, "x", 0, 10).op("aten::mm", 20, 10)  # a trace of marks alone is refused
    assert roles(built.load(tmp_path))[0] == ("x", role, RoleSource.CATEGORY)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("aten::mm", Role.OP),
        ("c10d::allreduce_", Role.OP),
        ("ProfilerStep#12", Role.ANNOTATION),
        ("gemma_trace::prefill", Role.ANNOTATION),
        ("nn.Module: Linear_3", Role.PYTHON),
    ],
)
@pytest.mark.parametrize("category", ["", "my_category"])
def test_names_tell_where_the_category_does_not(tmp_path: Path, name: str, role: Role, category: str) -> None:
    assert roles(TraceBuilder().span(category, name, 0, 10).load(tmp_path)) == [(name, role, RoleSource.NAME)]


@pytest.mark.parametrize("name", ["xaten::mm", "aten::", "std::sort", "forward", "ProfilerStep#x", ""])
def test_other_names_tell_nothing(tmp_path: Path, name: str) -> None:
    trace = TraceBuilder().span("", name, 0, 10).load(tmp_path)
    assert roles(trace) == [(name, Role.HOST, RoleSource.NOTHING)]
    assert trace.host.tolist() == [0]


def test_the_export_of_the_autograd_profiler(tmp_path: Path) -> None:
    # EventList.export_chrome_trace of before 2025: no categories, the processes tell.
    built = TraceBuilder().span("", "forward", 0, 90_000, pid="CPU functions", tid=1)
    built.span("", "aten::mm", 10_000, 40_000, pid="CPU functions", tid=1)
    built.raw(ph="s", id=0, pid="CPU functions", tid=1, ts=10, cat="cpu_to_cuda", name="aten::mm")
    built.raw(ph="f", id=0, pid="CUDA functions", tid=0, ts=60, cat="cpu_to_cuda", name="aten::mm")
    trace = built.span("", "aten::mm", 60_000, 30_000, pid="CUDA functions", tid=0).load(tmp_path)
    assert roles(trace) == [
        ("forward", Role.HOST, RoleSource.TRACK),
        ("aten::mm", Role.OP, RoleSource.NAME),
        ("aten::mm", Role.DEVICE, RoleSource.TRACK),
    ]
    assert trace.activities.tolist() == [2]
    assert trace.launch.tolist() == [1]
    assert trace.innermost_op[trace.launch].tolist() == [1]


def test_jax_on_a_tpu(tmp_path: Path) -> None:
    built = TraceBuilder().names("process_name", "/device:TPU:0", pid=1).names("process_name", "/host:CPU", pid=7)
    for tid, name in enumerate(("Steps", "XLA Modules", "XLA Ops")):
        built.names("thread_name", name, pid=1, tid=tid).span("", name, 100 + tid, 50, pid=1, tid=tid)
    trace = built.span("", "PjitFunction(f)", 0, 80, pid=7, tid=3).raw().load(tmp_path)
    assert roles(trace) == [
        ("PjitFunction(f)", Role.HOST, RoleSource.TRACK),
        ("Steps", Role.ASIDE, RoleSource.TRACK),
        ("XLA Modules", Role.ASIDE, RoleSource.TRACK),
        ("XLA Ops", Role.DEVICE, RoleSource.TRACK),
    ]
    assert trace.host.tolist() == [0]


def test_streams_go_before_the_ops_that_repeat_them(tmp_path: Path) -> None:
    built = TraceBuilder().names("process_name", "/device:GPU:0", pid=1)
    built.names("thread_name", "XLA Ops", pid=1, tid=1).names("thread_name", "Stream #13(Compute)", pid=1, tid=2)
    trace = built.span("", "fusion", 0, 20, pid=1, tid=1).span("", "kernel_3", 1, 20, pid=1, tid=2).load(tmp_path)
    assert [role for _, role, _ in roles(trace)] == [Role.ASIDE, Role.DEVICE]


def test_what_was_converted_from_nsight_systems(tmp_path: Path) -> None:
    built = TraceBuilder().span("cuda", "gemm", 100, 50, pid="Device 0", tid="Stream 7")
    built.span("nvtx", "forward", 0, 60, pid="Device 0", tid="NVTX Thread 22")
    trace = built.span("nvtx-kernel", "forward", 101, 49, pid="Device 0", tid="NVTX Kernel Thread 22").load(tmp_path)
    assert roles(trace) == [
        ("forward", Role.ANNOTATION, RoleSource.NAME),
        ("gemm", Role.DEVICE, RoleSource.TRACK),
        ("forward", Role.ASIDE, RoleSource.NAME),
    ]


def test_ascend(tmp_path: Path) -> None:
    built = (
        TraceBuilder().names("process_name", "Ascend Hardware", pid=4).names("thread_name", "Stream 3", pid=4, tid=3)
    )
    built.names("process_name", "Overlap Analysis", pid=9).names("process_name", "CANN", pid=5)
    built.span("cpu_op", "aten::mm", 0, 50).span("", "aclnnMm", 10, 5, pid=5, tid=1)
    built.raw(ph="s", id="1", pid=1, tid=100, ts=0, cat="async_npu").raw(
        ph="f", id="1", pid=4, tid=3, ts=0.1, cat="async_npu"
    )
    trace = (
        built.span("", "MatMulV2", 100, 30, pid=4, tid=3).span("", "Computing", 101, 29, pid=9, tid=1).load(tmp_path)
    )
    assert [role for _, role, _ in roles(trace)] == [Role.OP, Role.HOST, Role.DEVICE, Role.ASIDE]
    assert trace.launch.tolist() == [0]


def test_a_device_of_kinetos_with_a_category_nobody_knows(tmp_path: Path) -> None:
    built = TraceBuilder().names("process_name", "python", pid=0).names("process_labels", "XPU 0", pid=0)
    built.names("process_name", "python", pid=1).names("process_labels", "CPU", pid=1)
    trace = built.span("novel", "k", 10, 5, pid=0, tid=7).span("new_call", "c", 0, 5).load(tmp_path)
    assert roles(trace) == [("c", Role.HOST, RoleSource.NOTHING), ("k", Role.DEVICE, RoleSource.TRACK)]


@pytest.mark.parametrize(
    "name", ["device", "GPUs", "my functions here", "/device:CPU:0", "CPU functions", "CPU 0", "python"]
)
def test_processes_that_are_no_device(tmp_path: Path, name: str) -> None:
    trace = TraceBuilder().names("process_name", name, pid=3).span("", "x", 0, 5, pid=3).load(tmp_path)
    assert roles(trace)[0][1] is Role.HOST


def test_a_plugins_ranges_are_recorded_as_ops(tmp_path: Path) -> None:
    """torch's cheap range has the category of an op; it is a range of ours by its name, and no op."""
    built = TraceBuilder().op("gemma_trace::prefill", 0, 50).op("aten::mm", 10, 20).op("gemma_traces::x", 60, 5)
    trace = built.load(tmp_path)
    assert [role for _, role, _ in roles(trace)] == [Role.ANNOTATION, Role.OP, Role.OP]
    assert trace.stage_names[trace.stage_range[trace.stage_ranges[0]]] == "prefill"
