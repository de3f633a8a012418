"""Call trees matched by their lowest common ancestors: renamed, fused, split, wrapped and unmatched work."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.changes import Change
from gemma_trace.analysis.diff import STRUCTURE, diff_sides
from gemma_trace.analysis.sides import side_of
from gemma_trace.analysis.structure import WorkPair, merged_trees, paired_trees
from gemma_trace.analysis.tree import call_tree
from gemma_trace.stages import LAYER_PREFIX
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder

Ops = list[tuple[str, str, int]]
"""Of each op its name, its kernel and the kernel's length in ns."""


def forward(folder: Path, name: str, ops: Ops, *, wrapper: str = "", requests: int = 1) -> Trace:
    """Requests whose prefill has one layer, perhaps a module around its ops, and an op beside the layer."""
    built = TraceBuilder()
    for request in range(requests):
        at = 100_000 * request
        built.range("request", at, 90_000).range("prefill", at + 1000, 80_000).range(
            f"{LAYER_PREFIX}layers.0", at + 2000, 50_000
        )
        if wrapper:
            built.range(f"::{wrapper}", at + 2500, 45_000)
        for place, (op, kernel, length) in enumerate([*ops, ("aten::argmax", "reduce", 70)]):
            start = at + (60_000 if op == "aten::argmax" else 3000 + 1000 * place)
            correlation = 100 * request + place + 1
            built.op(op, start, 500).launch(correlation, start + 10)
            built.kernel(kernel, start + 300, length, correlation=correlation)
    return built.load(folder / name)


def pairs(before: Trace, after: Trace) -> list[WorkPair]:
    return paired_trees(call_tree(before), call_tree(after))


EAGER: Ops = [("aten::addmm", "gemm", 400), ("aten::gelu", "gelu", 100), ("aten::add", "add", 50)]


def test_fused_operators_are_one_row_at_their_lowest_common_ancestor(tmp_path: Path) -> None:
    fused: Ops = [("triton_poi_fused_addmm_gelu_0", "triton_poi_fused_addmm_gelu_0", 380), ("aten::add", "add", 60)]
    found = pairs(forward(tmp_path, "a", EAGER), forward(tmp_path, "b", fused))
    rows = {(pair.path, pair.before, pair.after): (pair.before_ns, pair.after_ns) for pair in found}
    layer = ("prefill", "layers.*")
    assert rows == {
        (layer, ("aten::addmm", "aten::gelu"), ("triton_poi_fused_addmm_gelu_0",)): (500, 380),
        ((*layer, "aten::add", "add"), ("add",), ("add",)): (50, 60),
        (("prefill", "aten::argmax", "reduce"), ("reduce",), ("reduce",)): (70, 70),
    }
    one = next(pair for pair in found if not pair.is_alike)
    assert one.name == "layers.*: aten::addmm + aten::gelu → triton_poi_fused_addmm_gelu_0"
    assert (one.before_count, one.after_count) == (2, 1)


def test_a_kernel_of_another_name_under_the_same_op_is_one_row(tmp_path: Path) -> None:
    other = [("aten::addmm", "cutlass_gemm", 300), *EAGER[1:]]
    found = [pair for pair in pairs(forward(tmp_path, "a", EAGER), forward(tmp_path, "b", other)) if not pair.is_alike]
    assert [(pair.name, pair.before_ns, pair.after_ns) for pair in found] == [
        ("layers.* / aten::addmm: gemm → cutlass_gemm", 400, 300)
    ]


def test_a_wrapper_of_one_side_is_looked_through(tmp_path: Path) -> None:
    plain = forward(tmp_path, "a", EAGER)
    wrapped = forward(tmp_path, "b", EAGER, wrapper="Torch-Compiled Region: 0/0")
    for found in (pairs(plain, wrapped), pairs(wrapped, plain)):
        assert all(pair.is_alike for pair in found)
        assert sum(pair.before_ns for pair in found) == sum(pair.after_ns for pair in found) == 620


def test_work_without_a_counterpart_is_listed(tmp_path: Path) -> None:
    found = pairs(forward(tmp_path, "a", EAGER), forward(tmp_path, "b", EAGER[:1]))
    assert [pair.name for pair in found if not pair.is_alike] == ["layers.*: aten::gelu + aten::add → nothing"]
    both = merged_trees([call_tree(forward(tmp_path, "c", EAGER)), call_tree(forward(tmp_path, "d", EAGER))])
    assert both.device_ns == 2 * 620


@pytest.mark.parametrize("sides", [("pil", "torchvision"), ("torchvision", "pil"), ("pil", "pil")])
def test_the_pairs_add_up_to_the_trees(sides: tuple[str, str]) -> None:
    before, after = (
        call_tree(real_trace(next((SAMPLES / f"sample-tiny-cpu-{side}").glob("*.json.gz")))) for side in sides
    )
    found = paired_trees(before, after)
    assert sum(pair.before_ns for pair in found) == before.host_ns
    assert sum(pair.after_ns for pair in found) == after.host_ns
    assert all(pair.is_alike for pair in found) == (sides[0] == sides[1])


def test_of_trees_that_match_by_name_it_says_what_the_ops_say(tmp_path: Path) -> None:
    slower: Ops = [("aten::addmm", "gemm", 700), ("aten::gelu", "gelu", 100), ("aten::add", "add", 90)]
    sides = [
        [side_of(forward(tmp_path, name, ops, requests=2), structure=True)]
        for name, ops in (("a", EAGER), ("b", slower))
    ]
    found = diff_sides(*sides)

    def changes(level: str) -> dict[str, Change]:
        kept = [row for row in found.inside if row.level == level and row.status != "same"]
        return {row.name.split(" / ")[-2] if level == STRUCTURE else row.name: row for row in kept}

    by_structure, by_name = changes(STRUCTURE), changes("op")
    assert list(by_structure) == list(by_name) == ["aten::addmm"], "40 ns are less than 0.1% of 90 µs"
    for name, row in by_name.items():
        assert by_structure[name].difference_ms == pytest.approx(row.difference_ms)
        assert by_structure[name].status == row.status == "slower"
