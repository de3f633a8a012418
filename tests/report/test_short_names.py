from __future__ import annotations

import pytest

from gemma_trace.report.short_names import folded


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
        ("aten::_scaled_dot_product_attention", "aten::_scaled_dot_product_attention"),
        ("Memcpy DtoH (Device -> Pinned)", "Memcpy DtoH (Device -> Pinned)"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, "
            "3ul> >(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)",
            "vectorized_elementwise_kernel<CUDAFunctor_add>",
        ),
        ("void (anonymous namespace)::softmax_warp_forward<float, float>(float*, int)", "softmax_warp_forward<…>"),
        ("<script>alert(1)</script>", "alert<…>"),
        ("unbalanced<a<b(", "unbalanced<…>"),
        (">>>", ">>>"),
        ("", ""),
    ],
)
def test_kernel_names_are_folded_for_reading(name: str, expected: str) -> None:
    assert folded(name) == expected
