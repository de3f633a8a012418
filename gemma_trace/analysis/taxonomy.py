"""Kernel families: what kind of work a kernel, a copy or an op is. One table, read top to bottom."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

OTHER: Final = "other"

_ATEN_ARITHMETIC: Final = (
    "add|sub|mul|div|pow|neg|exp|log|sqrt|cos|sin|abs|clamp|where|eq|ne|lt|le|gt|ge|rsub|bitwise_\\w+|logical_\\w+|"
    "masked_\\w+|round|floor|ceil|lerp|addcmul|addcdiv|reciprocal|square|maximum|minimum"
)
_ATEN_VIEWS: Final = (
    "empty|view|reshape|_reshape|slice|select|expand|unsqueeze|squeeze|as_strided|t|detach|alias|narrow|split|chunk|"
    "unbind|flatten|unflatten|resolve_|lift_fresh|result_type|arange|ones|full|item|_local_scalar_dense|is_nonzero|"
    "scalar_tensor|set_|stack|_unsafe_view|new_|tril|triu|repeat|pad|constant_pad_nd|movedim|size|stride|unfold"
)

# (family, what its names contain in lower case). The first rule that matches wins: what moves or fuses data comes
# before what the data is moved or fused for.
_RULES: Final[tuple[tuple[str, str], ...]] = (
    ("memcpy HtoD", r"memcpy.*(htod|hosttodevice|host -> device)"),
    ("memcpy DtoH", r"memcpy.*(dtoh|devicetohost|device -> host)"),
    ("memcpy DtoD", r"memcpy.*(dtod|devicetodevice|device -> device)"),
    ("memcpy", r"^memcpy|copybuffer"),
    ("memset", r"^memset|fillbuffer"),
    ("communication", r"nccl|rccl|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|c10d::|gloo:|mpi:|custom_ar"),
    ("image operations", r"upsample|interpolate|grid_?sampl|resize|_pil|\bnms|decode_jpeg"),
    ("attention", r"attention|flash|fmha|sdpa|mha_|paged_attn|cutlass.*attn|attn_fwd|unified_attn"),
    ("convolution", r"conv|fprop|dgrad|wgrad|winograd|im2col|col2im|implicit_gemm|scudnn|nchwtonhwc|nhwctonchw"),
    ("gemm", r"gemm|gemv|cublas|cutlass|nvjet|matmul|xmma|tensile|cijk_|splitk|::(mm|bmm|addmm|baddbmm|linear|dot)\b"),
    ("softmax", r"softmax"),
    ("normalization", r"norm|welford|::var_mean|rsqrt|\bbn_(fw|bw)|cudnn::bn_|gammabeta|rowwisemoments"),
    ("sampling", r"argmax|argmin|multinomial|topk|top_k|top_p|sampl|sort|cumsum|cumprod|scan"),
    (
        "embedding/gather",
        r"embedding|gather|scatter|index_?select|index_?put|::index\b|indexing|take_along|masked_fill",
    ),
    ("rope", r"rotary|rope"),
    ("activation", r"gelu|silu|relu|sigmoid|tanh|swish|swiglu|geglu|elu\b"),
    ("pooling", r"pool"),
    (
        "copy/cast",
        r"copy|::to\b|contiguous|::clone|::cat\b|catarray|transpose|permute|(?<!no)cast|::fill_|::zero|fillfunctor",
    ),
    ("reduction", r"reduce|::(sum|mean|max|min|any|all|prod)|amax|amin|triton_(red|per)"),
    ("elementwise", rf"elementwise|vectorized|pointwise|triton_poi|multi_tensor_apply|::({_ATEN_ARITHMETIC})_?\b"),
    ("allocation and views", rf"::({_ATEN_VIEWS})\w*"),
)

_COMPILED: Final = tuple((family, re.compile(pattern)) for family, pattern in _RULES)


@cache
def family_of(name: str, op: str = "") -> str:
    """The family of a kernel, copy or op: by its name, failing that by the op that launched it; else `other`.

    >>> family_of("ampere_bf16_s16816gemm_bf16_128x64_ldg8_relu_f2f_stages_64x4_tn")
    'gemm'
    >>> family_of("Memcpy HtoD (Pageable -> Device)")
    'memcpy HtoD'
    >>> family_of("kernel_0", "aten::softmax")
    'softmax'
    """
    for text in (name.lower(), op.lower()):
        for family, pattern in _COMPILED:
            if pattern.search(text):
                return family
    return OTHER
