from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.critical_path import CriticalPath, PathKind, critical_path
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, SHARED, real_trace
from tests.trace_builder import TraceBuilder

Steps = list[tuple[str, int, int, str, str]]


def path_of(trace: Trace, request: int = 0) -> CriticalPath:
    path = critical_path(trace, trace.requests[request])
    assert path.length_ns == path.request.wall_ns
    assert (path.start_ns[1:] == path.end_ns[:-1]).all()
    assert (path.end_ns > path.start_ns).all()
    return path


def steps_of(trace: Trace) -> Steps:
    """Kind, start, end, stage, and the span's name."""
    path, kinds = path_of(trace), list(PathKind)
    names = ["" if span < 0 else trace.spans.names[trace.spans.name[span]] for span in path.span]
    rows = zip(path.kind, path.start_ns.tolist(), path.end_ns.tolist(), path.stage, names, strict=True)
    return [(kinds[kind].value, start, end, path.stages[stage], name) for kind, start, end, stage, name in rows]


def test_without_a_device_the_path_is_the_thread(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 100).range("prefill", 20, 50).load(tmp_path)
    assert steps_of(trace) == [
        ("host", 0, 20, "unattributed", ""),
        ("host", 20, 70, "prefill", ""),
        ("host", 70, 100, "unattributed", ""),
    ]


def device_bound() -> TraceBuilder:
    # The host launches both kernels at once and waits; the second kernel waits for the first.
    built = TraceBuilder().range("request", 0, 100_000).range("vision_tower", 1000, 2000)
    built.launch(1, 1000, 500).kernel("a", 4000, 30_000, correlation=1)
    built.launch(2, 2000, 500).kernel("b", 34_500, 20_000, correlation=2)
    built.range("sampling", 10_000, 50_000)
    return built.span("cuda_runtime", "cudaStreamSynchronize", 10_000, 46_000)


DEVICE_BOUND: Steps = [
    ("host", 0, 1000, "unattributed", ""),
    ("launch", 1000, 4000, "vision_tower", "cudaLaunchKernel"),
    ("device", 4000, 34_000, "vision_tower", "a"),
    ("gap", 34_000, 34_500, "vision_tower", "b"),
    ("device", 34_500, 54_500, "vision_tower", "b"),
    ("sync", 54_500, 56_000, "sampling", "cudaStreamSynchronize"),
    ("host", 56_000, 60_000, "sampling", ""),
    ("host", 60_000, 100_000, "unattributed", ""),
]


def test_a_device_that_is_behind_is_the_path(tmp_path: Path) -> None:
    assert steps_of(device_bound().load(tmp_path)) == DEVICE_BOUND


def test_what_runs_beside_the_path_changes_nothing(tmp_path: Path) -> None:
    with_branches = device_bound()
    # Shorter work on another stream, on another thread, and on the host while it waits anyway.
    with_branches.launch(3, 2600, 300).kernel("beside", 5000, 9000, correlation=3, stream=8)
    with_branches.launch(4, 3000, 300, tid=101).kernel("elsewhere", 20_000, 5000, correlation=4, stream=9)
    with_branches.op("aten::work", 7000, 2000).op("aten::other", 1000, 90_000, tid=102)
    assert steps_of(with_branches.load(tmp_path)) == DEVICE_BOUND


def test_a_host_that_is_behind_is_the_path(tmp_path: Path) -> None:
    # Each kernel is done long before the next is launched: the first isn't on the path.
    built = TraceBuilder().range("request", 0, 60_000).range("prefill", 0, 50_000)
    built.launch(1, 1000, 500).kernel("a", 4000, 1000, correlation=1)
    built.launch(2, 30_000, 500).kernel("b", 33_000, 1000, correlation=2)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 31_000, 5000)
    assert steps_of(built.load(tmp_path)) == [
        ("host", 0, 30_000, "prefill", ""),
        ("launch", 30_000, 33_000, "prefill", "cudaLaunchKernel"),
        ("device", 33_000, 34_000, "prefill", "b"),
        ("sync", 34_000, 36_000, "prefill", "cudaDeviceSynchronize"),
        ("host", 36_000, 50_000, "prefill", ""),
        ("host", 50_000, 60_000, "unattributed", ""),
    ]


