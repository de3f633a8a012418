"""What a multimodal model does while a profiler looks on, as trees of Python frames, ops and launches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What a node becomes in the trace."""

    FRAME = "python_function"
    OP = "cpu_op"
    LAUNCH = "launch"
    """A runtime call, the activity it starts on the device, and the flow between them."""


@dataclass(frozen=True, slots=True)
class Node:
    """A frame, an op, or a launch.

    Attributes:
        numbered: the name ends in the layer's number, as module instances do.
        inputs: of an op, the text of its shapes; `@T` stands for the tokens, `@C` for those attended to.
        allocates: a memory event follows.
        call, callback, category, stream, grid, block, registers, shared_bytes: of a launch.
        fixed_ns, token_ns: how long its activity takes, at least and a token.
        waits: the call returns when the device is done.
    """

    kind: Kind
    name: bytes
    children: tuple[Node, ...] = ()
    numbered: bool = False
    inputs: bytes = b""
    allocates: bool = False
    call: bytes = b"cudaLaunchKernel"
    callback: int = 211
    category: bytes = b"kernel"
    stream: int = 7
    grid: int = 1
    block: int = 128
    registers: int = 32
    shared_bytes: int = 0
    fixed_ns: int = 1800
    token_ns: int = 2
    waits: bool = False


def _frame(name: str, *children: Node) -> Node:
    return Node(Kind.FRAME, name.encode(), children)


def _torch_function(name: str, *children: Node) -> Node:
    """A call that goes through a torch function mode, as it does under a default device."""
    return _frame(
        "torch/utils/_device.py(100): __torch_function__",
        _frame("<built-in function _has_torch_function_variadic>"),
        _frame(name, *children),
    )


def _module(name: str, source: str, *children: Node) -> Node:
    """A call of a torch module: its own frame, torch's frames around `forward`, and `forward`."""
    return Node(
        Kind.FRAME,
        f"nn.Module: {name}".encode(),
        (
            _frame(
                "torch/nn/modules/module.py(1743): _call_impl",
                _frame("<built-in method _get_tracing_state of PyCapsule object at 0x7ce64056f750>"),
                *[_frame("torch/nn/modules/module.py(1915): __getattr__", _frame("<built-in function isinstance>"))]
                * 3,
                _frame(source, *children),
            ),
        ),
        numbered=True,
    )


def _op(name: str, shapes: str, *children: Node, types: str = "c10::BFloat16", allocates: bool = False) -> Node:
    """An op with tensors of these shapes, a semicolon between them; an empty one is a scalar."""
    dims = [shape.strip() for shape in shapes.split(";")]
    lists = ", ".join(f"[{shape}]" for shape in dims)
    inputs = (
        f', "Concrete Inputs": {json.dumps(["" if shape else "1" for shape in dims])}'
        f', "Input type": {json.dumps([types if shape else "Scalar" for shape in dims])}'
        f', "Input Strides": [{lists}], "Input Dims": [{lists}]'
    )
    return Node(Kind.OP, f"aten::{name}".encode(), children, inputs=inputs.encode(), allocates=allocates)


def _elementwise(functor: str, grid: int = 4) -> Node:
    name = (
        f"void at::native::vectorized_elementwise_kernel<4, {functor}, std::array<char*, 3ul> >"
        f"(int, {functor}, std::array<char*, 3ul>)"
    )
    return Node(Kind.LAUNCH, name.encode(), grid=grid)


def _gemm(name: str, token_ns: int, grid: int) -> Node:
    return Node(
        Kind.LAUNCH,
        name.encode(),
        call=b"cudaLaunchKernelExC",
        callback=430,
        grid=grid,
        block=384,
        registers=168,
        shared_bytes=231_424,
        fixed_ns=4200,
        token_ns=token_ns,
    )


def _kernel(name: str, token_ns: int, grid: int, block: int = 128, shared_bytes: int = 0) -> Node:
    return Node(Kind.LAUNCH, name.encode(), token_ns=token_ns, grid=grid, block=block, shared_bytes=shared_bytes)


def _view(shape: str) -> Node:
    return _torch_function("<built-in method view of Tensor object at 0x7ce279c5bf20>", _op("view", f"{shape}; "))


def _transpose(shape: str) -> Node:
    return _torch_function(
        "<built-in method transpose of Tensor object at 0x7ce279c59630>",
        _op("transpose", f"{shape}; ; ", _op("as_strided", f"{shape}; ; ; ")),
    )


def _linear(inside: int, outside: int, kernel: Node) -> Node:
    """`torch.nn.Linear`: a dozen frames and ops for one kernel."""
    shape = f"1, @T, {inside}"
    weight = f"{outside}, {inside}"
    return _module(
        "Linear",
        "torch/nn/modules/linear.py(124): forward",
        _torch_function(
            "<built-in function linear>",
            _op(
                "linear",
                f"{shape}; {weight}; {outside}",
                _op("t", weight, _op("transpose", f"{weight}; ; ", _op("as_strided", f"{weight}; ; ; "))),
                _op("view", f"{shape}; "),
                _op(
                    "addmm",
                    f"{outside}; @T, {inside}; {inside}, {outside}; ; ",
                    _op("empty", "; ; ; ; ; ", allocates=True),
                    kernel,
                ),
                _op("view", f"@T, {outside}; "),
            ),
        ),
    )


