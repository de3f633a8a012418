"""Peak rates of devices, by the names that their drivers give them, each with the document it stands in.

Rates are those of the maker's data sheets, at the boost clock and without sparsity: what the silicon can do at most, a
bound and not an expectation. A device that clocks higher would do more; an H100 SXM's limit is 8% above the 1.83 GHz
that its rates are of. Where a maker publishes no such sheet the document that gives the figures is named, and a rate
that no document gives is left out.
"""

from __future__ import annotations

from typing import Final

from gemma_trace.peaks import Peaks


def _rates(half: float, *, bfloat16: bool = True, **others: float) -> tuple[tuple[str, float], ...]:
    """Pairs of dtype and TFLOP/s; bfloat16 has float16's rate, where the device knows it."""
    return (("float16", half), *((("bfloat16", half),) if bfloat16 else ()), *others.items())


_V100: Final = "NVIDIA Tesla V100 GPU data sheet, January 2020"
_A100: Final = "NVIDIA A100 Tensor Core GPU data sheet, June 2021"
_H100: Final = "NVIDIA H100 Tensor Core GPU architecture white paper, without sparsity"
_ADA: Final = "NVIDIA Ada GPU architecture white paper V2, appendices A and C, without sparsity"
_MI200: Final = "AMD Instinct MI200 series data sheet, and CDNA 2 white paper"
_MI300: Final = "AMD CDNA 3 white paper, and the data sheets of the AMD Instinct MI300X and MI325X"

_AMPERE_BLOG: Final = "NVIDIA Ampere Architecture In-Depth (developer.nvidia.com/blog), column V100"
_A800: Final = "NVIDIA A100 Tensor Core GPU data sheet, June 2021; aiwiki.ai/wiki/nvidia_a800 for what the A800 shares"
_GH200: Final = "NVIDIA GH200 Grace Hopper Superchip data sheet, halved where it counts sparsity"
_H20: Final = "github.com/citsjtu2020/LLM-Prof hardware_spec.md and github.com/lamonoai/gpumap nvidia/GPU.md"
_H800: Final = "NVIDIA H800 GPU data sheet, as quoted in github.com/astroC86/gpu-datasheet, without sparsity"
_GB200: Final = "NVIDIA Blackwell data sheet 3384703, halved where it counts sparsity; L2 of the Blackwell Tuning Guide"
_B300: Final = (
    "NVIDIA HGX B300 specifications, an eighth of the totals, as quoted in glennklockwood.com/garden/processors/B300"
)
_GB300: Final = "NVIDIA GB300 NVL72 specifications, as quoted in Stas Bekman's ML Engineering, without sparsity"
_RTX_BLACKWELL: Final = "NVIDIA RTX Blackwell GPU architecture white paper, table 3, without sparsity"
_RTX_PRO: Final = "NVIDIA RTX PRO 6000 Blackwell data sheet 3519208 and RTX PRO Blackwell white paper, table 4"
_CDNA4: Final = (
    "AMD Instinct MI350 series product pages, as derived in Stas Bekman's ML Engineering; ROCm docs, gpu-specs"
)
_GAUDI: Final = "Intel Gaudi 3 white paper and Intel's Hot Chips 2024 slides, as quoted in Stas Bekman's ML Engineering"

_LESS_NVLINK: Final = "an A100 with a slower NVLink"
_HALF_OF_BF16: Final = (
    "TF32 is half of the BF16 rate, as in the white paper's table of the RTX 5090; no dense FP8 figure found"
)

_A100_RATES: Final = _rates(312, float64=19.5, float32=19.5, tf32=156, int8=624)
_H100_SXM_RATES: Final = _rates(989.4, float64=66.9, float32=66.9, tf32=494.7, float8=1978.9, int8=1978.9)
_H20_RATES: Final = _rates(148, float64=1, float32=44, tf32=74, float8=296, int8=296)
_GH200_RATES: Final = _rates(990, float64=67, float32=67, tf32=494, float8=1979, int8=1979)
_H100_NVL_RATES: Final = _rates(835.5, float64=60, float32=60, tf32=417.5, float8=1671, int8=1671)
_CDNA3_RATES: Final = _rates(1307.4, float64=163.4, float32=163.4, tf32=653.7, float8=2614.9, int8=2614.9)
_GAUDI3_RATES: Final = (
    ("bfloat16", 1835.0),
    ("float16", 459.0),
    ("float32", 229.0),
    ("tf32", 459.0),
    ("float8", 1835.0),
)

