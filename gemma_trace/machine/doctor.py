"""What this machine can capture, what is missing, and the command that mends it.

Works without torch. It asks no network, unless it is told to look at the Hub.
"""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, util
from typing import Final

from gemma_trace._version import __version__
from gemma_trace.errors import ConfigError
from gemma_trace.machine.checks import Check, CheckStatus

EXTRAS: Final = {
    "capture": ("torch", "torchvision", "transformers", "pillow", "huggingface_hub", "accelerate", "nvidia-ml-py"),
    "amd": ("amdsmi",),
    "serve": ("pillow",),
    "hta": ("HolisticTraceAnalysis",),
    "view": ("viztracer",),
    "scale": ("duckdb", "dask", "distributed", "fsspec", "aiohttp", "s3fs", "huggingface_hub"),
    "gcs": ("gcsfs",),
    "mcp": ("mcp",),
    "notebooks": ("nbclient", "nbformat", "ipykernel", "matplotlib"),
    "quantize": ("bitsandbytes",),
    "adapter": ("peft",),
}
"""The packages that each extra brings."""


def examine_machine(*, ask_hub: bool = False) -> list[Check]:
    """Look at everything a capture depends on.

    Args:
        ask_hub: ask the Hub whether it lets this machine have Gemma 3's weights; that goes over the network.
    """
    checks = [_python(), *_extras()]
    if util.find_spec("torch") is not None and util.find_spec("transformers") is not None:
        checks += _devices()
    if util.find_spec("huggingface_hub") is not None:
        checks += [_token(), *([_hub()] if ask_hub else [])]
    return checks


def _python() -> Check:
    text = f"Python {platform.python_version()}, gemma-trace {__version__}, {platform.system()} {platform.machine()}"
    return Check("python", CheckStatus.OK, text)


def _extras() -> Iterator[Check]:
    for extra, packages in EXTRAS.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        if missing:
            status = CheckStatus.MISSING if extra == "capture" else CheckStatus.ABSENT
            mend = f'pip install "gemma-trace[{extra}]"'
            yield Check(f"extra {extra}", status, f"not installed: {', '.join(missing)}", mend)
        else:
            text = ", ".join(f"{package} {version}" for package, version in versions.items())
            yield Check(f"extra {extra}", CheckStatus.OK, text)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> Check:
    import torch

    from gemma_trace.capture.model_memory import free_bytes

    free = free_bytes(torch.device("cpu")) / 1e9
    return Check("cpu", CheckStatus.OK, f"{torch.get_num_threads()} threads, {free:.1f} GB of memory free")


def _ranks() -> Iterator[Check]:
    """An environment that holds a part of what torchrun sets, with which no capture begins."""
    from gemma_trace.capture.distributed import this_rank

    try:
        this_rank()
    except ConfigError as error:
        yield Check("ranks", CheckStatus.MISSING, str(error), "unset RANK LOCAL_RANK WORLD_SIZE")


def _devices() -> Iterator[Check]:
    """The CPU and the accelerators, with what the profiler sees of them, and what fits into them."""
    import torch

    from gemma_trace.machine.cuda_checks import cuda_checks, driver_hangs, hanging_driver

    yield from (_cpu(), *_ranks())
    if torch.version.cuda and driver_hangs():
        yield from (hanging_driver(), _compiler())
        return
    yield from (*cuda_checks(), _profiler(), _compiler(), _sizes())


def _profiler() -> Check:
    """Whether the profiler sees the device: by what it says, and where there is a device by trying it."""
    import torch
    from torch.profiler import ProfilerActivity, profile, supported_activities

    from gemma_trace.capture.one_line_errors import error_text
    from gemma_trace.machine.cuda_checks import why_unseen

    if ProfilerActivity.CUDA not in supported_activities():
        return Check("profiler", CheckStatus.OK, "records the CPU; this torch has no CUPTI or roctracer")
    if not torch.cuda.is_available():
        return Check("profiler", CheckStatus.OK, "records the CPU, and CUDA if there is a device")
    try:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
            torch.ones(1024, device="cuda").sum().item()
            torch.cuda.synchronize()
    except RuntimeError as error:
        mend = "choose a device that can be used with CUDA_VISIBLE_DEVICES"
        return Check("profiler", CheckStatus.MISSING, f"a trial failed: {error_text(error)}", mend)
    seen = sum(event.device_type == torch.autograd.DeviceType.CUDA for event in recorded.events())
    if seen:
        return Check("profiler", CheckStatus.OK, f"records the CPU and CUDA; saw {seen} device activities in a trial")
    text, mend = why_unseen()
    return Check("profiler", CheckStatus.MISSING, text, mend)


def _compiler() -> Check:
    compiler = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    if compiler:
        return Check("compiler", CheckStatus.OK, f"{compiler}, for --compile stages on the CPU")
    missing = "no C++ compiler; --compile stages requires one on the CPU"
    return Check("compiler", CheckStatus.ABSENT, missing, "install g++")


def _sizes() -> Check:
    """Which sizes of Gemma 3 fit into the best device."""
    import torch

    from gemma_trace.capture.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    from gemma_trace.capture.gemma3 import SHAPES, gemma3_config
    from gemma_trace.capture.model_memory import free_bytes, needed_bytes, parameter_count

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        free = free_bytes(device)
    except RuntimeError:  # no process of ours may use it
        device = torch.device("cpu")
        free = free_bytes(device)
    counts = {size: parameter_count(gemma3_config(size)) for size in SHAPES}
    fits = [
        f"{size} in {dtype}"
        for size, parameters in counts.items()
        for dtype in ("bfloat16", "float32")
        if needed_bytes(parameters, dtype, device.type) <= free
    ]
    text = f"on {device}: tiny, {', '.join(fits)}" if fits else f"on {device}: tiny only"
    return Check("models that fit", CheckStatus.OK, text)


def _token() -> Check:
    import huggingface_hub

    from gemma_trace.capture.hub import CHECKPOINTS

    cached = [
        repo
        for repo in CHECKPOINTS.values()
        if isinstance(huggingface_hub.try_to_load_from_cache(repo, "config.json"), str)
    ]
    here = f"in the cache: {', '.join(cached)}" if cached else "none of Gemma 3's weights in the cache"
    if huggingface_hub.get_token() is None:
        return Check(
            "hub", CheckStatus.ABSENT, f"no token; {here}", "hf auth login; --weights random requires no token"
        )
    return Check("hub", CheckStatus.OK, f"there is a token; {here}")


def _hub() -> Check:
    """Ask the Hub for access to the smallest checkpoint."""
    import huggingface_hub

    from gemma_trace.capture.hub import CHECKPOINTS, explained

    repo = CHECKPOINTS["4b"]
    try:
        huggingface_hub.HfApi().auth_check(repo)
    except Exception as error:
        return Check("hub access", CheckStatus.ABSENT, explained(repo, error))
    return Check("hub access", CheckStatus.OK, f"yes, to {repo}")


def is_capable(checks: list[Check]) -> bool:
    """Whether a capture can run here at all."""
    return all(check.status is not CheckStatus.MISSING for check in checks) and sys.version_info >= (3, 11)