def _norm(module: str, source: str, width: int) -> Node:
    """A normalisation written out in ops, as the language models do it in float32."""
    shape = f"1, @T, {width}"
    cast = _op("empty_strided", "; ; ; ; ; ", allocates=True)
    copy = _op("copy_", f"{shape}; {shape}; ", _elementwise("at::native::bfloat16_copy_kernel_cuda"))
    return _module(
        module,
        source,
        _frame(
            "<built-in method float of Tensor object at 0x7ce279d2ce60>",
            _op("to", f"{shape}; ; ; ", _op("_to_copy", f"{shape}; ; ; ; ", cast, copy)),
        ),
        _op("pow", f"{shape}; ", _elementwise("at::native::pow_tensor_scalar_kernel_impl<float, float>")),
        _op(
            "mean",
            f"{shape}; ; ; ",
            _kernel(
                "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float, float, "
                "float, float>, unsigned int, float, 4, 4> >(at::native::ReduceOp<float, at::native::MeanOps<float, "
                "float, float, float>, unsigned int, float, 4, 4>)",
                2,
                2,
            ),
            types="float",
        ),
        _op("rsqrt", "1, @T, 1", _elementwise("at::native::rsqrt_kernel_cuda(at::TensorIteratorBase&)"), types="float"),
        _op("mul", f"{shape}; 1, @T, 1", _elementwise("at::native::BinaryFunctor<float, float, MulFunctor<float> >")),
    )


