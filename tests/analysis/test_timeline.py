from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.timeline import StageTime, partition, ttft_ns
from gemma_trace.trace.trace import Trace
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder


def by_stage(trace: Trace, request: int = 0) -> dict[str, StageTime]:
    window = trace.requests[request]
    rows = partition(trace, window)
    assert sum(row.time_ns for row in rows) == window.wall_ns
    assert all(row.time_ns == row.device_ns + row.exposed_host_ns for row in rows)
    return {row.stage: row for row in rows}


def test_on_a_cpu_each_instant_is_the_innermost_stages(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 100, 1000)
    built.range("image_load", 110, 40).range("preprocessing", 200, 300).range("tokenization", 220, 30)
    built.range("prefill", 600, 200).range("vision_tower", 650, 50)
    rows = by_stage(built.load(tmp_path))
    assert {stage: row.time_ns for stage, row in rows.items()} == {
        "image_load": 40,
        "preprocessing": 270,
        "tokenization": 30,
        "vision_tower": 50,
        "prefill": 150,
        "unattributed": 1000 - 40 - 300 - 200,
    }
    assert all(row.host_ns == row.time_ns for row in rows.values())


def test_device_time_goes_to_the_stage_that_launched_it(tmp_path: Path) -> None:
    # The host has left the vision tower long before its kernels run.
    built = TraceBuilder().range("request", 0, 1000)
    built.range("vision_tower", 100, 50).launch(1, 110).launch(2, 120)
    built.range("prefill", 160, 40).launch(3, 170)
    built.kernel("conv", 200, 300, correlation=1).kernel("gemm", 500, 100, correlation=2)
    built.kernel("attn", 650, 150, correlation=3)
    rows = by_stage(built.load(tmp_path))
    tower, prefill = rows["vision_tower"], rows["prefill"]
    assert (tower.host_ns, tower.device_busy_ns, tower.device_sum_ns) == (50, 400, 400)
    assert (tower.device_ns, tower.exposed_host_ns, tower.time_ns) == (400, 50, 450)
    assert (tower.activities, tower.launches) == (2, 2)
    assert (prefill.device_ns, prefill.exposed_host_ns) == (150, 40)
    assert rows["unattributed"].time_ns == 1000 - 450 - 190


def test_where_activities_overlap_the_earliest_started_owns_the_instant(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100)
    built.range("vision_tower", 0, 10).launch(1, 1).range("projector", 10, 10).launch(2, 11)
    built.kernel("a", 20, 40, correlation=1).kernel("b", 30, 50, correlation=2, stream=8)
    rows = by_stage(built.load(tmp_path))
    assert (rows["vision_tower"].device_ns, rows["vision_tower"].device_busy_ns) == (40, 40)
    assert (rows["projector"].device_ns, rows["projector"].device_busy_ns) == (20, 50)


def test_busy_is_the_union_and_sum_is_the_sum(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 10).launch(1, 1).launch(2, 4)
    built.kernel("a", 20, 40, correlation=1).kernel("b", 30, 40, correlation=2, stream=8)
    row = by_stage(built.load(tmp_path))["prefill"]
    assert (row.device_busy_ns, row.device_sum_ns, row.device_ns) == (50, 80, 50)


