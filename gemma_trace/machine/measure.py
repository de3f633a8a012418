"""Peak rates of the device at hand, measured: what `gemma-trace doctor --measure` prints and `--peaks` reads.

Where a maker's figure is missing, as of CPUs. A large matrix product by dtype and a copy of more than any cache holds,
the best of several each: what this machine did at its best, not what its silicon could do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import torch

from gemma_trace._version import __version__
from gemma_trace.capture.environment import describe_environment
from gemma_trace.capture.model_memory import free_bytes
from gemma_trace.capture.phases import NoProgress, Progress
from gemma_trace.peaks import Peaks

DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_REPEATS: Final = 7
_LEAST_S: Final = 0.02
"""What is timed takes so long at least, so that the clock's own time doesn't count."""

_TRIAL_SIZE: Final = 512
_SIZES: Final = {"cpu": 2048, "cuda": 8192}
_MOST_S: Final = 2.0
"""A dtype in which the large product would take longer is measured on the small one: some CPUs emulate halves."""

_COPIED_BYTES: Final = {"cpu": 512 << 20, "cuda": 4 << 30}
_CACHE_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def measure_peaks(device: torch.device, progress: Progress | None = None) -> Peaks:
    """Measure matrix products by dtype, and the memory.

    Takes some ten seconds and a few hundred MB on a CPU. A CUDA device is measured in float32 without TF32, and with
    it as `tf32`.
    """
    progress = progress or NoProgress()
    environment = describe_environment(device)
    wanted = [*DTYPES, *(["tf32"] if device.type == "cuda" and torch.version.hip is None else [])]
    progress.phase("measuring peak rates", len(wanted) + 1)
    rates = []
    for dtype in wanted:
        rates.append((dtype, _matmul_tflops(device, dtype)))
        progress.step()
    bandwidth = _copy_gb_per_s(device)
    progress.step()
    what = f"torch {environment.torch}, {environment.torch_threads} threads" if device.type == "cpu" else "torch"
    return Peaks(
        names=(environment.device_name,),
        memory_gb_per_s=bandwidth,
        cache_mb=_cache_bytes(device) / 1e6,
        tflops=tuple(rates),
        source=f"measured by gemma-trace {__version__} doctor --measure, {what}",
    )


def _matmul_tflops(device: torch.device, dtype: str) -> float:
    """2·n³ FLOPs of an n×n product over the best time."""
    torch_dtype = DTYPES.get(dtype, torch.float32)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    try:
        rate = 0.0
        for size in (_TRIAL_SIZE, _SIZES[device.type]):
            if rate and 2 * size**3 / rate > _MOST_S:
                break
            a, b = (torch.randn(size, size, device=device).to(torch_dtype) for _ in range(2))
            out = torch.empty(size, size, device=device, dtype=torch_dtype)
            rate = max(rate, 2 * size**3 / _best_s(device, partial(torch.mm, a, b, out=out)))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return rate / 1e12


def _copy_gb_per_s(device: torch.device) -> float:
    """Bytes read and written of a large copy, over the best time."""
    size = min(_COPIED_BYTES[device.type], int(free_bytes(device) // 4))
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    moved = 2 * int(source.numel()) * 4
    return moved / _best_s(device, partial(target.copy_, source)) / 1e9


def _best_s(device: torch.device, call: Callable[[], object]) -> float:
    """The shortest of several times of a call; one too short for the clock is called several times on end."""
    calls = 1
    while (once := _time_s(device, call, calls)) < _LEAST_S and calls < 1024:
        calls *= 2
    return min([once, *(_time_s(device, call, calls) for _ in range(_REPEATS))]) / calls


def _time_s(device: torch.device, call: Callable[[], object], calls: int) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cache_bytes(device: torch.device) -> int:
    """The last-level cache: CUDA's L2, or the largest that Linux lists for the first core; 0 where none is listed."""
    if device.type == "cuda":
        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        matched = re.fullmatch(r"(\d+)([KMG])", path.read_text().strip())
        if matched:
            sizes.append(int(matched[1]) * _CACHE_UNITS[matched[2]])
    return max(sizes)