def _layer_norm(width: int) -> Node:
    shape = f"1, @T, {width}"
    return _module(
        "LayerNorm",
        "torch/nn/modules/normalization.py(216): forward",
        _frame(
            "torch/nn/functional.py(2910): layer_norm",
            _op(
                "layer_norm",
                f"{shape}; ; {width}; {width}; ; ",
                _op(
                    "native_layer_norm",
                    f"{shape}; ; {width}; {width}; ",
                    _op("empty", "; ; ; ; ; ", allocates=True),
                    _kernel(
                        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>("
                        "int, float, c10::BFloat16 const*, c10::BFloat16 const*, c10::BFloat16 const*, float*, float*, "
                        "c10::BFloat16*)",
                        3,
                        64,
                        block=256,
                        shared_bytes=24,
                    ),
                ),
            ),
        ),
    )


def _add(width: int) -> Node:
    return _op("add", f"1, @T, {width}; 1, @T, {width}; ", _elementwise("at::native::CUDAFunctor_add<c10::BFloat16>"))


def _attention(heads: int, size: int, kernel: Node) -> Node:
    query, keys = f"1, {heads}, @T, {size}", f"1, {heads}, @C, {size}"
    return _frame(
        "transformers/integrations/sdpa_attention.py(49): sdpa_attention_forward",
        _frame(
            "<built-in function scaled_dot_product_attention>",
            _op(
                "scaled_dot_product_attention",
                f"{query}; {keys}; {keys}; ; ; ; ; ",
                _op(
                    "_scaled_dot_product_flash_attention",
                    f"{query}; {keys}; {keys}; ; ; ; ",
                    _op("empty_like", f"{query}; ; ; ; ; ", _op("empty", "; ; ; ; ; ", allocates=True)),
                    kernel,
                ),
            ),
        ),
        _transpose(query),
    )


_GEMM_LARGE = (
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"
    "__5x_cublas"
)
_GEMM_SMALL = (
    "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>"
    "(cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8::Params)"
)
_FLASH = (
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<{0}, 128, 64, 4, false, false, cutlass::bfloat16_t, "
    "Flash_kernel_traits<{0}, 128, 64, 4, cutlass::bfloat16_t> >, false, false, false, false, false, true, false, "
    "false>(pytorch_flash::Flash_fwd_params)"
)


def _copy(name: str, category: str, token_ns: int, stream: int = 20, waits: bool = False) -> Node:
    return Node(
        Kind.LAUNCH,
        name.encode(),
        call=b"cudaMemsetAsync" if category == "gpu_memset" else b"cudaMemcpyAsync",
        callback=51 if category == "gpu_memset" else 41,
        category=category.encode(),
        stream=stream,
        token_ns=token_ns,
        waits=waits,
    )


IMAGE_PROCESSING: Final = _frame(
    "transformers/image_processing_utils_fast.py(621): preprocess",
    _frame("PIL/Image.py(2285): resize", _frame("<built-in method resize of ImagingCore object at 0x7ce279c5be10>")),
    _op("to", "3, @T, @T; ; ; ; ", _op("_to_copy", "3, @T, @T; ; ; ; ; ; "), types="unsigned char"),
    _op("sub", "3, @T, @T; 3, 1, 1; ", types="float"),
    _op("div_", "3, @T, @T; 3, 1, 1", types="float"),
)
TRANSFER: Final = _frame(
    "transformers/feature_extraction_utils.py(193): to",
    _op(
        "to",
        "1, 3, 896, 896; ; ; ; ; ",
        _op("copy_", "1; 1; ", _copy("Memcpy HtoD (Pageable -> Device)", "gpu_memcpy", 60)),
    ),
    _op("to", "1, @T; ; ; ; ; ", _op("copy_", "1; 1; ", _copy("Memcpy HtoD (Pageable -> Device)", "gpu_memcpy", 0))),
)
ENCODER_LAYER: Final = _module(
    "SiglipEncoderLayer",
    "transformers/models/siglip/modeling_siglip.py(451): forward",
    _layer_norm(1152),
    _module(
        "SiglipAttention",
        "transformers/models/siglip/modeling_siglip.py(373): forward",
        *(
            node
            for _ in range(3)
            for node in (
                _linear(1152, 1152, _gemm(_GEMM_LARGE, 9, 9)),
                _view("1, @T, 1152"),
                _transpose("1, @T, 16, 72"),
            )
        ),
        _attention(16, 72, _kernel(_FLASH.format(96), 52, 16, shared_bytes=65_536)),
        _linear(1152, 1152, _gemm(_GEMM_LARGE, 9, 9)),
    ),
    _add(1152),
    _layer_norm(1152),
    _module(
        "SiglipMLP",
        "transformers/models/siglip/modeling_siglip.py(424): forward",
        _linear(1152, 4304, _gemm(_GEMM_LARGE, 30, 34)),
        _op("gelu", "1, @T, 4304; ", _elementwise("at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&)", 17)),
        _linear(4304, 1152, _gemm(_GEMM_LARGE, 30, 9)),
    ),
    _add(1152),
)
PROJECTOR: Final = _module(
    "Gemma3MultiModalProjector",
    "transformers/models/gemma3/modeling_gemma3.py(702): forward",
    _op("avg_pool2d", "1, 1152, 64, 64; ; ; ; ; ; ", _kernel("void at::native::avg_pool2d_out_cuda_frame", 20, 64)),
    _norm("Gemma3RMSNorm", "transformers/models/gemma3/modeling_gemma3.py(131): forward", 1152),
    _op("matmul", "1, @T, 1152; 1152, 2560", _op("mm", "@T, 1152; 1152, 2560", _gemm(_GEMM_SMALL, 9, 40))),
)
_RMS_NORM = _norm("Gemma3RMSNorm", "transformers/models/gemma3/modeling_gemma3.py(131): forward", 2560)
DECODER_LAYER: Final = _module(
    "Gemma3DecoderLayer",
    "transformers/models/gemma3/modeling_gemma3.py(385): forward",
    _RMS_NORM,
    _module(
        "Gemma3Attention",
        "transformers/models/gemma3/modeling_gemma3.py(317): forward",
        *(
            node
            for width in (2048, 1024, 1024)
            for node in (
                _linear(2560, width, _gemm(_GEMM_SMALL, 8, 16)),
                _view(f"1, @T, {width}"),
                _transpose("1, @T, 8, 256"),
            )
        ),
        _norm("Gemma3RMSNorm", "transformers/models/gemma3/modeling_gemma3.py(131): forward", 256),
        _frame(
            "transformers/cache_utils.py(108): update",
            _op(
                "cat",
                "; ",
                _kernel(
                    "void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)::"
                    "OpaqueType<2u>, unsigned int, 4, 64, 64>",
                    2,
                    8,
                ),
            ),
        ),
        _attention(8, 256, _kernel(_FLASH.format(256), 30, 8, shared_bytes=98_304)),
        _linear(2048, 2560, _gemm(_GEMM_SMALL, 12, 40)),
    ),
    _RMS_NORM,
    _add(2560),
    _RMS_NORM,
    _module(
        "Gemma3MLP",
        "transformers/models/gemma3/modeling_gemma3.py(115): forward",
        _linear(2560, 10240, _gemm(_GEMM_LARGE, 55, 80)),
        _op("gelu", "1, @T, 10240; ", _elementwise("at::native::GeluCUDAKernelImpl(at::TensorIteratorBase&)", 40)),
        _linear(2560, 10240, _gemm(_GEMM_LARGE, 55, 80)),
        _op(
            "mul",
            "1, @T, 10240; 1, @T, 10240",
            _elementwise("at::native::BinaryFunctor<c10::BFloat16, MulFunctor>", 40),
        ),
        _linear(10240, 2560, _gemm(_GEMM_LARGE, 55, 20)),
    ),
    _RMS_NORM,
    _add(2560),
)
SAMPLING: Final = _frame(
    "transformers/generation/utils.py(2783): _sample",
    _op(
        "argmax",
        "1, 262208; ; ; ",
        _copy("Memset (Device)", "gpu_memset", 0, stream=7),
        _kernel(
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float> > >", 0, 4
        ),
    ),
    _op(
        "item",
        "1",
        _op("_local_scalar_dense", "1", _copy("Memcpy DtoH (Device -> Pinned)", "gpu_memcpy", 0, stream=7, waits=True)),
        types="long int",
    ),
)