DEVICES: Final[tuple[Peaks, ...]] = (
    Peaks(
        ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"),
        900,
        6.3,
        _rates(125, bfloat16=False, float64=7.8, float32=15.7),
        _V100,
    ),
    Peaks(
        ("Tesla V100-DGXS-16GB", "Tesla V100-DGXS-32GB"),
        900,
        6.3,
        _rates(125, bfloat16=False, float64=7.8, float32=15.7),
        _AMPERE_BLOG,
        "the DGX Station's; its driver reports the SXM2's clocks, 1,530 and 877 MHz, which these rates are of",
    ),
    Peaks(
        ("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"),
        900,
        6.3,
        _rates(112, bfloat16=False, float64=7, float32=14),
        _V100,
    ),
    Peaks(
        ("Tesla V100S-PCIE-32GB",),
        1134,
        6.3,
        _rates(130, bfloat16=False, float64=8.2, float32=16.4),
        _V100,
    ),
    Peaks(
        ("Tesla T4",),
        320,
        4.2,
        _rates(65, bfloat16=False, float32=8.1, int8=130),
        "NVIDIA T4 Tensor Core GPU data sheet, and Turing architecture white paper, appendix A",
    ),
    Peaks(
        ("NVIDIA GeForce RTX 2080 Ti",),
        616,
        5.8,
        _rates(113.8, bfloat16=False, float32=14.2, int8=227.7),
        "NVIDIA Turing Architecture In-Depth (developer.nvidia.com/blog), Founders Edition",
        "float16 is the rate with FP16 accumulation, twice that with FP32",
    ),
    Peaks(
        ("NVIDIA A10",),
        600,
        6.3,
        _rates(125, float32=31.2, tf32=62.5, int8=250),
        "NVIDIA A10 Tensor Core GPU data sheet, without sparsity",
    ),
    Peaks(
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100-PG509-200"),
        1555,
        41.9,
        _A100_RATES,
        _A100,
        "PG509-200 has the device id (20B0) and the memory of the A100-SXM4-40GB",
    ),
    Peaks(("NVIDIA A100 80GB PCIe",), 1935, 41.9, _A100_RATES, _A100),
    Peaks(("NVIDIA A100-SXM4-80GB",), 2039, 41.9, _A100_RATES, _A100),
    Peaks(("NVIDIA A800-SXM4-40GB", "NVIDIA A800 40GB Active"), 1555, 41.9, _A100_RATES, _A800, _LESS_NVLINK),
    Peaks(("NVIDIA A800 80GB PCIe",), 1935, 41.9, _A100_RATES, _A800, _LESS_NVLINK),
    Peaks(("NVIDIA A800-SXM4-80GB",), 2039, 41.9, _A100_RATES, _A800, _LESS_NVLINK),
    Peaks(
        ("NVIDIA L4",),
        300,
        50.3,
        _rates(121, float32=30.3, tf32=60, float8=242, int8=242),
        "NVIDIA L4 Tensor Core GPU data sheet, halved where it counts sparsity",
    ),
    Peaks(
        ("NVIDIA L40S",),
        864,
        100.7,
        _rates(362, float32=91.6, tf32=183, float8=733, int8=733),
        "NVIDIA L40S data sheet, without sparsity",
    ),
    Peaks(
        ("NVIDIA L20",),
        864,
        100.7,
        _rates(119.5, float32=59.8, tf32=59.8, float8=239, int8=239),
        "github.com/citsjtu2020/LLM-Prof hardware_spec.md, and the table of github.com/bytedance/flux",
        "NVIDIA publishes no data sheet of it; TF32 is half of the BF16 rate, as on the L40S of the same architecture",
    ),
    Peaks(
        ("NVIDIA GeForce RTX 4090",),
        1008,
        75.5,
        (
            ("float16", 330.3),
            ("bfloat16", 165.2),
            ("float32", 82.6),
            ("tf32", 82.6),
            ("float8", 660.6),
            ("int8", 660.6),
        ),
        _ADA,
        "float16 and float8 are the rates with FP16 accumulation, twice those with FP32",
    ),
    Peaks(
        ("NVIDIA GeForce RTX 5090",),
        1792,
        100.7,
        (("float16", 419), ("bfloat16", 209.5), ("float32", 104.8), ("tf32", 104.8), ("float8", 838), ("int8", 838)),
        _RTX_BLACKWELL,
        "float16 and float8 are the rates with FP16 accumulation, twice those with FP32",
    ),
    Peaks(
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition",),
        1792,
        134.2,
        _rates(503.8, float32=125, tf32=251.9),
        _RTX_PRO,
        _HALF_OF_BF16,
    ),
    Peaks(
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition",),
        1597,
        134.2,
        _rates(500, float32=120, tf32=250),
        "NVIDIA RTX PRO 6000 Blackwell Server Edition data sheet, December 2025, and product page",
        f"1 PFLOP/s with sparsity is what is published, these are half; {_HALF_OF_BF16}",
    ),
    Peaks(
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",),
        1792,
        134.2,
        _rates(438.9, float32=110, tf32=219.5),
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition data sheet",
        f"3,511 TOPS of sparse FP4 are what is published, FP16 is an eighth of it; {_HALF_OF_BF16}",
    ),
    Peaks(
        ("NVIDIA H100 PCIe",),
        2039,
        52.4,
        _rates(756, float64=51.2, float32=51.2, tf32=378, float8=1513, int8=1513),
        _H100,
    ),
    Peaks(("NVIDIA H100 80GB HBM3",), 3352, 52.4, _H100_SXM_RATES, _H100),
    Peaks(("NVIDIA H100 NVL",), 3938, 52.4, _H100_NVL_RATES, "NVIDIA H100 NVL data sheet, without sparsity"),
    Peaks(("NVIDIA H200",), 4800, 52.4, _H100_SXM_RATES, "NVIDIA H200 Tensor Core GPU data sheet, without sparsity"),
    Peaks(("NVIDIA H200 NVL",), 4800, 52.4, _H100_NVL_RATES, "NVIDIA H200 NVL data sheet, without sparsity"),
    Peaks(("NVIDIA GH200 480GB", "NVIDIA GH200 120GB"), 4000, 52.4, _GH200_RATES, _GH200),
    Peaks(("NVIDIA GH200 144G HBM3e",), 4900, 52.4, _GH200_RATES, _GH200),
    Peaks(("NVIDIA H20",), 4000, 62.9, _H20_RATES, _H20, "NVIDIA publishes no data sheet of it"),
    Peaks(("NVIDIA H20-3e",), 4800, 62.9, _H20_RATES, _H20, "NVIDIA publishes no data sheet of it"),
    Peaks(
        ("NVIDIA H800",),
        3352,
        52.4,
        _rates(989.4, float32=66.9, tf32=494.7, float8=1978.9, int8=1978.9),
        _H800,
        "an H100 SXM with less of FP64, for which the documents give different figures: none here",
    ),
    Peaks(
        ("NVIDIA H800 PCIe",),
        2039,
        52.4,
        _rates(756, float32=51.2, tf32=378, float8=1513, int8=1513),
        "Lenovo Press LP1814, NVIDIA H800 PCIe GPU, without sparsity",
        "an H100 PCIe with less of FP64, for which the documents give different figures: none here",
    ),
    Peaks(
        ("NVIDIA B200",),
        8000,
        132.6,
        _rates(2250, float64=40, float32=80, tf32=1125, float8=4500, int8=4500),
        "NVIDIA Blackwell architecture technical brief, HGX B200, without sparsity",
    ),
    Peaks(
        ("NVIDIA GB200",),
        8000,
        132.6,
        _rates(2500, float64=40, float32=80, tf32=1250, float8=5000, int8=5000),
        _GB200,
    ),
    Peaks(
        ("NVIDIA B300 SXM6 AC", "NVIDIA B300"),
        8000,
        132.6,
        _rates(2250, float64=1.25, float32=75, tf32=1125, float8=4500),
        _B300,
        "of int8 the documents give different figures: none here",
    ),
    Peaks(
        ("NVIDIA GB300",),
        8000,
        132.6,
        _rates(2500, float32=80, tf32=1250, float8=5000),
        _GB300,
        "of int8 and float64 no agreed figure was found: none here",
    ),
    Peaks(
        ("AMD Instinct MI210",),
        1638.4,
        8.4,
        _rates(181, float64=45.3, float32=45.3, int8=181),
        _MI200,
    ),
    Peaks(
        ("AMD Instinct MI250X", "AMD Instinct MI250X / MI250"),
        1638.4,
        8.4,
        _rates(191.5, float64=47.9, float32=47.9, int8=191.5),
        _MI200,
        "one of the two dies, which is what a program sees as a device; an MI250 that is named so does 5% less",
    ),
    Peaks(("AMD Instinct MI300X",), 5325, 268.4, _CDNA3_RATES, _MI300),
    Peaks(("AMD Instinct MI300X VF",), 5325, 268.4, _CDNA3_RATES, _MI300, "a whole MI300X as a virtual function"),
    Peaks(("AMD Instinct MI325X",), 6000, 268.4, _CDNA3_RATES, _MI300),
    Peaks(
        ("AMD Instinct MI350X",),
        8000,
        268.4,
        _rates(2306.9, float32=144.2, float8=4613.7, int8=4613.7),
        _CDNA4,
        "1,024 matrix cores at 2.2 GHz; there is no XF32, and no figure of FP64 was found",
    ),
    Peaks(
        ("AMD Instinct MI355X",),
        8000,
        268.4,
        _rates(2516.6, float32=157.3, float8=5033.2, int8=5033.2),
        _CDNA4,
        "1,024 matrix cores at 2.4 GHz; there is no XF32, and no figure of FP64 was found",
    ),
    Peaks(
        ("HL-225", "Gaudi2", "GAUDI2"),
        2460,
        50.3,
        (("bfloat16", 432), ("float8", 865)),
        _GAUDI,
        "the cache is its shared SRAM",
    ),
    Peaks(
        ("Gaudi3", "GAUDI3"),
        3670,
        100.7,
        _GAUDI3_RATES,
        _GAUDI,
        "the cache is its shared SRAM; devices that run at 1.6 GHz do at most 1,677 TFLOP/s",
    ),
)
"""Known devices. Caches: NVIDIA's is the L2, AMD's the Infinity Cache where there is one; the makers count them in MiB.

FP32 and FP64 rates are the higher of those of the vector and the matrix units.
"""
