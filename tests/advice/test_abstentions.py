"""Where evidence is missing, nothing is made up: what is missing is said, and what to record."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.advice.advise import advise
from gemma_trace.advice.findings import Abstention, Advice
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def request(wall_ms: int = 100) -> TraceBuilder:
    return TraceBuilder().range("request", 0, wall_ms * MS)


def abstention(advice: Advice, rule: str) -> Abstention | None:
    return next((each for each in advice.abstentions if each.rule == rule), None)


def missing(built: TraceBuilder, folder: Path, rule: str) -> str:
    found = abstention(advise(built.load(folder)), rule)
    return found.missing if found else ""


def test_without_shapes_nothing_is_said_of_memory(tmp_path: Path) -> None:
    built = request().range("decode", 0, 90 * MS).op("aten::mm", 0, 80 * MS)
    found = abstention(advise(built.load(tmp_path)), "memory_bound")
    assert found is not None
    assert found.missing == "whether memory binds decode is unknown: the shapes of inputs were not recorded"
    assert "record_shapes=True" in found.record


@pytest.mark.parametrize(
    ("kernel", "is_known"),
    [("gemm_128x64", False), ("ampere_bf16_s16816gemm", True), ("sm80_xmma_gemm_f16f16", True), ("gemm_e4m3", True)],
)
def test_without_types_nothing_is_said_of_precision(tmp_path: Path, kernel: str, is_known: bool) -> None:
    built = request().op("aten::mm", 0, MS).launch(1, 10_000, 5000).kernel(kernel, MS, 60 * MS, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 2 * MS, 60 * MS)
    assert missing(built, tmp_path, "low_precision").startswith("the types of matrix products") is not is_known


def test_without_stacks_nothing_is_said_of_what_is_made_anew(tmp_path: Path) -> None:
    built = request().range("preprocessing", 0, 50 * MS).range("tokenization", 0, 30 * MS)
    found = abstention(advise(built.load(tmp_path)), "processor_per_request")
    assert found is not None
    assert "no Python frames show why" in found.missing
    assert "--stacks" in found.record


@pytest.mark.parametrize("call", ["cudaGraphLaunch", "hipGraphLaunch", "cuGraphLaunch"])
def test_of_replayed_graphs_it_is_said_which_rules_see_nothing(tmp_path: Path, call: str) -> None:
    def replaying(length_ms: int) -> TraceBuilder:
        built = request().launch(1, 1000, 9000, name=call).launch(2, 20_000, 500)
        for place in range(4):
            built.kernel("k", (10 + length_ms * place) * MS, length_ms * MS, correlation=1)
        built.kernel("k", 70 * MS, 20 * MS, correlation=2)
        return built.span("cuda_runtime", "cudaDeviceSynchronize", 9 * MS, 81 * MS)

    assert missing(replaying(15), tmp_path, "replayed_graphs").startswith("the ops of 75% of the device's work")
    assert missing(replaying(1), tmp_path, "replayed_graphs") == ""


def cold(first_ms: int) -> TraceBuilder:
    """Launches of 10 µs, of which the last takes long, and an image that takes 20 ms."""
    built = request().range("image_load", 70 * MS, 20 * MS)
    for place in range(5):
        built.launch(place + 1, place * MS, 10_000).kernel("k", place * MS + 12_000, 5000, correlation=place + 1)
    built.launch(9, 10 * MS, first_ms * MS).kernel("k", (10 + first_ms) * MS, 5000, correlation=9)
    return built


def test_in_a_cold_start_only_that_is_advised_on(tmp_path: Path) -> None:
    advice = advise(cold(40).load(tmp_path))
    assert [finding.rule for finding in advice.findings] == ["cold_start"]
    (found,) = advice.abstentions
    assert found.rule == "all but cold_start"
    assert "40% of the time" in found.missing
    assert "schedule(wait=…, warmup=…)" in found.record
    assert [finding.rule for finding in advise(cold(15).load(tmp_path)).findings] == ["image_load", "cold_start"]


def test_where_clocks_disagree_nothing_is_advised(tmp_path: Path) -> None:
    built = request().range("image_load", 50 * MS, 40 * MS)
    for place in range(10):  # all ten kernels end 5 ms and more after the call that waited for them has returned
        at = place * MS
        built.launch(place + 1, at, 5000).kernel("gemm", at + 20 * MS, 40_000, correlation=place + 1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 9 * MS + 10_000, 500_000)
    advice = advise(built.load(tmp_path))
    assert advice.findings == ()
    (found,) = advice.abstentions
    assert found.rule == "all"
    assert found.missing.startswith("the device's clock is ahead of the host's by at least ")
