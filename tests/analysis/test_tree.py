from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.tree import NodeKind, TreeNode, call_tree, prune
from gemma_trace.analysis.work_pieces import waiting_ns
from gemma_trace.errors import InputError
from tests.conftest import SAMPLES, real_trace
from tests.trace.owned_nesting import self_ns
from tests.trace_builder import TraceBuilder


def outline(node: TreeNode) -> list[tuple[int, str, str, int, int, int]]:
    return [(depth, n.kind.value, n.name, n.count, n.host_ns, n.device_ns) for depth, n in node.walk()]


def check_sums(node: TreeNode) -> None:
    """Every node that has children is the sum of them."""
    for _, each in node.walk():
        if each.children:
            assert each.host_ns == sum(child.host_ns for child in each.children), each.name
            assert each.device_ns == sum(child.device_ns for child in each.children), each.name


def layered() -> TraceBuilder:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 800)
    for layer in range(2):
        start = 200 + 300 * layer
        built.range(f"gemma_trace::layer::model.layers.{layer}", start, 200)
        built.op("aten::linear", start + 10, 100).op("aten::addmm", start + 20, 80).launch(layer + 1, start + 30, 10)
        built.kernel("gemm", start + 100, 150 + layer, correlation=layer + 1)
    return built


def test_a_request_goes_down_to_its_kernels(tmp_path: Path) -> None:
    tree = call_tree(layered().load(tmp_path))
    check_sums(tree)
    assert outline(tree) == [
        (0, "trace", "built", 1, 1000, 301),
        (1, "request", "request", 1, 1000, 301),
        (2, "stage", "prefill", 1, 800, 301),
        (3, "layer", "model.layers.*", 2, 400, 301),
        (4, "op", "aten::linear", 2, 200, 301),
        (5, "op", "aten::addmm", 2, 160, 301),
        (6, "kernel", "gemm", 2, 0, 301),
        (6, "rest", "(self)", 0, 160, 0),
        (5, "rest", "(self)", 0, 40, 0),
        (4, "rest", "(self)", 0, 200, 0),
        (3, "rest", "(self)", 0, 400, 0),
        (2, "rest", "(self)", 0, 200, 0),
    ]


def test_each_layer_can_stand_by_itself(tmp_path: Path) -> None:
    tree = call_tree(layered().load(tmp_path), each_layer=True)
    check_sums(tree)
    found = [(n.name, n.count, n.host_ns, n.device_ns) for _, n in tree.walk() if n.kind is NodeKind.LAYER]
    assert found == [("model.layers.1", 1, 200, 151), ("model.layers.0", 1, 200, 150)]


def test_requests_are_one_and_what_is_outside_has_roots_of_its_own(tmp_path: Path) -> None:
    built = TraceBuilder().range("warmup#1", 0, 100)
    built.range("request", 100, 100).op("aten::mm", 110, 50).range("request", 300, 100).op("aten::mm", 310, 60)
    built.op("aten::decode", 120, 40, tid=7).kernel("lost", 150, 30, correlation=99)
    trace = built.load(tmp_path)
    tree = call_tree(trace)
    check_sums(tree)
    assert [(n.name, n.count, n.host_ns, n.device_ns) for n in tree.children] == [
        ("request", 2, 200, 0),
        ("other threads", 0, 40, 0),
        ("outside requests", 0, 100, 0),
        ("unlinked", 0, 0, 30),
    ]
    alone = call_tree(trace, 1)
    assert [(n.name, n.count, n.host_ns) for n in alone.children] == [("request", 1, 100)]
    with pytest.raises(InputError, match=r"request 2 not found: .* has requests 0 to 1"):
        call_tree(trace, 2)


def test_a_range_around_the_requests_does_not_swallow_them(tmp_path: Path) -> None:
    built = TraceBuilder().range("main#0", 0, 500).range("request", 100, 200).range("prefill", 100, 150)
    built.op("aten::mm", 120, 50).launch(1, 130).kernel("gemm", 200, 40, correlation=1)
    tree = call_tree(built.load(tmp_path))
    check_sums(tree)
    request, outside = tree.children
    assert (request.name, request.host_ns, request.device_ns) == ("request", 200, 40)
    assert [child.name for child in request.children] == ["prefill", "(self)"]
    assert (outside.name, outside.host_ns, [child.name for child in outside.children]) == (
        "outside requests",
        300,
        ["main#0"],
    )


def test_a_vision_tower_in_a_vision_tower_is_one_stage(tmp_path: Path) -> None:
    built = TraceBuilder()
    built.span("python_function", "nn.Module: SiglipVisionModel_0", 0, 100)
    built.span("python_function", "nn.Module: SiglipVisionEncoder_0", 10, 80).op("aten::mm", 20, 50)
    tree = call_tree(built.load(tmp_path))
    check_sums(tree)
    (stage,) = tree.find(NodeKind.STAGE, "vision_tower")
    assert (stage.host_ns, stage.count) == (100, 1)
    assert [(n.kind.value, n.name) for n in stage.children] == [("module", "SiglipVisionEncoder_*"), ("rest", "(self)")]


def test_pruning_keeps_the_sums_and_says_how_many_are_left_out(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 900).range("sampling", 900, 4)
    built.op("aten::mm", 0, 800).op("aten::add", 800, 5).op("aten::mul", 810, 5)
    tree = prune(call_tree(built.load(tmp_path)), 3, 1.0)
    check_sums(tree)
    assert [(depth, name, host) for depth, _, name, _, host, _ in outline(tree)][1:] == [
        (1, "request", 1000),
        (2, "prefill", 900),
        (3, "aten::mm", 800),
        (3, "(self)", 90),
        (3, "(2 more)", 10),
        (2, "sampling", 4),
        (2, "(self)", 96),
    ]
    assert [depth for depth, *_ in outline(prune(tree, 1, 0))] == [0, 1]


def test_thousands_of_nested_spans_are_no_trouble(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000)
    for depth in range(3000):
        built.op(f"op{depth}", depth, 90_000 - 2 * depth)
    tree = call_tree(built.load(tmp_path))
    check_sums(tree)
    assert max(depth for depth, _ in tree.walk()) >= 3000
    assert max(depth for depth, _ in prune(tree, 10_000, 0).walk()) == 300


def check_against_the_stages(path: Path) -> None:
    trace = real_trace(path)
    tree = call_tree(trace)
    check_sums(tree)
    assert tree.device_ns == trace.spans.dur_ns[trace.activities].sum()
    assert tree.host_ns + waiting_ns(trace) == self_ns(trace.spans.ts_ns[trace.host], trace.nesting).sum()
    table = kernel_table(trace)
    kernels = sum(node.count for _, node in tree.walk() if node.kind is NodeKind.KERNEL)
    assert kernels == table.totals.activities


@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_a_sample_adds_up_to_its_wall_time(backend: str) -> None:
    path = next((SAMPLES / f"sample-tiny-cpu-{backend}").glob("*.json.gz"))
    check_against_the_stages(path)
    request = call_tree(real_trace(path)).children[0]
    totals = breakdown(real_trace(path)).totals
    assert (request.host_ns, request.count) == (totals.wall_ns, totals.requests)


def test_every_trace_of_the_corpus_adds_up(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        check_against_the_stages(path)
