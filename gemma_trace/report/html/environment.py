"""What a page says of where a trace comes from. It is made to be mailed, so no user's, host's or folder's name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from gemma_trace.analysis.gpu_settings import GPU_SETTINGS
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.metadata import Environment, GpuRecord, RunMetadata, Workload
from gemma_trace.printable import path_text
from gemma_trace.report.html.model import Fact, Facts
from gemma_trace.report.html.text import bytes_text, counted, public_label, utc_text
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

_OPTIONS: Final = (
    "attn",
    "batch",
    "images_per_request",
    "image_device",
    "prefill_chunk",
    "compile",
    "warmup",
    "runs",
    "profile_runs",
    "detail",
    "stacks",
    "shapes",
    "memory",
    "sync_stages",
    "seed",
)
"""The options of a capture that are shown: numbers, switches and names of ours, no text of the user's."""

_SETTINGS: Final = frozenset(_OPTIONS) | {
    *("model", "weights", "dtype", "device", "image_backend", "new_tokens", "prompt_tokens", "torch", "torchvision"),
    *("transformers", "python", "device_name", "driver", "cuda", "host_cpu"),
    *GPU_SETTINGS,
}

_PLAIN: Final = re.compile(r"[\w.+-]{1,40}")
_SIZE: Final = re.compile(r"\d+x\d+")


def facts_of(trace: Trace, run: RunSummary) -> tuple[Facts, ...]:
    """What was run and on what, as far as the trace tells; then the trace itself."""
    facts = []
    if metadata := trace.metadata:
        facts.append(Facts("Run", tuple(_run(metadata, run))))
        facts.append(Facts("Machine", (*_machine(metadata.environment), *_devices(metadata))))
        facts.append(Facts("Software", tuple(_software(metadata.environment))))
        facts.append(Facts("Options", tuple(_options(metadata))))
    return (*facts, Facts("Trace", tuple(_trace(trace))))


def _run(metadata: RunMetadata, run: RunSummary) -> Iterable[Fact]:
    yield Fact("model", run.model)
    yield Fact("weights", run.weights)
    yield Fact("dtype", run.dtype)
    yield Fact("device", run.device)
    yield Fact("image processor", run.image_backend)
    yield from _workload(metadata.workload)
    yield Fact("captured", utc_text(metadata.created_utc))


def _workload(workload: Workload) -> Iterable[Fact]:
    sizes = [label for label in workload.images if _SIZE.fullmatch(label)]
    whole = len(sizes) == len(workload.images)
    yield Fact("images", ", ".join(sizes) if whole else counted(len(workload.images), "file"))
    tokens = dict.fromkeys(workload.prompt_tokens)
    yield Fact("prompt tokens", ", ".join(f"{count:,}" for count in tokens))
    yield Fact("new tokens", f"{workload.new_tokens:,}")


def _machine(environment: Environment) -> Iterable[Fact]:
    if environment.device_name != environment.host_cpu:
        yield Fact("device", environment.device_name)
    if environment.device_memory_bytes:
        yield Fact("device memory", bytes_text(environment.device_memory_bytes))
    yield Fact("host CPU", environment.host_cpu)
    yield Fact("host cores", str(environment.host_cores))
    yield Fact("host memory", bytes_text(environment.host_memory_bytes))
    yield Fact("torch threads", str(environment.torch_threads))
    yield Fact("platform", environment.platform)


def _devices(metadata: RunMetadata) -> Iterable[Fact]:
    """The GPUs during the timed pass, and why there is no energy."""
    for gpu in metadata.gpus:
        yield Fact(f"{gpu.device} during the timed pass", ", ".join(_gpu(gpu)) or "tells nothing")
    if metadata.no_energy:
        yield Fact("energy", f"none: {metadata.no_energy}")


def _gpu(gpu: GpuRecord) -> Iterable[str]:
    before, after = gpu.before, gpu.after
    if gpu.sm_mhz_most is not None:
        moved = f"{gpu.sm_mhz_least} to " if gpu.sm_mhz_least != gpu.sm_mhz_most else ""
        yield f"{moved}{gpu.sm_mhz_most} MHz" + (f" of {after.max_sm_mhz}" if after.max_sm_mhz else "")
    if after.celsius is not None:
        yield f"{after.celsius} °C"
    if after.power_limit_mw:
        usual = after.default_power_limit_mw
        default = f" (by default {usual / 1e3:.0f} W)" if usual and usual != after.power_limit_mw else ""
        yield f"power limit {after.power_limit_mw / 1e3:.0f} W{default}"
    if gpu.throttled is not None:
        yield f"throttled by {' and '.join(gpu.throttled)}" if gpu.throttled else "not throttled"
    if after.ecc is not None:
        yield f"ECC {'on' if after.ecc else 'off'}"
    for kind in ("corrected", "uncorrected"):
        if errors := getattr(after, f"{kind}_errors"):
            yield f"{errors:,} {kind} memory errors"
    if before.mig:
        yield "split by MIG"
    if after.compute_mode not in (None, "default"):
        yield f"compute mode {after.compute_mode}"
    if others := max(before.other_processes or 0, after.other_processes or 0):
        yield f"{others} other processes"


def _software(environment: Environment) -> Iterable[Fact]:
    for name in ("gemma_trace", "python", "torch", "torchvision", "transformers", "cuda", "driver"):
        value = getattr(environment, name)
        if value:
            yield Fact(name.replace("_", "-"), value)


def _options(metadata: RunMetadata) -> Iterable[Fact]:
    for name in _OPTIONS:
        value = metadata.config.get(name)
        if value is None or value is False:
            continue
        text = "yes" if value is True else str(value)
        if _PLAIN.fullmatch(text):
            yield Fact(name.replace("_", " "), text)


def _trace(trace: Trace) -> Iterable[Fact]:
    spans = trace.spans
    yield Fact("file", public_label(path_text(trace.path.name)))
    yield Fact("JSON", bytes_text(trace.read_report.inflated_bytes))
    yield Fact("spans", f"{len(spans):,}")
    yield Fact("host threads", f"{len(distinct(spans.track[trace.host])):,}")
    yield Fact("device activities", f"{len(trace.activities):,}")
    if len(trace.activities):
        activities = trace.activities
        yield Fact("devices", f"{len(distinct(spans.device[activities])):,}")
        streams = np.unique(np.stack((spans.device[activities], spans.stream[activities])), axis=1)
        yield Fact("streams", f"{streams.shape[1]:,}")


def public_settings(settings: Iterable[str]) -> tuple[str, ...]:
    """What two captures don't agree on; of what may hold the user's own text only that it differs.

    >>> public_settings(["dtype: float32 → bfloat16", "prompt: Who is Ada? → Who is Bob?"])
    ('dtype: float32 → bfloat16', 'prompt: differs')
    """
    named = [(setting.partition(":")[0], setting) for setting in settings]
    return tuple(setting if name in _SETTINGS else f"{name}: differs" for name, setting in named)
