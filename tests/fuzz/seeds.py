"""The sound traces, rules and peak rates that the fuzz starts from: as small as they can be with one of everything."""

from __future__ import annotations

import gzip
from functools import cache
from typing import Any

import msgspec

from gemma_trace.metadata import Environment, RequestSample, RunIdentity, RunMetadata, StageSample, Workload
from tests.conftest import SAMPLES
from tests.trace_builder import TraceBuilder

DEVICES = [{"id": 0, "name": "NVIDIA H100 80GB HBM3"}, {"id": 1, "name": "NVIDIA H100 80GB HBM3"}]
SHAPES = [[2, 8], [8, 4], []]

_EVENTS_OF_A_SAMPLE = 40


def _sample(stage_ns: int) -> RequestSample:
    stages = {name: StageSample(stage_ns, stage_ns, 1) for name in ("image_load", "preprocessing", "prefill", "decode")}
    return RequestSample(900, 600, (600, 900), "1024x768", stages, stages)


def metadata(device: str = "cuda") -> RunMetadata:
    """What our own capture says of itself."""
    return RunMetadata(
        schema_version=1,
        created_utc="2026-01-01T00:00:00Z",
        run=RunIdentity("run", "4b", "random", "bfloat16", device, "pil"),
        workload=Workload(("1024x768",), (280,), 2),
        environment=Environment("1", "3.11", "2.9", None, "5", "linux", "CPU", 8, 2**34, 4, "NVIDIA H100", 2**36),
        config={"runs": 2, "output": None, "images": ["a", "b"]},
        timed_requests=(_sample(100), _sample(110)),
        profiled_images=("1024x768",),
        warnings=("a warning",),
    )


def _product(built: TraceBuilder, at_ns: int, dtype: str) -> None:
    args: dict[str, Any] = {"Input Dims": SHAPES, "Input type": [dtype, dtype, "Scalar"], "External id": at_ns}
    args |= {"Input Strides": [[8, 1], [4, 1], []], "Concrete Inputs": ["", "", "[1, 1]"]}
    built.span("cpu_op", "aten::mm", at_ns, 60, **args)


def ours_on_a_device() -> TraceBuilder:
    """A request of ours with stages, layers, ops, launches, activities on two devices, arrows, memory and counters."""
    built = TraceBuilder().metadata(metadata())
    built.header |= {"deviceProperties": DEVICES, "traceName": "/home/someone/run.json", "baseTimeNanoseconds": 10**18}
    built.range("request", 0, 1000).range("preprocessing", 10, 150).range("prefill", 200, 300).range("decode", 600, 300)
    built.range("layer::model.language_model.layers.0", 210, 200).frame("nn.Module: Gemma3Model_0", 205, 280)
    for number, at_ns in enumerate((220, 300, 620), 1):
        _product(built, at_ns, "c10::BFloat16")
        built.launch(number, at_ns + 10, 20)
        built.kernel("sm90_gemm<float, 4>(int)", at_ns + 50, 70, correlation=number, device=number % 2)
        built.raw(ph="s", cat="ac2g", name="ac2g", pid=1, tid=100, ts=(at_ns + 10) / 1000, id=number)
        built.raw(ph="f", cat="ac2g", name="ac2g", pid=number % 2, tid=7, ts=(at_ns + 50) / 1000, id=number, bp="e")
    built.span("cuda_runtime", "cudaDeviceSynchronize", 700, 120, correlation=9)
    built.span("cuda_sync", "Context Sync", 705, 110, pid=0, tid=7, stream=7, device=0, correlation=9)
    built.kernel("Memcpy HtoD", 850, 20, correlation=4, cat="gpu_memcpy")
    built.span("overhead", "CUPTI", 400, 30, tid=-1)
    built.span("gpu_user_annotation", "gemma_trace::prefill", 260, 90, pid=0, tid=7)
    memory = {"Device Type": 1, "Device Id": 0, "Addr": 512, "Bytes": 64, "Total Allocated": 64, "Total Reserved": 128}
    for at_us, size, total in ((0.21, 64, 64), (0.4, -64, 0)):
        given = memory | {"Bytes": size, "Total Allocated": total}
        built.raw(ph="i", s="t", name="[memory]", pid=1, tid=100, ts=at_us, args=given)
    built.counter("GPU utilization", 100, 40).counter("GPU utilization", 500, {"sm": 1.5, "mem": "7"})
    return built.names("process_name", "python", pid=1).names("thread_name", "stream 7", pid=0, tid=7)


def ours_on_the_host() -> TraceBuilder:
    """Requests of ours without a device, with asynchronous events and counters nobody draws."""
    built = TraceBuilder().metadata(metadata("cpu"))
    for number in range(2):
        at_ns = 1000 * number
        built.range("request", at_ns, 900).range("vision_tower", at_ns + 100, 300).range("sampling", at_ns + 500, 200)
        _product(built, at_ns + 120, "float")
        built.op("aten::add", at_ns + 510, 90, dims=[[2, 4], [2, 4]])
    built.raw(ph="b", cat="a", name="async", id=1, pid=1, tid=1, ts=0.1).raw(ph="e", cat="a", name="async", id=1, pid=1)
    return built.span("python_function", "threading.py(320): wait", 0, 1900, tid=200)


