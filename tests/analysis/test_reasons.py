from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.reasons import Kind, StageReason, stage_reasons
from gemma_trace.report.verdicts import verdict
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder


def reasons_of(trace: Trace) -> dict[str, StageReason]:
    """By stage; the parts must add up to the stages' times."""
    reasons = {reason.stage: reason for reason in stage_reasons(trace)}
    times = {row.stage: row.time_ns for row in breakdown(trace).summed() if row.time_ns}
    assert {stage: reason.time_ns for stage, reason in reasons.items()} == times
    assert all(reason.time_ns == sum(reason.by_kind_ns(kind) for kind in Kind) for reason in reasons.values())
    return reasons


def parts_of(reason: StageReason) -> dict[tuple[str, str], int]:
    return {(part.kind.value, part.name): part.time_ns for part in reason.parts}


def test_a_stage_that_launches_slower_than_the_device_works_is_host_bound(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 1000)
    for place in range(4):
        built.op("aten::mm", 10 + 250 * place, 100).launch(place + 1, 100 + 250 * place)
        built.kernel("ampere_sgemm_32x32_tn", 110 + 250 * place, 60, correlation=place + 1)
    reason = reasons_of(built.load(tmp_path))["prefill"]
    # From 0 to 110, and 190 between any two; after the last kernel, 80 in which nothing is launched.
    assert parts_of(reason) == {
        ("device", "gemm"): 240,
        ("launch", "launch"): 110 + 3 * 190,
        ("host", "(host work outside ops)"): 80,
    }
    assert verdict(reason) == (
        "host-bound: 68% of the time the device waits for the launches of 4 activities of 0.1 µs (median)"
    )


def test_a_wait_while_the_device_is_idle_is_a_sync_and_while_it_works_is_the_devices(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("sampling", 0, 1000).launch(1, 0, 100)
    built.kernel("softmax_warp_forward", 100, 600, correlation=1)
    built.span("cuda_runtime", "cudaStreamSynchronize", 100, 900)
    assert parts_of(reasons_of(built.load(tmp_path))["sampling"]) == {
        ("device", "softmax"): 600,
        ("sync", "sync"): 300,
        ("launch", "launch"): 100,
    }


def test_copies_are_transfers_on_either_side(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("transfer", 0, 1000)
    built.launch(1, 100, 500, name="cudaMemcpyAsync")
    built.kernel("Memcpy HtoD (Pageable -> Device)", 400, 400, correlation=1, cat="gpu_memcpy")
    reason = reasons_of(built.load(tmp_path))["transfer"]
    assert parts_of(reason) == {
        ("transfer", "memcpy HtoD"): 400,
        ("transfer", "calls that copy"): 300,
        ("launch", "launch"): 100,
        ("host", "(host work outside ops)"): 200,
    }
    assert verdict(reason) == (
        "transfer-bound: 70% of the time goes to transfers: 40% memcpy HtoD, 30% calls that copy"
    )


def test_an_op_that_launches_nothing_is_the_hosts_own_work(tmp_path: Path) -> None:
    # On the way to a launch, one op computes on the host; the other only makes a view, which is part of launching.
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 1000)
    built.op("aten::cumsum", 100, 300).op("aten::view", 400, 100).op("aten::mm", 500, 100).launch(1, 550)
    built.kernel("ampere_sgemm_32x32_tn", 600, 400, correlation=1)
    assert parts_of(reasons_of(built.load(tmp_path))["prefill"]) == {
        ("device", "gemm"): 400,
        ("launch", "launch"): 300,
        ("host", "sort/scan"): 300,
    }


def test_without_a_device_the_hosts_ops_are_named_by_family(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("vision_tower", 0, 900)
    built.op("aten::linear", 0, 600).op("aten::addmm", 100, 400).op("aten::gelu", 700, 100)
    reason = reasons_of(built.load(tmp_path))["vision_tower"]
    assert parts_of(reason) == {
        ("host", "gemm"): 600,
        ("host", "activation"): 100,
        ("host", "(host work outside ops)"): 200,
    }
    assert verdict(reason) == "host work: 67% gemm, 22% outside ops (Python, other libraries), 11% activation"


def test_no_cause_above_half_is_mixed(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 1000).launch(1, 390)
    built.kernel("ampere_sgemm_32x32_tn", 400, 300, correlation=1)
    assert verdict(reasons_of(built.load(tmp_path))["prefill"]) == (
        "mixed: 40% waiting for launches, 30% host work, 30% device compute"
    )


def test_requests_add_up_and_one_can_be_asked_for(tmp_path: Path) -> None:
    built = TraceBuilder()
    for start in (0, 2000):
        built.range("request", start, 1000).range("prefill", start, 500).op("aten::mm", start, 500)
    trace = built.load(tmp_path)
    assert reasons_of(trace)["prefill"].time_ns == 1000
    (alone, _) = stage_reasons(trace, 1)
    assert (alone.stage, alone.time_ns, alone.requests) == ("prefill", 500, 1)


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_the_parts_of_a_sample_add_up(backend: str) -> None:
    trace = real_trace(next((SAMPLES / f"sample-tiny-cpu-{backend}").glob("*.json.gz")))
    assert verdict(reasons_of(trace)["vision_tower"]).startswith("host work: ")


def test_the_parts_of_every_trace_of_the_corpus_add_up(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        trace = real_trace(path)
        reasons = reasons_of(trace)
        activities = sum(reason.activities for reason in reasons.values())
        assert activities == sum(row.activities for row in breakdown(trace).rows), path.name
