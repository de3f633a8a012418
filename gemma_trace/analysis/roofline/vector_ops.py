"""Costs of elementwise ops, norms, reductions, copies and gathers, by op.

FLOPs: one an output element of an elementwise op, whatever it computes; one an input element of a reduction. Softmax
takes 5 an element (maximum, difference, exponential, sum, quotient), layer, group and batch norm 5 (mean, centring,
square, sum, scaling) and RMS norm 3, each 1 more for a weight and 1 for a bias. They are the definitions' operations;
kernels may take more.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Final

from gemma_trace.analysis.roofline.costs import Cost, Formula, bytes_of
from gemma_trace.analysis.roofline.matrix_ops import broadcast
from gemma_trace.analysis.roofline.tensors import ITEM_BYTES, Inputs, Tensor

_ORDER: Final = (
    *("bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float8", "float16", "bfloat16", "float32", "float64"),
)
"""From the type that yields to the one that wins where an op mixes them."""


def _elementwise(inputs: Inputs, *, flops: float = 1, result: str = "") -> Cost | None:
    """Reads what it is given, writes what that broadcasts to.

    Args:
        flops: an element of the output.
        result: the output's dtype; "" is that of the inputs, where those without dimensions count last.
    """
    tensors = inputs.given
    shape = broadcast(*(tensor.shape for tensor in tensors))
    if not tensors or shape is None:
        return None
    dtype = result or _promoted(tensors)
    elements = prod(shape)
    return Cost(
        vector_flops=flops * elements,
        read_bytes=bytes_of(*tensors),
        written_bytes=elements * ITEM_BYTES[dtype],
    )


def _promoted(tensors: tuple[Tensor, ...]) -> str:
    with_dimensions = [tensor.dtype for tensor in tensors if tensor.shape]
    return max(with_dimensions or [tensor.dtype for tensor in tensors], key=_ORDER.index)


def _in_place(inputs: Inputs, *, reads_target: bool = True) -> Cost | None:
    """Reads what it is given, writes over the first."""
    target = inputs.tensor(0)
    if target is None:
        return None
    others = inputs.given[1:]
    return Cost(
        vector_flops=target.elements if reads_target else 0,
        read_bytes=bytes_of(*others, target if reads_target else None),
        written_bytes=target.bytes,
    )


def _norm(inputs: Inputs, *, flops: float = 5, statistics: int = 0) -> Cost | None:
    """Reads the first input and its parameters, writes as much as the first.

    Args:
        flops: an element, before weight and bias.
        statistics: how many inputs after weight and bias are read too (batch norm's running ones).
    """
    x = inputs.tensor(0)
    if x is None:
        return None
    parameters = inputs.given[1 : 3 + statistics]
    return Cost(
        vector_flops=(flops + min(2, len(parameters))) * x.elements,
        read_bytes=x.bytes + bytes_of(*parameters),
        written_bytes=x.elements * ITEM_BYTES[x.dtype],
    )


def _softmax(inputs: Inputs) -> Cost | None:
    """Reads and writes its input."""
    x = inputs.tensor(0)
    size = x.elements * ITEM_BYTES[x.dtype] if x is not None else 0
    return None if x is None else Cost(vector_flops=5 * x.elements, read_bytes=x.bytes, written_bytes=size)


def _reduction(inputs: Inputs) -> Cost | None:
    """Reads its input. What it writes depends on the dimensions that are left, and is at least one element: nothing."""
    x = inputs.tensor(0)
    return None if x is None else Cost(vector_flops=x.elements, read_bytes=x.bytes)


def _scan(inputs: Inputs) -> Cost | None:
    """Reads and writes its input."""
    x = inputs.tensor(0)
    size = x.elements * ITEM_BYTES[x.dtype] if x is not None else 0
    return None if x is None else Cost(vector_flops=x.elements, read_bytes=x.bytes, written_bytes=size)


def _gather(inputs: Inputs, index: int) -> Cost | None:
    """Rows of the first input, as many as there are indices. Rows may repeat, so only what is written counts."""
    table, indices = inputs.tensor(0), inputs.tensor(index)
    if table is None or indices is None or not table.shape:
        return None
    written = indices.elements * prod(table.shape[1:]) * ITEM_BYTES[table.dtype]
    return Cost(read_bytes=indices.bytes, written_bytes=written)


def _touched(inputs: Inputs, *, flops: float, updated: int = 0) -> Cost | None:
    """An op of a serving engine that is given its outputs too: each tensor is read or written once.

    Args:
        flops: an element of the first tensor.
        updated: how many of the first are read and written.
    """
    tensors = inputs.given
    if not tensors:
        return None
    written = max(1, updated)
    return Cost(
        vector_flops=flops * tensors[0].elements,
        read_bytes=bytes_of(*tensors[written:]) + (bytes_of(*tensors[:updated]) if updated else 0),
        written_bytes=bytes_of(*tensors[:written]),
    )


_ARITHMETIC: Final = (
    "add sub rsub mul div pow neg exp expm1 log log1p log2 sqrt rsqrt reciprocal square abs sign cos sin tan erf floor "
    "ceil round trunc remainder fmod floor_divide true_divide clamp clamp_min clamp_max maximum minimum lerp addcmul "
    "addcdiv where masked_fill nan_to_num threshold hardtanh sigmoid tanh relu gelu silu mish elu leaky_relu softplus "
    "hardswish hardsigmoid bitwise_and bitwise_or bitwise_xor bitwise_not tril triu threshold_backward "
    "sigmoid_backward tanh_backward gelu_backward silu_backward"
)
_COMPARISONS: Final = "eq ne lt le gt ge logical_and logical_or logical_not logical_xor isnan isinf isfinite"
_IN_PLACE: Final = (
    "add_ sub_ mul_ div_ pow_ neg_ exp_ log_ sqrt_ rsqrt_ reciprocal_ abs_ cos_ sin_ clamp_ clamp_min_ clamp_max_ "
    "lerp_ addcmul_ addcdiv_ masked_fill_ sigmoid_ tanh_ relu_ gelu_ silu_ nan_to_num_ bitwise_and_ bitwise_or_"
)
_REDUCTIONS: Final = "sum mean amax amin max min argmax argmin prod std var norm linalg_vector_norm any all logsumexp"

VECTOR_OPS: Final[dict[str, Formula]] = {
    **{f"aten::{name}": _elementwise for name in _ARITHMETIC.split()},
    **{f"aten::{name}": partial(_elementwise, result="bool") for name in _COMPARISONS.split()},
    **{f"aten::{name}": _in_place for name in _IN_PLACE.split()},
    **{f"aten::{name}": _reduction for name in _REDUCTIONS.split()},
    **{f"aten::{name}": _scan for name in ("cumsum", "cumprod")},
    **{f"aten::{name}": _softmax for name in ("softmax", "_softmax", "log_softmax", "_log_softmax")},
    **{f"aten::{name}": partial(_in_place, reads_target=False) for name in ("copy_", "fill_", "zero_")},
    "aten::layer_norm": _norm,
    "aten::native_layer_norm": _norm,
    "aten::group_norm": _norm,
    "aten::native_group_norm": _norm,
    "aten::batch_norm": partial(_norm, statistics=2),
    "aten::native_batch_norm": partial(_norm, statistics=2),
    "aten::cudnn_batch_norm": partial(_norm, statistics=2),
    "aten::miopen_batch_norm": partial(_norm, statistics=2),
    "aten::rms_norm": partial(_norm, flops=3),
    "aten::_fused_rms_norm": partial(_norm, flops=3),
    "aten::embedding": partial(_gather, index=1),
    "aten::index_select": partial(_gather, index=2),
    # Of vLLM, SGLang and AITER.
    "sgl_kernel::silu_and_mul": partial(_touched, flops=2),
    "sgl_kernel::gelu_and_mul": partial(_touched, flops=2),
    "_C::silu_and_mul": partial(_touched, flops=2),
    "_C::gelu_and_mul": partial(_touched, flops=2),
    "_C::rms_norm": partial(_touched, flops=4),
    "_C::fused_add_rms_norm": partial(_touched, flops=5, updated=2),
    "sgl_kernel::rmsnorm": partial(_touched, flops=4),
    "sgl_kernel::fused_add_rmsnorm": partial(_touched, flops=5, updated=2),
    "aiter::rmsnorm": partial(_touched, flops=4),
    "aiter::add_rmsnorm": partial(_touched, flops=5),
}
"""By op. Of ops that call each other the outermost counts."""
