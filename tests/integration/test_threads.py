"""Work on several threads: who waits, who asks, whose time it is; values by hand, in ns."""

from __future__ import annotations

from pathlib import Path

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.work_pieces import waiting_ns
from gemma_trace.health.examine import examine
from tests.integration.test_attribution import by_stages
from tests.trace_builder import TraceBuilder


def test_a_waiting_threads_frames_are_no_work(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 1000)
    built.frame("threading.py(1002): _bootstrap", 1, 998, tid=0).frame("tqdm/_monitor.py(69): run", 2, 996, tid=0)
    built.frame("threading.py(331): wait", 3, 995, tid=0)
    trace = built.load(tmp_path)
    table = kernel_table(trace)
    assert [(row.name, row.sum_ns, row.share_pct) for row in table.rows if row.share_pct > 1] == [
        ("aten::mm", 1000, 100 * 1000 / 1002)
    ]
    assert (waiting_ns(trace), table.totals.waiting_ns) == (996, 996)


def test_a_thread_that_works_is_work_whatever_it_is_named(tmp_path: Path) -> None:
    built = (
        TraceBuilder().op("aten::mm", 0, 1000).frame("my.py(1): run", 0, 1000, tid=5).op("aten::add", 10, 980, tid=5)
    )
    assert waiting_ns(built.load(tmp_path)) == 0


def test_a_request_whose_work_ran_on_another_thread_follows_it(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000)
    built.range("prefill", 100, 500, tid=7).op("aten::mm", 110, 480, tid=7).range("decode", 700, 200, tid=7)
    found = by_stages(built.load(tmp_path))
    assert {stage: figures.time_ns for stage, figures in found.items()} == {
        "prefill": 500,
        "decode": 200,
        "unattributed": 300,
    }


def test_a_worker_has_what_the_requests_thread_leaves_and_the_earliest_opened_comes_first(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("tokenization", 0, 100).range("sampling", 900, 100)
    built.range("preprocessing", 50, 400, tid=7).range("image_processing", 200, 100, tid=7)
    built.range("prefill", 250, 500, tid=8)
    found = by_stages(built.load(tmp_path))
    # tokenization 0-100, preprocessing 100-200, image_processing 200-250 (opened 200, prefill 250: still the earliest)
    # to 300, preprocessing 300-450, prefill 450-750, nothing 750-900, sampling 900-1000.
    assert {stage: figures.time_ns for stage, figures in found.items()} == {
        "preprocessing": 250,
        "image_processing": 100,
        "tokenization": 100,
        "prefill": 300,
        "sampling": 100,
        "unattributed": 150,
    }


def test_of_two_requests_at_once_each_has_its_own_threads_stages(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000, tid=1).range("request", 100, 1000, tid=2)
    built.range("prefill", 200, 300, tid=1).range("decode", 600, 300, tid=2)
    rows = breakdown(built.load(tmp_path)).rows
    assert {(row.request, row.stage): row.time_ns for row in rows} == {
        (0, "prefill"): 300,
        (0, "unattributed"): 700,
        (1, "decode"): 300,
        (1, "unattributed"): 700,
    }


def test_requests_in_unseen_threads_are_a_finding(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("preprocessing", 0, 100).op("aten::mm", 10, 50)
    found = {each.code: each for each in examine(built.load(tmp_path)).findings}
    assert "for 90.0% of the requests' time" in found["unseen_threads"].message
    assert "profile_all_threads=True" in found["unseen_threads"].advice
    seen = examine(built.op("aten::mm", 100, 500, tid=9).load(tmp_path))
    assert "unseen_threads" not in {each.code for each in seen.findings}


def test_requests_that_overlapped_on_a_thread_are_a_finding(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).op("aten::mm", 10, 980)
    assert "interleaved_requests" not in {each.code for each in examine(built.load(tmp_path)).findings}
    for start in (100, 400):
        built.range("interleaved", start, 1)
    trace = built.load(tmp_path)
    (said,) = [each for each in examine(trace).findings if each.code == "interleaved_requests"]
    assert (said.severity, said.count) == ("warning", 2)
    assert "2 blocks of stages overlapped" in said.message
    assert by_stages(trace)["unattributed"].time_ns == 1000, "the mark is no stage"
