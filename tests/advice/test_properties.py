"""Whatever is in a trace, rules don't fail, and no ceiling is under nothing or over the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.advice.advise import look
from gemma_trace.advice.merge import advice_of
from gemma_trace.metadata import RequestSample, Workload
from tests.advice.made import METADATA
from tests.conftest import tries
from tests.trace_builder import TraceBuilder

RANGES = ("request", "prefill", "decode", "vision_tower", "image_load", "image_processing", "layer::a.0", "layer::a.1")
OPS = ("aten::mm", "aten::softmax", "aten::triu", "aten::cat", "aten::_to_copy", "aten::contiguous", "aten::item")
RESIZE = "aten::_upsample_bicubic2d_aa"
CALLS = ("cudaLaunchKernel", "cudaMalloc", "cudaGraphLaunch", "cudaStreamSynchronize", "cudaStreamWaitEvent")
KERNELS = ("ampere_sgemm_32x32_align1", "ncclDevKernel", "Memcpy HtoD (Pageable -> Device)", "vectorized_elementwise")
FRAMES = ("a.py(1): from_pretrained", "m.py(2): get_attn_mask", "enumerate(DataLoader)#_SingleProcessDataLoaderIter")
LENGTHS = st.one_of(st.integers(0, 40), st.integers(0, 2_000_000))
DIMS = st.sampled_from(([], [[2, 3], [4, 16]], [[1], "?", [[]]], "no list", None))
TYPES = st.sampled_from((["float", "float"], ["unsigned char"], ["c10::BFloat16"], "?", None))
GRIDS = st.sampled_from(([1, 1, 1], [130, 1, 1], [0, 1], [], "[9, 9, 9]", [1 << 62, 1 << 62, 9], None))


@st.composite
def any_traces(draw: st.DrawFn) -> TraceBuilder:
    """Spans of all kinds that rules look at, anywhere, with arguments that may be nonsense."""
    built = TraceBuilder().op("aten::mm", draw(LENGTHS), draw(LENGTHS))
    times = st.one_of(st.integers(0, 100), st.integers(0, 5_000_000))
    for name in draw(st.lists(st.sampled_from(RANGES), max_size=14)):
        built.range(f"gemma_trace::{name}", draw(times), draw(LENGTHS))
    for name in draw(st.lists(st.sampled_from((*OPS, RESIZE)), max_size=14)):
        given = {"Input Dims": draw(DIMS), "Input type": draw(TYPES)}
        known = {key: value for key, value in given.items() if value is not None}
        built.span("cpu_op", name, draw(times), draw(LENGTHS), **known)  # type: ignore[arg-type]
    for name in draw(st.lists(st.sampled_from(FRAMES), max_size=4)):
        built.frame(name, draw(times), draw(LENGTHS))
    for place in range(draw(st.integers(0, 8))):
        called = draw(times)
        built.launch(place, called, draw(LENGTHS), name=draw(st.sampled_from(CALLS)))
        grid = draw(GRIDS)
        args: dict[str, Any] = {"correlation": place, "stream": draw(st.integers(7, 9)), "device": 0}
        args |= {} if grid is None else {"grid": grid}
        start = called + draw(st.integers(0, 50))
        built.span("kernel", draw(st.sampled_from(KERNELS)), start, draw(LENGTHS), pid=0, tid=args["stream"], **args)
    built.header["deviceProperties"] = draw(st.sampled_from(([], [{"id": 0, "numSms": 108}], [{"numSms": "9"}, 3], {})))
    if draw(st.booleans()):
        sample = RequestSample(draw(LENGTHS), 0, (), "a", {}, {})
        workload = Workload(("a", "b"), (draw(st.integers(0, 9)),), 1, (draw(st.integers(0, 99)),), ((0, 0), (), (1,)))
        labels = tuple(draw(st.lists(st.sampled_from("abc"), max_size=3)))
        config = {**METADATA.config, "requests": "r", "batch": draw(st.sampled_from((4, 0, -1, "x", None)))}
        run = replace(METADATA.run, dtype="float32", device=draw(st.sampled_from(("cpu", "cuda", "?"))))
        built.metadata(
            replace(
                METADATA,
                run=run,
                workload=workload,
                profiled_images=labels,
                timed_requests=(sample,),
                config=config,
            )
        )
    return built


@settings(max_examples=tries(40))
@given(any_traces())
def test_every_ceiling_lies_within_its_request(tmp_path_factory: pytest.TempPathFactory, built: TraceBuilder) -> None:
    looked = look(built.load(tmp_path_factory.mktemp("any")), label="a")
    for finding in looked.findings:
        pairs = zip(finding.ceiling.values_ns, finding.ceiling.walls_ns, strict=True)
        assert all(0 <= gain <= wall for gain, wall in pairs), finding.rule
        assert finding.change.endswith(".")
        assert finding.check
        assert "nan" not in finding.evidence
    both = advice_of([looked, looked.called("b")])
    assert len(both.findings) == len(advice_of([looked]).findings)
    for finding in both.findings:
        low, high = finding.ceiling.interval_ns
        assert 0 <= low <= high <= max(finding.ceiling.walls_ns)
