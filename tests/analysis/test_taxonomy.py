from __future__ import annotations

import pytest

from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.taxonomy import FAMILIES, family_of
from tests.conftest import SHARED, real_trace, thorough


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "memcpy HtoD"),
        ("CopyHostToDevice", "memcpy HtoD"),
        ("Memcpy DtoH (Device -> Pageable)", "memcpy DtoH"),
        ("Memcpy DtoD (Device -> Device)", "memcpy DtoD"),
        ("Memcpy PtoP (Device -> Device)", "memcpy PtoP"),
        ("__amd_rocclr_copyBuffer", "memcpy unknown"),
        ("Memset (Device)", "memset"),
        ("__amd_rocclr_fillBufferAligned", "memset"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "communication"),
        ("void vllm::cross_device_reduce_1stage<__hip_bfloat16, 8>(vllm::RankData*)", "communication"),
        ("c10d::allreduce_", "communication"),
        ("void at::native::(anonymous namespace)::upsample_gen2d_aa_out_frame<float>(...)", "image operations"),
        ("aten::_upsample_bicubic2d_aa", "image operations"),
        ("image::decode_jpegs_cuda", "image operations"),
        ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>(long const*)", "rope"),
        ("void flashinfer::BatchQKApplyRotaryPosIdsCosSinCacheKernel<true, 128u>(float*)", "rope"),
        ("triton_poi_fused_mrope_3", "rope"),
        ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128>>", "attention"),
        (
            "void cutlass::device_kernel<flash::enable_sm90<flash::FlashAttnFwdSm90<flash::Mainloop>>>(flash::Params)",
            "attention",
        ),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel::Params)", "attention"),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128", "attention"),
        ("void flashinfer::BatchDecodeWithPagedKVCacheKernel<(flashinfer::PosEncodingMode)0>(Params)", "attention"),
        ("_ZN7ck_tile6kentryILi2ENS_38FmhaBatchPrefillWithPagedKVCacheKernelIvEEEEvDpT1_", "attention"),
        ("_ZN5aiter32fmha_fwd_hd128_bf16_causal_groupE", "attention"),
        ("kernel_unified_attention_2d", "attention"),
        ("_fwd_grouped_kernel_stage1", "attention"),
        ("triton_tem_fused_flex_attention_2", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        (
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::ArgMaxOps<float>>>(at::R)",
            "sampling",
        ),
        ("void flashinfer::sampling::TopKTopPSamplingFromProbKernel<1024u>(float*)", "sampling"),
        ("aten::multinomial", "sampling"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32", "convolution"),
        ("cudnn_ampere_scudnn_128x64_relu_xregs_large_nn_v1", "convolution"),
        ("void fft2d_r2c_32x32<float, false, 5u, true>(float2*, float const*)", "convolution"),
        ("miopenSp3AsmConv_v30_3_1_gfx9_fp32_f2x3_stride1", "convolution"),
        ("igemm_fwd_gtcx3_nhwc_fp16_bx0_ex1_bt256x128x32", "convolution"),
        ("Im2d2Col", "convolution"),
        ("aten::mkldnn_convolution", "convolution"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_relu_f2f_stages_64x4_tn", "gemm"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x256x32", "gemm"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", "gemm"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>(cublasLt::cublasSplitKParams<float>)", "gemm"),
        ("void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_64x64_64x6_tn_align8>(P)", "gemm"),
        ("void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int>>>(P)", "gemm"),
        ("void wvSplitKrc_<__hip_bfloat16, 64, 16>(int)", "gemm"),
        ("_ZN2ck37kernel_gemm_xdl_cshuffle_v3_multi_d_bINS_17GridwiseGemm", "gemm"),
        ("_ZN5aiter48fmoe_bf16_blockscaleFp8_g1u1_novs_silu_1tg_32x256E", "gemm"),
        ("fused_moe_kernel", "gemm"),
        ("triton_tem_fused_addmm_relu_0", "gemm"),
        ("aten::addmm", "gemm"),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>", "softmax"),
        ("void vllm::moe::topkGatingSoftmax<8, 128, 4, 16, 64>(float const*)", "moe routing"),
        ("triton_per_fused__softmax_3", "softmax"),
        ("void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 128, true, 1>", "normalization"),
        ("_ZN5aiter24add_rmsnorm_quant_kernelIDF16bDF16bLi256E", "normalization"),
        ("MIOpenBatchNormFwdInferSpatialEst", "normalization"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_1", "normalization"),
        ("aten::native_layer_norm", "normalization"),
        ("void cub::DeviceRadixSortOnesweepKernel<cub::Policy<long>, false>(int*)", "sort/scan"),
        ("aten::cumsum", "sort/scan"),
        ("aten::embedding", "embedding/gather"),
        ("void at::native::(anonymous namespace)::indexSelectSmallIndex<c10::BFloat16>(at::T)", "embedding/gather"),
        (
            "void at::native::index_elementwise_kernel<128, 4, at::native::gpu_index_kernel<int>>(int)",
            "embedding/gather",
        ),
        ("void vllm::moe::moe_align_block_size_kernel<int>(int*)", "moe routing"),
        ("aten::gelu", "activation"),
        (
            "void vllm::act_and_mul_kernel<c10::BFloat16, &vllm::silu_kernel<c10::BFloat16>, true>(c10::B*)",
            "activation",
        ),
        ("triton_poi_fused_gelu_mul_0", "activation"),
        (
            "void at::native::elementwise_kernel<128, 2, direct_copy_kernel_cuda(at::T&)::{lambda()#2}>(int)",
            "copy/cast",
        ),
        (
            "void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 2, 128, 1>(float*)",
            "copy/cast",
        ),
        ("void vllm::reshape_and_cache_flash_kernel<__hip_bfloat16>(__hip_bfloat16 const*)", "copy/cast"),
        ("void vllm::dynamic_per_token_scaled_fp8_quant_kernel<float>(float*)", "quantization"),
        ("triton_poi_fused__to_copy_clone_transpose_2", "copy/cast"),
        ("aten::_to_copy", "copy/cast"),
        ("aten::avg_pool2d", "pooling"),
        ("void cudnn::pooling_fw_4d_kernel<float, float>(int)", "pooling"),
        (
            "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps<float>>>(at::R)",
            "reduction",
        ),
        ("aten::linalg_vector_norm", "reduction"),
        ("triton_per_fused_sum_1", "reduction"),
        ("triton_poi_fused_add_cos_sin_0", "elementwise"),
        ("triton_poi_fused__to_copy_add_mul_0", "elementwise"),
        (
            "void at::native::multi_tensor_apply_kernel<TensorListMetadata<4>, AdamFunctor<float>>(int)",
            "elementwise",
        ),
        ("aten::mul", "elementwise"),
        ("_chunk_scan_fwd_kernel", "state space"),
        ("void vector_fft<512u, 8u, 2u, (padding_t)0>(kernel_arguments_t<unsigned int>)", "fft"),
        ("aten::linalg_inv_ex", "linear algebra"),
        ("aten::view", "allocation and views"),
        ("frobnicate_v7", "other"),
    ],
)
def test_names_have_their_family(name: str, family: str) -> None:
    assert family_of(name) == family


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("aten::normal_", "elementwise"),
        ("void at::native::elementwise_kernel<128, 4, gpu_kernel_impl_nocast<MulFunctor<float>>>", "elementwise"),
        (
            "void unrolled_elementwise_kernel<CUDAFunctor_add<float>, LoadWithCast<2>, StoreWithCast<1>>(int)",
            "elementwise",
        ),
        (
            "void at::native::vectorized_elementwise_kernel<4, masked_fill_kernel(at::T&)::{lambda()#1}>(int)",
            "elementwise",
        ),
        ("void at::native::vectorized_elementwise_kernel<4, AddFunctor<float>>(int, softmax_params)", "elementwise"),
        ("aten::broadcast_tensors", "allocation and views"),
        ("convert_property_table", "other"),
        ("europe_process", "other"),
    ],
)
def test_a_part_of_a_word_or_a_parameter_is_no_mark(name: str, family: str) -> None:
    assert family_of(name) == family


