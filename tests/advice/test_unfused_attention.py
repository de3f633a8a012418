"""Attention as two products with a softmax between: what it is told by, and what of it would be left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemma_trace.advice.advise import advise
from gemma_trace.peaks import ANY_DEVICE, Peaks
from tests.advice.test_rules import MS, ceiling_ms, found, one, request, rules, waiting
from tests.trace_builder import TraceBuilder


def attention(*between: str) -> TraceBuilder:
    """On the CPU: product, softmax, product, of 10, 30 and 20 ms, each 1 ms after the one before."""
    built = request().op("aten::matmul", 10 * MS, 10 * MS).op("aten::bmm", 11 * MS, 8 * MS)
    for place, name in enumerate(between):
        built.op(name, 20 * MS + place * 1000, 900)
    built.op("aten::softmax", 21 * MS, 30 * MS).op("aten::_softmax", 22 * MS, 28 * MS)
    return built.op("aten::matmul", 52 * MS, 20 * MS)


def test_unfused_attention(tmp_path: Path) -> None:
    finding = one(attention(), tmp_path, "unfused_attention")
    assert ceiling_ms(finding) == 10 + 30 + 20
    assert finding.evidence.startswith("1 softmax ops between two matrix products: the softmax takes 30.000 ms")
    # A classifier's softmax, with no product behind it; and one with many ops between.
    classifier = request().op("aten::matmul", 10 * MS, 10 * MS).op("aten::softmax", 21 * MS, 30 * MS)
    assert "unfused_attention" not in rules(classifier, tmp_path)
    assert "unfused_attention" not in rules(attention(*["aten::mul"] * 13), tmp_path)


def shaped(built: TraceBuilder, start_ns: int, dur_ns: int, left: list[int], right: list[int]) -> TraceBuilder:
    """A matrix product of float32 of known shapes."""
    inputs: dict[str, Any] = {"Input Dims": [left, right], "Input type": ["float", "float"]}
    return built.span("cpu_op", "aten::matmul", start_ns, dur_ns, **inputs)


@pytest.mark.parametrize(
    ("between", "others", "left"), [("aten::mul", True, 4 + 2), ("aten::add", True, 0), ("aten::mul", False, 0)]
)
def test_unfused_attention_leaves_what_its_products_take(tmp_path: Path, between: str, others: bool, left: int) -> None:
    """At the rate of the fastest other product, where there is one; but a mask may hide any of them."""
    # 2 · 100 · 50 · 100 FLOPs = 1e6 in 1 ms. Those of attention have 4e6, which take 10 ms, and 2e6, which take 20 ms.
    built = shaped(request(), 1 * MS, 1 * MS, [100, 50], [50, 100]) if others else request()
    built = shaped(built, 10 * MS, 10 * MS, [4, 100, 50], [4, 50, 100]).op(between, 20 * MS, 1000)
    built.op("aten::softmax", 21 * MS, 30 * MS)
    built = shaped(built, 52 * MS, 20 * MS, [4, 100, 100], [4, 100, 25])
    finding = one(built, tmp_path, "unfused_attention")
    assert ceiling_ms(finding) == pytest.approx(10 + 30 + 20 - left, abs=0.002)
    assert ("6.000 ms of it is what the products take" in finding.evidence) == bool(left)


def test_unfused_attention_leaves_what_products_take_at_the_device_s_peak(tmp_path: Path) -> None:
    """The kernels have 4e12 and 2e12 FLOPs: 4 and 2 ms at 1,000 TFLOP/s; of an unknown device nothing."""
    sides = [10_000, 20_000], [20_000, 10_000]
    built = shaped(request(), 0, 90_000, *sides).launch(1, 10_000, 5000)
    built.kernel("gemm", 1 * MS, 10 * MS, correlation=1)
    built.op("aten::softmax", 100_000, 90_000).launch(2, 110_000, 5000)
    built.kernel("softmax_warp_forward", 11 * MS, 40 * MS, correlation=2)
    built = shaped(built, 200_000, 90_000, [10_000, 10_000], [10_000, 10_000]).launch(3, 210_000, 5000)
    built.kernel("gemm", 51 * MS, 20 * MS, correlation=3)
    trace = waiting(built, 1, 71).load(tmp_path)
    (unknown,) = (each for each in advise(trace).findings if each.rule == "unfused_attention")
    assert ceiling_ms(unknown) == 71 - 1 + 0.27
    peaks = Peaks((ANY_DEVICE,), 1000.0, 0.0, (("float32", 1000.0),), "a test")
    (known,) = (each for each in advise(trace, peaks=[peaks]).findings if each.rule == "unfused_attention")
    # Now the first kernel is still there: it comes as long after its launch as before, which is 0.015 ms earlier.
    assert ceiling_ms(known) == 71 - 1 + 0.015 - 4 - 2


def test_unfused_attention_on_a_device_counts_what_the_ops_launched(tmp_path: Path) -> None:
    built = request().op("aten::bmm", 0, 90_000).launch(1, 10_000, 5000).kernel("gemm", 1 * MS, 10 * MS, correlation=1)
    built.op("aten::softmax", 100_000, 90_000).launch(2, 110_000, 5000)
    built.kernel("softmax_warp_forward", 11 * MS, 40 * MS, correlation=2)
    built.op("aten::bmm", 200_000, 90_000).launch(3, 210_000, 5000).kernel("gemm", 51 * MS, 20 * MS, correlation=3)
    finding = one(waiting(built, 1, 71), tmp_path, "unfused_attention")
    # The wait ends at 71 and would begin at 1, less the 0.27 ms of the three ops.
    assert ceiling_ms(finding) == 71 - 1 + 0.27
    unlinked = request().kernel("softmax_warp_forward", 0, 50 * MS)
    lacking = {each.rule: each.record for each in found(waiting(unlinked, 1, 50), tmp_path).abstentions}
    assert lacking["unfused_attention"] == "the CPU's ops as well as the device's activities"