def of_a_server() -> TraceBuilder:
    """A server's steps, with begins and ends, on two processes."""
    built = TraceBuilder()
    for number in range(3):
        at_ns = 1000 * number
        kind = "context_4(sq8)_generation_0(sq0)" if number == 0 else "context_0(sq0)_generation_2(sq2)"
        built.range(f"execute_{kind}", at_ns, 700).frame("nn.Module: SiglipVisionTransformer_0", at_ns + 50, 100)
        built.range(f"ProfilerStep#{number}", at_ns, 990)
        built.raw(ph="B", cat="cpu_op", name="aten::linear", pid=1, tid=100, ts=at_ns / 1000 + 0.2)
        built.launch(number + 1, at_ns + 220, name="hipLaunchKernel")
        built.raw(ph="E", pid=1, tid=100, ts=at_ns / 1000 + 0.3)
        built.kernel("triton_poi_fused_add_0", at_ns + 260, 200, correlation=number + 1)
        built.kernel("ncclDevKernel_AllReduce_Sum", at_ns + 300, 100, correlation=0, stream=9)
    return built


def of_a_rank() -> TraceBuilder:
    """A rank of a job of two: collectives by number, by order and by peer, and an all-to-all of unequal parts."""
    built = TraceBuilder().range("request", 0, 900).range("prefill", 50, 800)
    group = {"pg_name": "0", "pg_desc": "default_pg", "pg_size": 2, "ranks": [0, 1]}
    rank = {"backend": "nccl", "rank": 0, "world_size": 2, "pg_config": [group]}
    built.header |= {"deviceProperties": DEVICES, "baseTimeNanoseconds": 10**18, "distributedInfo": rank}
    said: dict[str, Any] = {"dtype": "BFloat16", "In msg nelems": 64, "Out msg nelems": 128, "Group size": 2}
    said |= {"Process Group Name": "0", "Process Group Ranks": "[0, 1]", "Process Group Description": "default_pg"}
    for number, name in enumerate(("allreduce", "_allgather_base", "all_to_allv", "send", "barrier"), 1):
        at_ns = 100 * number
        args = said | {"Collective name": name, "Seq": number, "In split size": "[16, 48]", "Dst Rank": 1}
        shapes: dict[str, Any] = {"Input Dims": [[64]], "Input type": ["float"]}
        built.span("cpu_op", "record_param_comms", at_ns, 60, **args)
        built.span("user_annotation", f"nccl:{name}", at_ns + 5, 50, **shapes)
        built.launch(number, at_ns + 10, 20)
        kernel: dict[str, Any] = {"correlation": number, "stream": 9, "device": 0, **(args if number % 2 else {})}
        built.span("kernel", "ncclDevKernel_SendRecv(ncclDevKernelArgs)", at_ns + 50, 70, pid=0, tid=9, **kernel)
        built.kernel("sm90_gemm<float, 4>(int)", at_ns + 80, 30, correlation=number + 10)
    return built


def without_spans() -> TraceBuilder:
    """Nothing but counters and names."""
    return TraceBuilder().counter("c", 5, 1).names("process_name", "python", pid=1)


def annotations_only() -> TraceBuilder:
    """What the profiler says of itself, and annotations mirrored onto the device: nothing that ran."""
    built = TraceBuilder().span("overhead", "CUPTI", 0, 10)
    return built.span("gpu_user_annotation", "gemma_trace::prefill", 5, 90, pid=0, tid=7)


@cache
def _of_the_sample() -> bytes:
    """A tenth of a captured trace: every so many events."""
    file = sorted(SAMPLES.glob("*/*.json.gz"))[0]
    whole: dict[str, Any] = msgspec.json.decode(gzip.decompress(file.read_bytes()), type=dict[str, msgspec.Raw])
    events = msgspec.json.decode(whole["traceEvents"], type=list[msgspec.Raw])
    return msgspec.json.encode(whole | {"traceEvents": events[:: len(events) // _EVENTS_OF_A_SAMPLE]})


@cache
def seeds() -> tuple[bytes, ...]:
    """The traces, as JSON."""
    built = (ours_on_a_device(), ours_on_the_host(), of_a_server(), of_a_rank(), without_spans(), annotations_only())
    return (*(trace.json() for trace in built), _of_the_sample())


RULES = '[stages]\nvision_tower = "nn.Module: Siglip"\nprefill = ["execute_", "layer"]\n'

PEAKS = """[[device]]
name = ["CPU", "*"]
memory_gb_per_s = 460.8
cache_mb = 384
source = "data sheet"
[device.tflops]
float32 = 7.4
bfloat16 = 14.7
"""
