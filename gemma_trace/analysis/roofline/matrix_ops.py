"""Costs of matrix products, convolutions and attention, by op.

Formulas are those of the operations' definitions, with a multiply-add as two FLOPs: a product of m×k and k×n takes
2·m·n·k; a convolution 2 · output elements · (input channels / groups) · kernel elements; attention two products of
queries by keys by head size. Signatures are PyTorch's (aten/src/ATen/native/native_functions.yaml).
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Final

from gemma_trace.analysis.roofline.costs import Cost, Formula, matrix_cost
from gemma_trace.analysis.roofline.tensors import Inputs


def _matrices(inputs: Inputs, left: int, right: int, *bias: int, weights: bool = False) -> Cost | None:
    """A product of (…, m, k) and (…, k, n), broadcast over what comes before; either may be a vector.

    Args:
        left, right: the places of the two.
        bias: the places of what is added.
        weights: the right one is a parameter.
    """
    a, b = inputs.tensor(left), inputs.tensor(right)
    if a is None or b is None or not a.shape or not b.shape:
        return None
    a_shape = a.shape if len(a.shape) > 1 else (1, *a.shape)
    b_shape = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    (m, k), (inner, n) = a_shape[-2:], b_shape[-2:]
    batch = broadcast(a_shape[:-2], b_shape[:-2])
    if k != inner or batch is None:
        return None
    written = prod(batch) * m * n
    added = tuple(inputs.tensor(place) for place in bias)
    reads, parameters = ((a,), (b, *added)) if weights else ((a, b, *added), ())
    return matrix_cost(2 * written * k, a.dtype, weights=parameters, reads=reads, written=written)


def _linear(inputs: Inputs) -> Cost | None:
    """`linear(input, weight, bias)`: (…, k) by the transpose of (n, k)."""
    a, weight = inputs.tensor(0), inputs.tensor(1)
    if a is None or weight is None or not a.shape or not 1 <= len(weight.shape) <= 2 or a.shape[-1] != weight.shape[-1]:
        return None
    written = prod(a.shape[:-1]) * prod(weight.shape[:-1])
    parameters = (weight, inputs.tensor(2))
    return matrix_cost(2 * written * a.shape[-1], a.dtype, weights=parameters, reads=(a,), written=written)


def _matmul(inputs: Inputs) -> Cost | None:
    """`matmul(a, b)`; where activations with a batch meet one matrix, that is a parameter."""
    a, b = inputs.tensor(0), inputs.tensor(1)
    is_parameter = a is not None and b is not None and len(a.shape) > len(b.shape) == 2
    return _matrices(inputs, 0, 1, weights=is_parameter)


def _convolution(inputs: Inputs, stride: int, padding: int, dilation: int, transposed: int = -1) -> Cost | None:
    """A convolution of (N, C, …) with (C_out, C / groups, …), the numbers being the places of its options.

    Args:
        transposed: the place of the flag; -1 in ops that have none.
    """
    x, weight = inputs.tensor(0), inputs.tensor(1)
    if x is None or weight is None or len(x.shape) != len(weight.shape) or len(x.shape) < 3:
        return None
    kernel = weight.shape[2:]
    options = [_spread(inputs.integers(place), len(kernel)) for place in (stride, padding, dilation)]
    if any(option is None for option in options):
        return None
    steps, pads, gaps = (option for option in options if option is not None)
    if min(*steps, *gaps) < 1:
        return None
    if transposed >= 0 and inputs.is_true(transposed):
        return None  # its output has sizes that only its own arguments tell; no model of the kind has one
    sides = [
        max(0, (size + 2 * pad - gap * (width - 1) - 1) // step + 1)
        for size, width, step, pad, gap in zip(x.shape[2:], kernel, steps, pads, gaps, strict=True)
    ]
    written = x.shape[0] * weight.shape[0] * prod(sides)
    saves = any(step < width for step, width in zip(steps, kernel, strict=True))  # windows that overlap
    bias = inputs.tensor(2)
    return matrix_cost(
        2 * written * prod(weight.shape[1:]),
        x.dtype,
        weights=(weight, bias if bias is not None and len(bias.shape) == 1 else None),
        reads=(x,),
        written=written,
        is_bound=not saves,
    )


def _spread(option: tuple[int, ...] | None, dimensions: int) -> tuple[int, ...] | None:
    """An option for all dimensions, given once or for each."""
    if option is None or len(option) not in (1, dimensions):
        return None
    return option * dimensions if len(option) == 1 else option


def _attention(
    inputs: Inputs, causal: int, mask: int = -1, *, heads_last: bool = False, window: int = -1
) -> Cost | None:
    """`softmax(q kᵀ) v` of (B, H, S, D), heads of the keys repeated where the queries have more.

    Args:
        causal, mask, window: places of the flag, of the mask and of the window to the left; -1 where there is none.
        heads_last: the layout is (B, S, H, D).
    """
    q, k, v = (inputs.tensor(place) for place in range(3))
    if q is None or k is None or v is None or any(len(tensor.shape) < 3 for tensor in (q, k, v)):
        return None
    if heads_last and any(len(tensor.shape) != 4 for tensor in (q, k, v)):
        return None  # packed sequences: their lengths are values, not shapes
    queries, keys = (tensor.shape[-3 if heads_last else -2] for tensor in (q, k))
    if window >= 0 and inputs.value(window) not in ("", "-1"):
        return None
    pairs = queries * keys
    if inputs.is_true(causal):
        pairs = visible_pairs(queries, keys, bottom_right=heads_last)
    heads = prod(q.shape[:-2]) if not heads_last else q.shape[0] * q.shape[2]
    written = heads * queries * v.shape[-1]
    flops = 2 * heads * pairs * (q.shape[-1] + v.shape[-1])
    return matrix_cost(flops, q.dtype, reads=(q, k, v, inputs.tensor(mask) if mask >= 0 else None), written=written)


def visible_pairs(queries: int, keys: int, *, bottom_right: bool = False) -> int:
    """How many pairs of query and key a causal mask lets through.

    Args:
        bottom_right: the last query sees all keys (flash-attn 2.1); else the first query sees the first key (PyTorch).
    """
    offset = keys - queries if bottom_right else 0
    full = max(0, queries - max(0, keys - offset))  # queries that see all keys
    rising = queries - full
    first = max(1, 1 + offset)
    hidden = max(0, -offset)  # queries that see none
    seen = max(0, rising - hidden)
    return full * keys + seen * first + seen * (seen - 1) // 2


def broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that these broadcast to; None where they don't."""
    width = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (width - len(shape)) + shape for shape in shapes]
    result = []
    for sizes in zip(*padded, strict=True):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            return None
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _scaled_mm(inputs: Inputs) -> Cost | None:
    """`_scaled_mm(a, b, …)` of FP8 matrices; b is a parameter."""
    return _matrices(inputs, 0, 1, weights=True)