def test_there_is_a_spot_check_of_every_family() -> None:
    marks = test_names_have_their_family.pytestmark  # type: ignore[attr-defined]
    assert {family for _, family in marks[0].args[1]} == set(FAMILIES)


def test_the_launching_op_counts_where_the_name_says_nothing() -> None:
    assert family_of("kernel_0", "aten::softmax") == "softmax"
    assert family_of("sm80_xmma_gemm_f32f32", "aten::convolution") == "gemm"
    assert family_of("kernel_0", "mine::secret") == "other"
    assert family_of("kernel_0", "autograd::engine::evaluate_function: SoftmaxBackward0") == "softmax"


@pytest.mark.parametrize("folder", ["corpus", *thorough(["corpus_2"])])
def test_other_is_at_most_a_twentieth_of_every_real_trace(folder: str) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"needs ../shared/{folder}, real traces that this project reads but does not ship")
    for path in sorted((SHARED / folder).rglob("*.json.gz")):
        if path.parent.name == "bad" or path.match("vllm032_no_stacks/front_end.json.gz"):
            continue  # damaged on purpose; and a file without a span
        table = kernel_table(real_trace(path))
        other = sum(row.sum_ns for row in table.rows if row.family == "other")
        assert other <= 0.05 * (table.totals.device_sum_ns + table.totals.host_self_ns), path.name
