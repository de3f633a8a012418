"""Versions, device and driver: what a number depends on. No user's, host's or path's name."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Final

import torch

from gemma_trace._version import __version__
from gemma_trace.capture.accelerators import name_of
from gemma_trace.metadata import Environment

_NVIDIA_VERSION: Final = Path("/proc/driver/nvidia/version")
_CPUINFO: Final = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
"""What Linux calls the instructions, of x86 and of Arm."""

_LONGEST_S: Final = 20.0
"""How long a program that is asked may take."""


def describe_environment(device: torch.device) -> Environment:
    """Everything about this machine that a timing depends on."""
    on_cuda = device.type == "cuda"
    properties = torch.cuda.get_device_properties(device) if on_cuda else None
    host_cpu = _host_cpu()
    return Environment(
        gemma_trace=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        torchvision=_version("torchvision"),
        transformers=_version("transformers") or "unknown",
        platform=f"{platform.system()} {platform.machine()}",
        host_cpu=host_cpu,
        host_cores=os.cpu_count() or 1,
        host_memory_bytes=_host_memory_bytes(),
        torch_threads=torch.get_num_threads(),
        device_name=properties.name if properties else name_of(device) or host_cpu,
        device_memory_bytes=properties.total_memory if properties else None,
        driver=_nvidia_driver() if on_cuda else None,
        cuda=torch.version.cuda or torch.version.hip if on_cuda else None,
        cpu_bfloat16=_has_bfloat16(_CPUINFO),
        usable_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _host_cpu() -> str:
    if _CPUINFO.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", _CPUINFO.read_text(errors="replace"), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def _has_bfloat16(cpuinfo: Path) -> bool | None:
    """Whether the CPU multiplies bfloat16 by itself; None where there is no list of what it can."""
    try:
        listed = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo.read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return bool(_BFLOAT16_FLAGS & set(listed[1].split())) if listed else None


def _host_memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _nvidia_driver() -> str | None:
    """By the kernel's own file where there is one, and else by nvidia-smi, which takes long where devices are many."""
    with contextlib.suppress(OSError):
        if match := re.search(r"Kernel Module.*?\s([0-9]+\.[0-9.]+)", _NVIDIA_VERSION.read_text(errors="replace")):
            return match[1]
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            query, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST_S, check=True
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):  # it hangs, fails, or isn't a program: the capture goes on without
        return None
    match = re.search(r"^\s*([0-9][0-9.]+)\s*$", answer, re.MULTILINE)
    return match[1] if match else None