def test_a_graph_launch_owns_its_whole_replay(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("decode", 0, 10).launch(5, 1, name="hipGraphLaunch")
    for start in (20, 30, 40):
        built.kernel("k", start, 10, correlation=5)
    row = by_stage(built.load(tmp_path))["decode"]
    assert (row.activities, row.launches, row.device_ns) == (3, 1, 30)


def test_unlinked_activities_have_a_row_of_their_own(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50).kernel("lost", 10, 20, correlation=9)
    rows = by_stage(built.load(tmp_path))
    assert (rows["unlinked"].activities, rows["unlinked"].device_sum_ns, rows["unlinked"].time_ns) == (1, 20, 20)
    assert rows["prefill"].time_ns == 30


def test_work_launched_before_the_request_is_not_its_stages(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).range("request", 50, 100).range("prefill", 50, 100)
    built.kernel("late", 40, 60, correlation=1)
    rows = by_stage(built.load(tmp_path))
    assert rows["prefill"].time_ns == 50
    assert rows["unattributed"].device_ns == 50
    assert rows["unattributed"].activities == 0


def test_work_that_outlasts_the_request_counts_whole_in_sum_and_not_in_time(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("decode", 0, 100).launch(1, 5)
    built.kernel("tail", 80, 60, correlation=1)
    row = by_stage(built.load(tmp_path))["decode"]
    assert (row.device_sum_ns, row.device_ns, row.time_ns) == (60, 20, 100)


def test_ranges_on_another_thread_own_what_the_requests_thread_leaves(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("image_processing", 10, 30, tid=5)
    rows = by_stage(built.load(tmp_path))
    assert (rows["image_processing"].host_ns, rows["image_processing"].time_ns) == (30, 30)
    assert rows["unattributed"].time_ns == 70


def test_ttft_ends_with_the_first_token_and_leaves_the_image_load_out(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 100, 1000).range("image_load", 100, 50)
    built.range("prefill", 200, 300).range("sampling", 500, 20).range("decode", 600, 50).range("sampling", 650, 20)
    trace = built.load(tmp_path)
    assert ttft_ns(trace, trace.requests[0]) == 520 - 100 - 50


def test_a_load_inside_of_another_is_left_out_once(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("image_load", 0, 700).range("image_load", 100, 400)
    trace = built.range("prefill", 700, 100).range("sampling", 800, 50).load(tmp_path)
    assert ttft_ns(trace, trace.requests[0]) == 150


def test_without_a_token_there_is_no_ttft(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 10).load(tmp_path)
    assert ttft_ns(trace, trace.requests[0]) is None


def test_each_request_is_partitioned_on_its_own(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 10, 20)
    built.range("request", 200, 100).range("prefill", 210, 50)
    trace = built.load(tmp_path)
    assert [by_stage(trace, index)["prefill"].time_ns for index in (0, 1)] == [20, 50]


@pytest.mark.parametrize(("label", "name"), [("ProfilerStep#3", "ProfilerStep#3"), ("whole trace", "anything::else")])
def test_foreign_traces_fall_back_to_steps_and_then_to_the_whole(tmp_path: Path, label: str, name: str) -> None:
    trace = TraceBuilder().range(name, 10, 80).op("aten::mm", 20, 10).load(tmp_path)
    window = trace.requests[0]
    assert (window.label, window.start_ns, window.end_ns) == (label, 10, 90)


def test_every_trace_of_the_corpus_is_partitioned_exactly(corpus: Path) -> None:

    for path in sorted(corpus.glob("*.json.gz")):
        trace = real_trace(path)
        for window in trace.requests:
            assert sum(row.time_ns for row in partition(trace, window)) == window.wall_ns, path.name


def test_a_trace_of_several_prefills_has_no_first_token(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "execute_context_1(296)_generation_0(0)", 500, 100)
    built.frame("vllm/v1/worker/gpu_worker.py(1293): sample_tokens", 610, 20)
    one = built.load(tmp_path)
    assert ttft_ns(one, one.requests[0]) == 130, "from the trace's start, where it has a single prefill"
    built.span("user_annotation", "execute_context_1(296)_generation_0(0)", 2000, 100)
    several = built.load(tmp_path)
    assert ttft_ns(several, several.requests[0]) is None


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        ({"7": ["op"] * 9, "1": ["op"]}, "1"),  # the main one, though another has more
        ({"7": ["op", "range"], "1": ["op"]}, "7"),  # annotations come before the id
        ({"7": ["range"], "1": ["range"]}, "1"),
        ({"7": ["op"], "8": ["op"] * 3}, "8"),  # no main thread: the one whose spans cover most
    ],
)
def test_the_thread_of_a_trace_without_requests(threads: dict[str, list[str]], expected: str, tmp_path: Path) -> None:
    built = TraceBuilder()
    for tid, kinds in threads.items():
        for place, kind in enumerate(kinds):
            add = built.op if kind == "op" else built.range
            add("aten::mm" if kind == "op" else "mine#1", 100 * place, 50, tid=int(tid))
    trace = built.load(tmp_path)
    assert trace.spans.tracks[trace.requests[0].track].tid == expected
