"""Matrix products in float32 where bfloat16 (or, where a device has none, float16) would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.roofline.devices import device_peaks

MATRIX_LEFT: Final = 1 / 16
"""What is left of a matrix product's time at most savings: the H100's dense bfloat16 rate is 989 TFLOP/s, its float32
rate 67 (NVIDIA H100 data sheet)."""
OTHER_LEFT: Final = 1 / 2
"""Of everything else half the bytes are moved."""

_MATRIX: Final = ("gemm", "convolution", "attention")
_FLOAT: Final = '"float"'
_TELLS: Final = r"(?i)bf16|fp?16|half|bfloat|f8|fp8|e4m3|e5m2|i8|int8|_bbs_|_hhs_|h884|hgemm"
"""What names of kernels say of types other than float32."""

LEAST_SHARE: Final = 0.2
"""Where products of unknown types take a smaller share of the requests, their types aren't asked for."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    if not _is_float32(case):
        if lacking := _without_types(case):
            yield lacking
        return
    work = trace.is_activity if case.on_device else trace.is_op
    spans = work & (case.work_ns > 0)
    matrix = spans & case.of_families(*_MATRIX)
    if not case.total_ns(matrix):
        return
    if lacking := _without_bfloat16(case):
        yield lacking
        return
    where = case.where(matrix)
    what = "the device's work" if case.on_device else "the ops' work"
    half = _half_of(case)
    yield Candidate(
        change=f'Load the model in {half}: dtype="{half}" (gemma-trace capture --dtype {half}).',
        where=where,
        evidence=f"float32 matrix products take {case.share(matrix, spans)} of {what}",
        spans=spans & (matrix | ~case.of_families("memcpy HtoD", "memcpy DtoH", "communication")),
        confidence=Confidence.MEDIUM if case.on_device else Confidence.LOW,
        check=case.check("dtype", half),
        left=np.where(case.of_families(*_MATRIX), MATRIX_LEFT, OTHER_LEFT),
    )


def _without_bfloat16(case: Case) -> Lacking | None:
    """Why bfloat16 isn't advised on a CPU; None where it is."""
    if case.on_device or (case.metadata is not None and case.metadata.run.device != "cpu"):
        return None
    environment = case.metadata.environment if case.metadata else None
    if environment is None or environment.cpu_bfloat16 is None:
        return Lacking(
            "the trace does not say whether this CPU has instructions for bfloat16; without them, bfloat16 is slower",
            "a capture on Linux, which records it; or try it: gemma-trace capture --dtype bfloat16",
        )
    if not environment.cpu_bfloat16:
        return Lacking(
            f"this CPU ({environment.host_cpu}) has no instructions for bfloat16, so it would be slower",
            "the same model on a device, or on a CPU with AVX512_BF16, AMX or Arm's BF16",
        )
    return None


def _half_of(case: Case) -> str:
    """The type of 16 bits that the device multiplies by itself: float16 where it is known to have no bfloat16."""
    peaks = device_peaks(case.trace, case.peaks).peaks if case.on_device else None
    rates = dict(peaks.tflops) if peaks else {}
    return "float16" if "float16" in rates and "bfloat16" not in rates else "bfloat16"


def _without_types(case: Case) -> Lacking | None:
    """Why it can't be told whether products are of float32; None where it can."""
    trace = case.trace
    if case.metadata is not None or (trace.spans.input_types[trace.is_op] >= 0).any():
        return None
    work = trace.is_activity if case.on_device else trace.is_op
    matrix = case.of_families(*_MATRIX) & work
    untold = matrix & ~case.named(_TELLS, work)
    if case.total_ns(untold) <= LEAST_SHARE * case.wall_ns:
        return None
    return Lacking(
        f"the types of matrix products, which take {case.each_ms(untold):,.3f} ms, aren't recorded",
        "the types of inputs: torch.profiler with record_shapes=True",
    )


def _is_float32(case: Case) -> bool:
    """Whether most of the time of ops of matrix products whose types are known is of float32's."""
    if case.metadata is not None:
        return case.metadata.run.dtype == "float32"
    trace, spans = case.trace, case.trace.spans
    products = case.named(r"^aten::(addmm|mm|bmm|baddbmm|conv2d|_convolution|linear|matmul)$", trace.is_op)
    known = products & case.in_requests & (spans.input_types >= 0)
    types = [spans.texts[code] for code in spans.input_types[known].tolist()]
    floats = np.array([text.count(_FLOAT) >= 2 for text in types], dtype=bool)
    length = spans.dur_ns[known]
    return bool(len(types)) and int(length[floats].sum()) * 2 > int(length.sum())


RULE: Final = Rule(
    "low_precision",
    "PyTorch Performance Tuning Guide: mixed precision; NVIDIA H100 data sheet",
    _look,
    looks_for=(
        "most matrix products have float32 operands; on a CPU only where the capture says that it "
        "multiplies bfloat16 by itself"
    ),
    leaves="1/16 of matrix products, 1/2 of all else",
)