def test_a_blocking_copy_waits_for_itself_and_what_is_before_it(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000)
    built.launch(1, 1000, 500).kernel("a", 4000, 50_000, correlation=1)
    built.launch(2, 5000, 60_000, name="cudaMemcpy")
    built.kernel("Memcpy DtoH", 54_200, 3000, correlation=2, cat="gpu_memcpy")
    kinds = [(kind, start, end, name) for kind, start, end, _, name in steps_of(built.load(tmp_path))]
    assert kinds == [
        ("host", 0, 1000, ""),
        ("launch", 1000, 4000, "cudaLaunchKernel"),
        ("device", 4000, 54_000, "a"),
        ("gap", 54_000, 54_200, "Memcpy DtoH"),
        ("device", 54_200, 57_200, "Memcpy DtoH"),
        ("sync", 57_200, 65_000, "cudaMemcpy"),
        ("host", 65_000, 100_000, ""),
    ]


def test_a_kernel_that_starts_late_waited_for_the_other_stream(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000)
    built.launch(1, 1000, 500).kernel("long", 4000, 50_000, correlation=1, stream=8)
    built.launch(2, 2000, 500).kernel("waits", 55_000, 5000, correlation=2)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 3000, 60_000)
    names = [(kind, name) for kind, _, _, _, name in steps_of(built.load(tmp_path))]
    assert names[2:5] == [("device", "long"), ("gap", "waits"), ("device", "waits")]


def test_what_the_trace_does_not_explain_is_a_gap(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000).launch(1, 1000, 500).kernel("late", 60_000, 5000, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 3000, 70_000)
    kinds = [(kind, start, end) for kind, start, end, _, _ in steps_of(built.load(tmp_path))]
    assert kinds[1:4] == [("launch", 1000, 11_500), ("gap", 11_500, 60_000), ("device", 60_000, 65_000)]


def test_unlinked_activities_have_a_row_of_their_own(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).kernel("lost", 10, 50)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 5, 60)
    assert ("device", 10, 60, "unlinked", "lost") in steps_of(built.load(tmp_path))


def test_work_of_another_thread_counts_from_where_it_begins(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000).op("autograd::engine", 20_000, 30_000, tid=101)
    built.launch(1, 40_000, 500, tid=101).kernel("grad", 43_000, 20_000, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 45_000, 25_000)
    assert [(kind, start, end) for kind, start, end, _, _ in steps_of(built.load(tmp_path))] == [
        ("host", 0, 20_000),
        ("host", 20_000, 40_000),
        ("launch", 40_000, 43_000),
        ("device", 43_000, 63_000),
        ("sync", 63_000, 70_000),
        ("host", 70_000, 100_000),
    ]


def test_by_stage_and_up_to_an_instant(tmp_path: Path) -> None:
    path = path_of(device_bound().load(tmp_path))
    assert path.by_stage_ns() == {
        "vision_tower": {PathKind.LAUNCH: 3000, PathKind.DEVICE: 50_000, PathKind.GAP: 500},
        "sampling": {PathKind.HOST: 4000, PathKind.SYNC: 1500},
        "unattributed": {PathKind.HOST: 41_000},
    }
    assert path.by_stage_ns(5000) == {
        "vision_tower": {PathKind.LAUNCH: 3000, PathKind.DEVICE: 1000},
        "unattributed": {PathKind.HOST: 1000},
    }


@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.json.gz")), ids=lambda path: path.parent.name)
def test_the_samples(path: Path) -> None:
    trace = real_trace(path)
    for request in range(len(trace.requests)):
        path_of(trace, request)


@pytest.mark.parametrize(
    "path", sorted((SHARED / "corpus").glob("*.json.gz")), ids=lambda path: path.name.removesuffix(".json.gz")
)
def test_the_path_fills_every_request_of_the_corpus(path: Path) -> None:
    trace = real_trace(path)
    for request in range(len(trace.requests)):
        path_of(trace, request)


def test_most_of_a_request_that_the_device_holds_up_is_the_devices(corpus: Path) -> None:
    trace = real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz")
    tower = path_of(trace).by_stage_ns()["vision_tower"]
    assert tower[PathKind.DEVICE] / 545_592_435 > 0.99, "the tower's device time, by launch correlation"
