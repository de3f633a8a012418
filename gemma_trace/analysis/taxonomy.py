"""Kernel families: what kind of work a kernel, a copy or an op is. One table of rules, read top to bottom.

A kernel's name is a signature: what it does stands in the function's name; what a generic one (`elementwise_kernel`,
`cutlass::Kernel2`) does stands in its template arguments; its parameters say nothing and are never looked at. So the
rules look at the function's name first, at its template arguments second, at the op that launched it last.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

OTHER: Final = "other"

_ARITHMETIC: Final = (
    "add|sub|mul|div|pow|neg|exp|expm1|log|log1p|sqrt|cos|sin|erf|abs|clamp|clamp_min|clamp_max|where|eq|ne|lt|le|gt|ge|"
    "rsub|bitwise_\\w+|__\\w+__|logical_\\w+|round|floor|ceil|trunc|lerp|addcmul|addcdiv|reciprocal|square|maximum|"
    "minimum|remainder|fmod|sign|isnan|isinf|isin|floor_divide|true_divide|dropout|native_dropout|bernoulli|uniform|"
    "normal|random|exponential|nan_to_num|_foreach_\\w+|_fused_\\w+|masked_fill|polar|complex|view_as_complex|threshold"
)
_VIEWS: Final = (
    "empty\\w*|view\\w*|reshape|_reshape\\w*|slice|select|expand\\w*|unsqueeze|squeeze|as_strided\\w*|t|detach|alias|"
    "narrow|split\\w*|chunk|unbind|flatten|unflatten|resolve_\\w+|lift_fresh|result_type|arange|ones\\w*|full\\w*|item|"
    "_local_scalar_dense|is_nonzero|scalar_tensor|set|_unsafe_view|new_\\w+|tril|triu|repeat|movedim|size|stride|"
    "unfold|broadcast_\\w+|diagonal|resize|meshgrid|linspace|eye|record_stream|pin_memory|is_pinned|numpy_T|mT|swapaxes"
)

# What says what a kernel does, wherever it stands. The first rule that matches wins: what fuses comes before what is
# fused into it (a gemm with a ReLU epilogue is a gemm; cuDNN's attention names itself after a convolution's fprop).
_MARKS: Final[tuple[tuple[str, str], ...]] = (
    ("memcpy PtoP", r"^memcpy ptop|copypeertopeer|memcpy.*peer"),
    ("memcpy HtoD", r"^memcpy htod|copyhosttodevice|memcpy.*host -> device"),
    ("memcpy DtoH", r"^memcpy dtoh|copydevicetohost|memcpy.*device -> host"),
    ("memcpy DtoD", r"^memcpy dtod|copydevicetodevice|memcpy.*device -> device"),
    ("memcpy unknown", r"^memcpy\b|rocclr_copy"),
    ("memset", r"^memset\b|rocclr_fill|^fillbuffer"),
    (
        "communication",
        r"nccl|rccl|cross_device_reduce|(one|two)_shot_all|all_?reduce|all_?gather|reduce_?scatter|all_?to_?all|"
        r"^c10d::|^(gloo|mpi|ucc):|nvshmem|quickreduce|multimem|lamport",
    ),
    (
        "image operations",
        r"upsample|interpolat|grid_?sampl|resize_?(image|bi|near|_?pil|_?lanczos)|nvjpeg|decode_(jpeg|png|image|webp)|"
        r"^torchvision::|^image::|\bnms_|roi_?(align|pool)",
    ),
    ("embedding/gather", r"kv_indices|token_ids_kernel"),
    ("rope", r"rotary|(?<![a-z])m?rope(?![a-z])|applyrope|fused_?rope|ropequantize"),
    (
        "attention",
        r"attention|attn|flash_?(fwd|bwd|attn|mla)|flash::|fmha|sdpa|(?<![a-z])mha_|(pre|de)code_?with_?(paged_?)?"
        r"kv|with_?paged_?kv|merge_?states|paged_?kv.*kernel|mla_(pre|de)|aiter\d*pa_(bf16|fp16|fp8)|"
        r"^_fwd_(grouped_)?kernel|scaled_dot_product",
    ),
    (
        "sampling",
        r"argm(ax|in)|multinomial|(?<!^_)top_?k(?!_?(gating|softmax|_?sigmoid))(?!gating|softmax)|top_?p_|sampl(e|ing)|min_?p_|"
        r"penalt|temperature|aten::exponential_",
    ),
    ("normalization", r"cudnn.*::bn_|batch_?norm"),
    (
        "convolution",
        r"(?<![a-z])conv(?!er[ts])|[a-z_]conv(\d|_|olution|olve)|asmconv|depthwise|fprop|dgrad|wgrad|winograd|im2d?2?col|"
        r"col2im|implicit_gemm|igemm_(fwd|bwd|wrw)|scudnn|nchw_?to_?nhwc|nhwc_?to_?nchw|nchw2nhwc|nhwc2nchw|"
        r"cask_cudnn|fft[12]d_|cudnn_(infer|train)|causal_conv1d",
    ),
    (
        "gemm",
        r"(?<!fb)gemm|gemv|cublas|cutlass_\d|nvjet|matmul|xmma|tensorop|(?<![a-z])cijk_|tensile|split_?k_?reduce|"
        r"wvsplitk|llmm1|fused_?moe|fmoe|moe_gemm|marlin|bitsandbytes|_mm_(?!.*norm)|scaled_mm|mkldnn_linear|"
        r"^aten::(_?\w*mm|bmm|baddbmm|linear|dot|vdot|mv|addmv|einsum|outer|ger|inner|tensordot|_grouped_mm|linear_backward)"
        r"\w*$|dot_kernel|reduce_1block_kernel|^triton_tem\w*_(mm|bmm|addmm|baddbmm)_",
    ),
    ("softmax", r"softmax|^_topk_forward|gatingtopk|topkgating|logsumexp|cross_?entropy|nll_loss"),
    ("reduction", r"vector_norm|norm(one|two|zero|nan)?ops|aten::norm$|(?<![a-z])lpnorm"),
    ("normalization", r"norm(?!al)|welford|var_mean|moments|gammabeta|gamma_beta|fused_\w*rsqrt"),
    (
        "sort/scan",
        r"radix_?sort|(?<![a-z])sort|sort(kernel|pairs|bykey)?(?![a-z])|device_?scan|devicescan|cumsum|cumprod|"
        r"tensor_kernel_scan|scan_(inner|outer)|bincount|histogram|unique|nonzero|searchsorted|bucketize|select_?if|"
        r"reduce_?by_?key|deviceselect|runlength",
    ),
    (
        "embedding/gather",
        r"embedding|gather|scatter|index_?(select|put|add|fill|copy|func|elementwise)|(?<![a-z])indexfunc|indexing|"
        r"(?<![a-z])index_|aten::(_unsafe_|_)?(masked_)?index|take_along|aten::take|lookup|linearize|(bounds_check|"
        r"permute)_indices|repeat_interleave|routing|bitmatrix|moe_?(align|sort|sum|permute)|compute_(position|slot)|req_to_token|slot_mapping",
    ),
    (
        "activation",
        r"gelu|silu|relu|sigmoid|tanh|swish|swiglu|geglu|(?<![a-z])[cs]?elu|act_and_mul|mish|softplus|(?<![a-z])glu",
    ),
    (
        "copy/cast",
        r"direct_copy|copy_kernel|catarray|(?<![a-z])cat_|concat|contiguous|fillfunctor|(?<!masked_)fill_kernel|to_dense|fp8_?(rowwise|qparam)|transpose|permute|"
        r"reshape_and_cache|kv_?cache|copy_blocks|_quant(ize)?(?![a-z])|quant_fp8|quant_kernel|scaled_quant|cast_kernel|"
        r"recat_copy|copydevice|batched_memcpy|triton_poi_fused_(_*(to_copy|copy|clone|cat|transpose|permute|view|t|stack|"
        r"expand|slice|select|unsqueeze|full|zeros|fill|constant_pad_nd)_+)+\d*$|^aten::(_?to|_to_copy|copy|contiguous|"
        r"clone|cat|_cat|stack|fill|zero|zeros|zeros_like|roll|flip|pad|constant_pad_nd|permute|transpose|bfloat16|"
        r"float|half|type_as)_?$|flip|roll_cuda|pad_kernel",
    ),
    ("pooling", r"(max|average|avg|adaptive)_?pool|pooling|pool(2d|3d|_fw|_bw|_for|_back)|mpool"),
)

# What says only how a kernel works. It decides when nothing above does, in the name or in the template arguments.
_FORMS: Final[tuple[tuple[str, str], ...]] = (
    ("gemm", r"cutlass|(?<![a-z])ck(_tile)?::|_zn(k?7ck_tile|2ck)"),
    (
        "reduction",
        r"reduc(e|tion)|triton_(red|per)_|amax|amin|devicereduce|"
        r"^aten::(sum|mean|max|min|amax|amin|any|all|prod|std|var|median|count_nonzero)$",
    ),
    (
        "elementwise",
        rf"elementwise|vectorized|pointwise|triton_poi_|(triton|cpp)_fused|multi_tensor_apply|dropout|optensor|op_tensor|"
        rf"opwithscalar|op\dd_|functor|adam|sgd|foreach|arange|offsets_range|clamp|^aten::({_ARITHMETIC})_?$|_tri[lu]_|tri[lu]_|lerp|"
        rf"distribution|threshold|where_kernel|mul_kernel|add_kernel|eye_",
    ),
    ("allocation and views", rf"^aten::({_VIEWS})_?$"),
)

FAMILIES: Final = (*dict.fromkeys(family for family, _ in (*_MARKS, *_FORMS)), OTHER)
"""All families, in the order in which the rules look for them."""


def _compiled(rules: tuple[tuple[str, str], ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((family, re.compile(pattern)) for family, pattern in rules)


_MARK_PATTERNS: Final = _compiled(_MARKS)
_FORM_PATTERNS: Final = _compiled(_FORMS)


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
    function, arguments = _signature(name.lower())
    return (
        _first(_MARK_PATTERNS, function)
        or _first(_MARK_PATTERNS, arguments)
        or _first(_FORM_PATTERNS, function)
        or _first(_FORM_PATTERNS, arguments)
        or _first((*_MARK_PATTERNS, *_FORM_PATTERNS), op.lower())
        or OTHER
    )


def _first(rules: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str | None:
    if not text:
        return None
    return next((family for family, pattern in rules if pattern.search(text)), None)


def _signature(name: str) -> tuple[str, str]:
    """The function's name and its template arguments, without its parameters.

    >>> _signature("void at::native::reduce_kernel<512, 1, meanops<float> >(meanops<float>)")
    ('at::native::reduce_kernel', '<512, 1, meanops<float> >')
    """
    if name.startswith(("memcpy", "memset")):
        return name, ""
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "").replace("->", "")
    begin = re.search(r"[<(]", name)
    if begin is None:
        return name, ""
    if begin[0] == "(":
        return name[: begin.start()], ""
    depth = 0
    for bracket in re.finditer(r"[<>]", name):
        depth += 1 if bracket[0] == "<" else -1
        if depth == 0:
            return name[: begin.start()], name[begin.start() : bracket.end()]
    return name[: begin.start()], name[begin.start() :]
