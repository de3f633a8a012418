from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.trace.trace import load


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Memcpy DtoH (Device -> Pageable)", "memcpy DtoH"),
        ("CopyHostToDevice", "copy/cast"),
        ("Memset (Device)", "memset"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "communication"),
        ("void at::native::(anonymous namespace)::upsample_gen2d_aa_out_frame<float>(...)", "image operations"),
        ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<64, 128>>", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32", "convolution"),
        ("cudnn_ampere_scudnn_128x64_relu_xregs_large_nn_v1", "convolution"),
        ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x256x32", "gemm"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_TNT", "gemm"),
        ("aten::addmm", "gemm"),
        ("void (anonymous namespace)::softmax_warp_forward<float, float, float, 8, false, false>", "softmax"),
        ("void cudnn::bn_bw_1C11_kernel_new<float, float, float2, 128, true, 1>", "normalization"),
        ("triton_poi_fused_add_cos_sin_0", "elementwise"),
        ("aten::embedding", "embedding/gather"),
        ("aten::gelu", "activation"),
        ("void at::native::elementwise_kernel<128, 4, gpu_kernel_impl_nocast<MulFunctor<float>>>", "elementwise"),
        ("aten::argmax", "sampling"),
        ("aten::avg_pool2d", "pooling"),
        ("aten::view", "allocation and views"),
        ("frobnicate_v7", "other"),
    ],
)
def test_names_have_their_family(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_launching_op_counts_where_the_name_says_nothing() -> None:
    assert family_of("kernel_0", "aten::softmax") == "softmax"
    assert family_of("sm80_xmma_gemm_f32f32", "aten::convolution") == "gemm"
    assert family_of("kernel_0", "mine::secret") == "other"


def test_other_is_at_most_a_twentieth_of_device_time_on_the_corpus(corpus: Path) -> None:
    for path in sorted(corpus.glob("*.json.gz")):
        table = kernel_table(load(path))
        if table.on == "device":
            other = sum(row.sum_ns for row in table.rows if row.family == "other")
            assert other <= 0.05 * table.totals.device_sum_ns, path.name
