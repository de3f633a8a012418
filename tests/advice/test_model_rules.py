"""Rules that look at what a model does with its inputs: ceilings worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.advice.advise import advise
from gemma_trace.advice.findings import Advice, Finding
from gemma_trace.metadata import RequestSample, RunMetadata, Workload
from gemma_trace.peaks import Peaks
from tests.advice.made import METADATA
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def request(wall_ms: int = 100) -> TraceBuilder:
    return TraceBuilder().range("request", 0, wall_ms * MS)


def of(advice: Advice, rule: str) -> Finding | None:
    return next((each for each in advice.findings if each.rule == rule), None)


def found(built: TraceBuilder, folder: Path, rule: str) -> Finding | None:
    return of(advise(built.load(folder)), rule)


def missing(advice: Advice, rule: str) -> list[str]:
    return [each.missing for each in advice.abstentions if each.rule == rule]


def masks(count: int, name: str = "aten::triu", *, in_stage: bool = True, in_layers: bool = True) -> TraceBuilder:
    """A prefill of layers of 10 ms, each of which builds a mask for 4 ms."""
    built = request().range("prefill", 0, 90 * MS) if in_stage else request()
    for layer in range(count):
        if in_layers:
            built.range(f"gemma_trace::layer::layers.{layer}", layer * 10 * MS, 10 * MS)
        if ".py" in name:
            built.frame(name, (layer * 10 + 1) * MS, 4 * MS)
        else:
            built.op(name, (layer * 10 + 1) * MS, 4 * MS, dims=[[8, 8], []])
    return built


@pytest.mark.parametrize(
    "name",
    [
        "aten::triu",
        "aten::tril_",
        "model.py(7): _make_causal_mask",
        "m.py(1): create_causal_mask",
        "m.py(1): _prepare_4d_causal_attention_mask_for_sdpa",
        "swin/modeling_swin.py(640): get_attn_mask",
        "bert/modeling_bert.py(9): get_extended_attention_mask",
        "torch/nn/modules/transformer.py(3): generate_square_subsequent_mask",
    ],
)
def test_attention_mask(tmp_path: Path, name: str) -> None:
    finding = found(masks(5, name), tmp_path, "attention_mask")
    assert finding is not None
    assert finding.ceiling.mean_ns == 4 * 4 * MS  # all but the first
    assert finding.evidence.startswith("5 masks are built, 4 of them like an earlier one")
    assert (finding.where, finding.place.layer) == ("prefill", "layers.*")
    assert found(masks(3, name), tmp_path, "attention_mask") is None
    # Outside of stages it is the layers that tell; without them a loop of steps looks the same.
    assert found(masks(5, name, in_stage=False), tmp_path, "attention_mask") is not None
    assert found(masks(5, name, in_stage=False, in_layers=False), tmp_path, "attention_mask") is None


def test_a_mask_a_step_is_none_too_many(tmp_path: Path) -> None:
    built = request()
    for step in range(8):
        built.range("decode", step * 10 * MS, 9 * MS).op("aten::triu", step * 10 * MS, 4 * MS, dims=[[1, 8], []])
    assert found(built, tmp_path, "attention_mask") is None


def steps(*lengths_ms: float) -> TraceBuilder:
    built, now = request(1), 0
    for length in lengths_ms:
        built.range("decode", now, int(length * MS)).op("aten::mm", now, int(length * MS))
        now += int(length * MS)
    built.events[0]["dur"] = now / 1e3
    return built


def test_decode_slope(tmp_path: Path) -> None:
    # 21 steps of 10, 11, … 30 ms; of the last no interval is known. Flat, the other 20 would take 10 each, not 390.
    finding = found(steps(*range(10, 31)), tmp_path, "decode_slope")
    assert finding is not None
    assert finding.ceiling.mean_ns == pytest.approx((sum(range(10, 30)) - 20 * 10) * MS, abs=100)
    assert "each token takes 1,000.0 µs longer than the one before (95%: 1,000.0 to 1,000.0)" in finding.evidence
    assert "from 10.000 ms to 29.000 ms over 20 steps" in finding.evidence
    for attention, option in (("eager", "attn=eager,sdpa"), ("sdpa", "cache=dynamic,static")):
        metadata = captured(METADATA.workload, (), attn=attention)
        finding = found(steps(*range(10, 31)).metadata(metadata), tmp_path, "decode_slope")
        assert finding is not None
        assert finding.check.startswith(f"gemma-trace compare --set {option} ")
    assert found(steps(*[20] * 21), tmp_path, "decode_slope") is None
    assert found(steps(*range(30, 9, -1)), tmp_path, "decode_slope") is None
    assert found(steps(*range(10, 20)), tmp_path, "decode_slope") is None  # too few for an interval
    assert found(steps(*[20, 22, 18] * 7), tmp_path, "decode_slope") is None  # noise


def resize(*types: str) -> TraceBuilder:
    built = request().range("image_processing", 0, 60 * MS)
    args: dict[str, Any] = {"Input type": list(types)} if types else {}
    return built.span("cpu_op", "aten::_upsample_bilinear2d_aa", 5 * MS, 40 * MS, **args)


def test_resize_antialias(tmp_path: Path) -> None:
    finding = found(resize("float", "ScalarList", "Scalar"), tmp_path, "resize_antialias")
    assert finding is not None
    assert (finding.ceiling.mean_ns, finding.place.op) == (40 * MS, "aten::_upsample_bilinear2d_aa")
    assert found(resize("unsigned char", "ScalarList", "Scalar"), tmp_path, "resize_antialias") is None
    (lacking,) = missing(advise(resize().load(tmp_path)), "resize_antialias")
    assert lacking.endswith("the types of inputs were not recorded")


def captured(workload: Workload, labels: Sequence[str], **config: str) -> RunMetadata:
    options = {**METADATA.config, **config}
    return replace(METADATA, workload=workload, profiled_images=tuple(labels), config=options)


def encoding(count: int, metadata: RunMetadata | None) -> TraceBuilder:
    """Requests of 100 ms, each of which encodes for 30."""
    built = TraceBuilder()
    for place in range(count):
        built.range("request", place * 200 * MS, 100 * MS).range("vision_tower", (place * 200 + 10) * MS, 30 * MS)
    return built.metadata(metadata) if metadata else built


def test_repeated_images(tmp_path: Path) -> None:
    # b has a's image and one of its own, c has a's twice, d a new one.
    workload = Workload(("a", "b", "c", "d"), (9,) * 4, 1, image_numbers=((0,), (0, 1), (0, 0), (2,)))
    metadata = captured(workload, ("a", "b", "c", "d"), requests="chats.jsonl")
    finding = found(encoding(4, metadata), tmp_path, "repeated_images")
    assert finding is not None
    assert finding.ceiling.values_ns == (0, 15 * MS, 30 * MS, 0)
    assert finding.evidence.startswith("2 of 4 requests have images")
    alone = captured(workload, ("c",), requests="chats.jsonl")
    finding = found(encoding(1, alone), tmp_path, "repeated_images")
    assert finding is not None
    assert finding.ceiling.values_ns == (15 * MS,)
    # What a capture makes or is given comes round again by design.
    own = captured(replace(workload, images=("a",), image_numbers=((0,),)), ("a",) * 4)
    assert found(encoding(4, own), tmp_path, "repeated_images") is None
    for unknown in (None, captured(Workload(("a",), (9,), 1), ("a",) * 4, requests="chats.jsonl")):
        (lacking,) = missing(advise(encoding(4, unknown).load(tmp_path)), "repeated_images")
        assert lacking.startswith("which images the requests had was not recorded")
    # A forged trace may list fewer of one than of the other.
    forged = captured(replace(workload, image_numbers=((0,),)), ("a", "x", "b"), requests="chats.jsonl")
    assert found(encoding(4, forged), tmp_path, "repeated_images") is None


def prefill(metadata: RunMetadata | None, rows: object = 1) -> TraceBuilder:
    built = request().range("prefill", 0, 80 * MS).op("aten::embedding", 0, 20 * MS, dims=[[99, 8], [rows, 16], []])
    return built.metadata(metadata) if metadata else built


def test_padding(tmp_path: Path) -> None:
    metadata = captured(Workload(("a",), (16,), 1, padding_tokens=(4,)), ("a",))
    finding = found(prefill(metadata), tmp_path, "padding")
    assert finding is not None
    assert finding.ceiling.mean_ns == 5 * MS  # a quarter of 20
    assert finding.evidence.startswith("25% of the tokens of a prompt are padding")
    for padding in ((0,), ()):
        metadata = captured(Workload(("a",), (16,), 1, padding_tokens=padding), ("a",))
        assert found(prefill(metadata), tmp_path, "padding") is None
    (lacking,) = missing(advise(prefill(None, rows=4).load(tmp_path)), "padding")
    assert lacking.startswith("the length of each prompt: 4 are computed at once")
    for rows in (1, "4", -4, [4]):
        assert missing(advise(prefill(None, rows).load(tmp_path)), "padding") == []


def test_profiler_overhead(tmp_path: Path) -> None:
    def under(wall_ms: int) -> Advice:
        sample = RequestSample(wall_ms * MS, wall_ms * MS, (wall_ms * MS,), "a", {}, {})
        built = request().range("image_load", 0, 50 * MS)
        metadata = replace(METADATA, timed_requests=(sample,), profiled_images=("a",))
        return advise(built.metadata(metadata).load(tmp_path))

    (lacking,) = missing(under(50), "profiler_overhead")
    assert "requests take 2.00 times as long with it, 100.000 instead of 50.000 ms" in lacking
    assert missing(under(81), "profiler_overhead") == []
    built = request().range("image_load", 0, 50 * MS)
    built.span("overhead", "Activity Buffer Request", 60 * MS, 10 * MS, pid=-1, tid=0)
    (lacking,) = missing(advise(built.load(tmp_path)), "profiler_overhead")
    assert lacking.startswith("10.000 ms of a request, 10%, in which the profiler delayed it")


def product(dur_ms: int) -> TraceBuilder:
    """One row times a matrix of 1,000 × 1,000 float32 while decoding: 4 MB, which take 40 ms at 0.1 GB/s."""
    args: dict[str, Any] = {"Input Dims": [[1, 1000], [1000, 1000]], "Input type": ["float", "float"]}
    built = request().range("decode", 0, dur_ms * MS).span("cpu_op", "aten::mm", 0, dur_ms * MS, **args)
    return built.metadata(METADATA)


def test_memory_bound(tmp_path: Path) -> None:
    peaks = [Peaks(("A CPU",), 0.1, 0.0, (("float32", 1.0),), "made up")]
    finding = of(advise(product(60).load(tmp_path), peaks=peaks), "memory_bound")
    assert finding is not None
    assert finding.ceiling.mean_ns == 45 * MS  # three quarters of 60
    assert finding.evidence.startswith("its bytes, 0.004 GB, take 40.")
    far = advise(product(90).load(tmp_path), peaks=peaks)
    assert of(far, "memory_bound") is None  # 45% of it: something else binds it
    near = advise(product(30).load(tmp_path), peaks=peaks)
    assert of(near, "memory_bound") is None  # 134%: they came from a cache
    (lacking,) = missing(advise(product(60).load(tmp_path)), "memory_bound")
    assert lacking.endswith("no peak rates of this CPU are known")


@pytest.mark.parametrize(("device", "is_known"), [("NVIDIA A100-SXM4-80GB", True), ("A device nobody knows", False)])
def test_memory_bound_on_a_device_whose_rates_are_known(tmp_path: Path, device: str, is_known: bool) -> None:
    # One row times 8,192 × 8,192 bfloat16: 134 MB of weights, 65.8 µs at 2,039 GB/s; the kernel takes 100 µs.
    args: dict[str, Any] = {"Input Dims": [[1, 8192], [8192, 8192]], "Input type": ["c10::BFloat16", "c10::BFloat16"]}
    built = TraceBuilder().range("request", 0, 200_000).range("decode", 0, 190_000)
    built.span("cpu_op", "aten::mm", 1_000, 9_000, **args).launch(1, 2_000, 5_000)
    built.kernel("ampere_bf16_gemm", 20_000, 100_000, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 15_000, 107_000)
    built.header["deviceProperties"] = [{"id": 0, "name": device, "numSms": 108}]
    advice = advise(built.load(tmp_path))
    finding = of(advice, "memory_bound")
    assert (finding is not None) is is_known
    unknown = "whether memory binds decode can't be told: no peak rates of this device are known"
    assert missing(advice, "memory_bound") == ([] if is_known else [unknown])
    if finding:
        assert "0.134 GB, take 0.066 ms at the memory's peak rate" in finding.evidence
        assert finding.ceiling.mean_ns == 75_000
        assert finding.place.op == "aten::mm"