def _gemm_a16w16(inputs: Inputs) -> Cost | None:
    """AITER's and vLLM's product with a (n, k) weight: `linear` without a bias among its first arguments."""
    return _linear(Inputs(inputs.tensors[:2], ()))


_CONV_OP: Final = partial(_convolution, stride=3, padding=4, dilation=5)
_CONVOLUTION: Final = partial(_convolution, stride=3, padding=4, dilation=5, transposed=6)
_WITHOUT_BIAS: Final = partial(_convolution, stride=3, padding=2, dilation=4)
_PADDING_FIRST: Final = partial(_convolution, stride=4, padding=3, dilation=5)

MATRIX_OPS: Final[dict[str, Formula]] = {
    "aten::mm": partial(_matrices, left=0, right=1),
    "aten::bmm": partial(_matrices, left=0, right=1),
    "aten::mv": partial(_matrices, left=0, right=1),
    "aten::dot": partial(_matrices, left=0, right=1),
    "aten::_int_mm": partial(_matrices, left=0, right=1),
    "aten::matmul": _matmul,
    "aten::linear": _linear,
    "mkldnn::_linear_pointwise": _linear,
    "aten::addmm": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::addmm_": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::addmv": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::baddbmm": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::baddbmm_": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::_addmm_activation": lambda inputs: _matrices(inputs, 1, 2, 0),
    "aten::_scaled_mm": _scaled_mm,
    "aiter::gemm_a16w16": _gemm_a16w16,
    "vllm::rocm_unquantized_gemm": _gemm_a16w16,
    "aten::conv1d": _CONV_OP,
    "aten::conv2d": _CONV_OP,
    "aten::conv3d": _CONV_OP,
    "aten::convolution": _CONVOLUTION,
    "aten::_convolution": _CONVOLUTION,
    "aten::cudnn_convolution": _WITHOUT_BIAS,
    "aten::miopen_convolution": _PADDING_FIRST,
    "aten::mkldnn_convolution": _PADDING_FIRST,
    "aten::scaled_dot_product_attention": partial(_attention, causal=5, mask=3),
    "aten::_scaled_dot_product_attention_math": partial(_attention, causal=5, mask=3),
    "aten::_scaled_dot_product_flash_attention": partial(_attention, causal=4),
    "aten::_scaled_dot_product_flash_attention_for_cpu": partial(_attention, causal=4, mask=5),
    "aten::_scaled_dot_product_efficient_attention": partial(_attention, causal=6, mask=3),
    "aten::_scaled_dot_product_cudnn_attention": partial(_attention, causal=6, mask=3),
    "aten::_scaled_dot_product_fused_attention_overrideable": partial(_attention, causal=5, mask=3),
    "flash_attn::_flash_attn_forward": partial(_attention, causal=5, window=6, heads_last=True),
}
"""By op. Of ops that call each other the outermost counts."""
