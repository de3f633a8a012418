"""Costs of single ops, each worked out by hand from its shapes."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_trace.analysis.roofline.costs import Cost
from gemma_trace.analysis.roofline.matrix_ops import MATRIX_OPS, visible_pairs
from gemma_trace.analysis.roofline.tensors import Inputs, Tensor, read_inputs
from gemma_trace.analysis.roofline.vector_ops import VECTOR_OPS

BF16 = "c10::BFloat16"


def cost(name: str, dims: list[Any], types: list[str], values: list[str] | None = None, strides: Any = None) -> Cost:
    """The cost of an op whose inputs are these."""
    inputs = read_inputs(
        json.dumps(dims), json.dumps(types), json.dumps(strides) if strides else "", json.dumps(values or [])
    )
    found = (VECTOR_OPS | MATRIX_OPS)[name](inputs)
    assert found is not None
    return found


def test_a_product_of_two_matrices() -> None:
    found = cost("aten::mm", [[3, 5], [5, 7]], [BF16, BF16])
    assert found.matrix_flops == found.bound_flops == 2 * 3 * 5 * 7
    assert (found.read_bytes, found.written_bytes, found.weight_bytes) == (2 * (15 + 35), 2 * 21, 0)
    assert (found.dtype, found.vector_flops) == ("bfloat16", 0)


@pytest.mark.parametrize(
    ("name", "dims", "flops", "written"),
    [
        ("aten::bmm", [[4, 3, 5], [4, 5, 7]], 2 * 4 * 3 * 5 * 7, 4 * 3 * 7),
        ("aten::matmul", [[2, 4, 3, 5], [4, 5, 7]], 2 * 8 * 3 * 5 * 7, 8 * 3 * 7),
        ("aten::matmul", [[5], [5]], 2 * 5, 1),
        ("aten::mv", [[3, 5], [5]], 2 * 3 * 5, 3),
        ("aten::addmm", [[7], [3, 5], [5, 7], [], []], 2 * 3 * 5 * 7, 3 * 7),
        ("aten::baddbmm", [[4, 3, 7], [4, 3, 5], [4, 5, 7]], 2 * 4 * 3 * 5 * 7, 4 * 3 * 7),
        ("aten::linear", [[2, 3, 5], [7, 5], [7]], 2 * 2 * 3 * 5 * 7, 2 * 3 * 7),
        ("aiter::gemm_a16w16", [[3, 5], [7, 5], [], []], 2 * 3 * 5 * 7, 3 * 7),
    ],
)
def test_products(name: str, dims: list[list[int]], flops: int, written: int) -> None:
    types = ["float" if shape else "Scalar" for shape in dims]
    found = cost(name, dims, types)
    assert found.matrix_flops == flops
    assert found.written_bytes == 4 * written
    assert found.read_bytes + found.weight_bytes == 4 * sum(prod(shape) for shape in dims if shape)


def test_parameters_are_told_from_activations() -> None:
    linear = cost("aten::linear", [[2, 3, 5], [7, 5], [7]], [BF16] * 3)
    assert (linear.weight_bytes, linear.read_bytes) == (2 * (35 + 7), 2 * 30)
    projection = cost("aten::matmul", [[2, 3, 5], [5, 7]], [BF16] * 2)
    assert (projection.weight_bytes, projection.read_bytes) == (2 * 35, 2 * 30)
    scores = cost("aten::matmul", [[2, 3, 5], [2, 5, 7]], [BF16] * 2)
    assert scores.weight_bytes == 0


def test_eight_bit_products_are_written_wider() -> None:
    found = cost("aten::_scaled_mm", [[16, 32], [32, 64], [], []], ["c10::Float8_e4m3fn"] * 2 + ["float"] * 2)
    assert (found.dtype, found.matrix_flops) == ("float8", 2 * 16 * 32 * 64)
    assert (found.weight_bytes, found.written_bytes) == (32 * 64, 2 * 16 * 64)


def test_a_patch_embedding_is_a_convolution() -> None:
    options = ["", "", "", "[14, 14]", "[0, 0]", "[1, 1]", "1"]
    dims = [[1, 3, 896, 896], [1152, 3, 14, 14], [1152], [], [], [], []]
    found = cost("aten::conv2d", dims, [BF16] * 3 + ["ScalarList"] * 3 + ["Scalar"], options)
    assert found.matrix_flops == 2 * (64 * 64 * 1152) * (3 * 14 * 14)
    assert found.bound_flops == found.matrix_flops, "a stride of the kernel's size leaves nothing to save"
    assert found.weight_bytes == 2 * (1152 * 588 + 1152)
    assert (found.read_bytes, found.written_bytes) == (2 * 3 * 896 * 896, 2 * 64 * 64 * 1152)


def test_a_grouped_padded_dilated_convolution() -> None:
    # (10 + 2·2 − 3·(3 − 1) − 1) // 2 + 1 = 4 each way; 8 outputs of 4 / 2 channels.
    options = ["", "", "", "[2, 2]", "[2]", "[3, 3]", "False", "[0, 0]", "2"]
    found = cost("aten::convolution", [[5, 4, 10, 10], [8, 2, 3, 3], [], *[[]] * 6], ["float"] * 2 + [""] * 7, options)
    assert found.matrix_flops == 2 * (5 * 8 * 4 * 4) * (2 * 3 * 3)


def test_a_convolution_that_winograd_speeds_up_bounds_nothing_by_its_flops() -> None:
    options = ["", "", "", "[1, 1]", "[1, 1]", "[1, 1]", "1"]
    found = cost("aten::conv2d", [[1, 8, 16, 16], [8, 8, 3, 3], *[[]] * 5], ["float"] * 2 + [""] * 5, options)
    assert (found.matrix_flops, found.bound_flops) == (2 * 8 * 256 * 72, 0)


def test_attention_multiplies_twice() -> None:
    dims = [[2, 8, 100, 64], [2, 4, 300, 64], [2, 4, 300, 32], [], [], [], []]
    types = [BF16] * 3 + ["", "Scalar", "Scalar", "Scalar"]
    found = cost("aten::scaled_dot_product_attention", dims, types, ["", "", "", "", "0.", "False", "", ""])
    assert found.matrix_flops == 2 * 2 * 8 * 100 * 300 * (64 + 32)
    assert found.read_bytes == 2 * (2 * 8 * 100 * 64 + 2 * 4 * 300 * (64 + 32))
    assert found.written_bytes == 2 * 2 * 8 * 100 * 32
    causal = cost("aten::scaled_dot_product_attention", dims, types, ["", "", "", "", "0.", "True", "", ""])
    assert causal.matrix_flops == 2 * 2 * 8 * (100 * 101 // 2) * (64 + 32)


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 8), (8, 3), (1, 9), (9, 1)])
@pytest.mark.parametrize("bottom_right", [False, True])
def test_causal_pairs_are_counted(queries: int, keys: int, bottom_right: bool) -> None:
    offset = keys - queries if bottom_right else 0
    by_hand = sum(key <= query + offset for query in range(queries) for key in range(keys))
    assert visible_pairs(queries, keys, bottom_right=bottom_right) == by_hand


def test_packed_attention_tells_nothing() -> None:
    inputs = read_inputs(json.dumps([[90, 8, 64]] * 3), json.dumps([BF16] * 3))
    assert MATRIX_OPS["flash_attn::_flash_attn_forward"](inputs) is None


def test_an_elementwise_op_reads_what_is_stored_and_writes_what_it_broadcasts_to() -> None:
    found = cost("aten::mul", [[2, 3, 5], [2, 3, 5]], [BF16, "float"], strides=[[15, 5, 1], [0, 1, 0]])
    assert found.vector_flops == 30
    assert found.read_bytes == 2 * 30 + 4 * 3, "the second is expanded twice"
    assert found.written_bytes == 4 * 30, "bfloat16 by float32 is float32"
    scaled = cost("aten::mul", [[2, 3, 5], []], [BF16, "double"])
    assert scaled.written_bytes == 2 * 30, "a number doesn't make a tensor wider"
    compared = cost("aten::lt", [[8], [8]], ["long int", "long int"])
    assert (compared.read_bytes, compared.written_bytes) == (128, 8)


def test_in_place_ops_copies_and_fills() -> None:
    added = cost("aten::add_", [[4, 4], [4], []], ["float", "float", "Scalar"])
    assert (added.vector_flops, added.read_bytes, added.written_bytes) == (16, 4 * 20, 4 * 16)
    copied = cost("aten::copy_", [[4, 4], [4, 4], []], [BF16, "float", "Scalar"])
    assert (copied.vector_flops, copied.read_bytes, copied.written_bytes) == (0, 4 * 16, 2 * 16)
    filled = cost("aten::zero_", [[4, 4]], ["float"])
    assert (filled.read_bytes, filled.written_bytes) == (0, 64)


def test_norms_softmax_reductions_and_gathers() -> None:
    norm = cost("aten::layer_norm", [[10, 64], [], [64], [64], [], []], [BF16, "ScalarList", BF16, BF16, "", ""])
    assert (norm.vector_flops, norm.read_bytes, norm.written_bytes) == (7 * 640, 2 * (640 + 128), 2 * 640)
    rms = cost("aten::rms_norm", [[10, 64], [], [64], []], [BF16, "ScalarList", BF16, "Scalar"])
    assert rms.vector_flops == 4 * 640
    softmax = cost("aten::_softmax", [[10, 64], [], []], ["float", "Scalar", "Scalar"])
    assert (softmax.vector_flops, softmax.bytes) == (5 * 640, 8 * 640)
    mean = cost("aten::mean", [[10, 64], [], [], []], ["float", "", "", ""])
    assert (mean.vector_flops, mean.bytes) == (640, 4 * 640)
    rows = cost("aten::embedding", [[1000, 64], [2, 5], [], [], []], [BF16, "long int", "", "", ""])
    assert (rows.read_bytes, rows.written_bytes) == (80, 2 * 10 * 64)


def test_ops_of_serving_engines_touch_each_tensor_once() -> None:
    gated = cost("sgl_kernel::silu_and_mul", [[10, 8], [10, 16]], [BF16, BF16])
    assert (gated.read_bytes, gated.written_bytes) == (2 * 160, 2 * 80)
    fused = cost("_C::fused_add_rms_norm", [[10, 8], [10, 8], [8], []], [BF16, BF16, BF16, "Scalar"])
    assert (fused.read_bytes, fused.written_bytes) == (2 * (160 + 8), 2 * 160)


@pytest.mark.parametrize(
    ("name", "dims", "types"),
    [
        ("aten::mm", [[3, 5], [4, 7]], ["float", "float"]),
        ("aten::mm", [[3, 5]], ["float"]),
        ("aten::mm", [[3, 5], [5, 7]], ["c10::complex<float>", "c10::complex<float>"]),
        ("aten::linear", [[3, 5], [7, 6]], ["float", "float"]),
        ("aten::conv2d", [[1, 3, 8, 8], [4, 3, 2, 2], [], [], [], [], []], ["float"] * 2 + [""] * 5),
        ("aten::add", [[3], [4]], ["float", "float"]),
        ("aten::add", [], []),
    ],
)
def test_what_the_shapes_dont_tell_has_no_cost(name: str, dims: list[Any], types: list[str]) -> None:
    assert (VECTOR_OPS | MATRIX_OPS)[name](read_inputs(json.dumps(dims), json.dumps(types))) is None


def test_texts_that_are_no_lists_are_no_inputs() -> None:
    assert read_inputs("", "") == Inputs((), ())
    assert read_inputs("nonsense", "[1") == Inputs((), ())
    assert read_inputs('[[2], "x", [[2]]]', '["float", "float", "TensorList"]').tensors == (
        Tensor((2,), "float32", 2),
        None,
        None,
    )


_SIZES = st.one_of(st.integers(-1, 4), st.just("s0"), st.none())
_SHAPES = st.one_of(st.lists(_SIZES, max_size=5), st.integers(), st.text(max_size=2))
_TYPES = st.one_of(st.sampled_from(["float", BF16, "long int", "Scalar", "TensorList", ""]), st.none())
_VALUES = st.one_of(st.sampled_from(["", "[0]", "[0, 0]", "[1, 1]", "True", "3", "[", "[-]"]), st.integers())


@given(
    st.sampled_from(sorted(VECTOR_OPS | MATRIX_OPS)),
    st.lists(_SHAPES, max_size=8),
    st.lists(_TYPES, max_size=8),
    st.lists(_SHAPES, max_size=8),
    st.lists(_VALUES, max_size=9),
)
def test_no_inputs_break_a_formula(name: str, dims: Any, types: Any, strides: Any, values: Any) -> None:
    inputs = read_inputs(*(json.dumps(text) for text in (dims, types, strides, values)))
    found = (VECTOR_OPS | MATRIX_OPS)[name](inputs)
    assert found is None or min(found.matrix_flops, found.bound_flops, found.vector_flops, found.bytes) >= 0
