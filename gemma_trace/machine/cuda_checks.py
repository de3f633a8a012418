"""What `doctor` says of CUDA's devices, ROCm's among them: whether each can be used, and what keeps it from that."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from gemma_trace.machine.checks import Check, CheckStatus
from gemma_trace.metadata import GpuState

PARAMETERS: Final = Path("/proc/driver/nvidia/params")
"""How NVIDIA's driver was loaded."""

LONGEST_S: Final = 20.0
"""How long nvidia-smi may take to answer, which it does for long where devices are many."""

_DRIVER_OF_CUDA: Final = {11: 450, 12: 525, 13: 580}
"""The first driver of each major version of CUDA (NVIDIA's table of minor version compatibility)."""


def driver_hangs() -> bool:
    """Whether nvidia-smi doesn't answer: whatever else asks the driver would hang as well, and for ever."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        subprocess.run(
            [command, "-L"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    except OSError:  # it is no program
        return False
    return False


def hanging_driver() -> Check:
    """What is said where nothing can be asked."""
    text = f"nvidia-smi does not answer within {LONGEST_S:.0f} s, so no device was checked"
    return Check("cuda", CheckStatus.ABSENT, text, "see dmesg for what the driver says, and restart the machine")


def cuda_checks() -> Iterator[Check]:
    """A line for each device, and for what is wrong with all of them."""
    import torch

    with warnings.catch_warnings(record=True) as said:  # why there is none, which torch would print
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    if not available:
        yield _no_device([str(warning.message) for warning in said])
        return
    names = [_name(index) for index in range(torch.cuda.device_count())]
    states = _states(len(names))
    for index, name in enumerate(names):
        yield _device(index, name, states.get(f"cuda:{index}", GpuState()))
    if len(set(names)) > 1:
        text = f"the devices are of {len(set(names))} kinds, and figures of one kind say nothing about another"
        yield Check("cuda devices", CheckStatus.OK, f"{text}; choose one with --device cuda:N")


def why_unseen() -> tuple[str, str]:
    """Why the profiler may have seen nothing of a device, and what mends it."""
    if _only_administrators_profile():
        return (
            "saw no device activity in a trial, because the driver allows only administrators to profile "
            "(RmProfilingAdminOnly)",
            "load the driver with NVreg_RestrictProfilingToAdminUsers=0, or run the container with SYS_ADMIN",
        )
    return (
        "saw no device activity in a trial",
        "see what CUPTI reports with KINETO_LOG_LEVEL=1; another profiler may be using it, or the driver may forbid it",
    )


def _only_administrators_profile() -> bool:
    try:
        return re.search(r"^RmProfilingAdminOnly:\s*1", PARAMETERS.read_text(errors="replace"), re.M) is not None
    except OSError:
        return False


def _no_device(said: list[str]) -> Check:
    """Torch sees none."""
    import torch

    rocm, cuda = torch.version.hip, torch.version.cuda
    if rocm:
        text = f"torch is built for ROCm {rocm}, but no device is visible"
        return Check("cuda", CheckStatus.ABSENT, text, "check the driver: rocm-smi")
    if not cuda:
        mend = "install a CUDA build of torch: https://pytorch.org"
        return Check("cuda", CheckStatus.ABSENT, "torch is built without CUDA", mend)
    with ExitStack() as undo:
        nvml = _nvml(undo)
        highest = _highest_cuda(nvml, said)
        if highest is not None and highest[0] < int(cuda.partition(".")[0]):
            return _old_driver(cuda, highest)
        if nvml is not None and _mig_without_instances(nvml):
            text = f"torch is built for CUDA {cuda}; MIG is on, but no instance is visible"
            return Check("cuda", CheckStatus.ABSENT, text, "make one: nvidia-smi mig -cgi PROFILE -C, or turn MIG off")
    text = f"torch is built for CUDA {cuda}, but no device is visible"
    return Check("cuda", CheckStatus.ABSENT, text, "check the driver: nvidia-smi, and CUDA_VISIBLE_DEVICES")


def _old_driver(cuda: str, highest: tuple[int, int]) -> Check:
    text = f"the driver supports CUDA up to {highest[0]}.{highest[1]}, and torch is built for CUDA {cuda}"
    needed = _DRIVER_OF_CUDA.get(int(cuda.partition(".")[0]))
    newer = f"version {needed} or newer" if needed else "a newer one"
    mend = f"update the driver to {newer}, or install a torch for CUDA {highest[0]}: https://pytorch.org"
    return Check("cuda", CheckStatus.ABSENT, text, mend)


def _name(index: int) -> str:
    import torch

    try:
        return str(torch.cuda.get_device_properties(index).name)
    except RuntimeError:  # where none can be used, CUDA doesn't begin at all
        return "a device"


def _device(index: int, name: str, state: GpuState) -> Check:
    """One that torch sees."""
    import torch

    from gemma_trace.capture.model_memory import free_bytes
    from gemma_trace.capture.one_line_errors import error_text

    try:
        free = free_bytes(torch.device("cuda", index)) / 1e9
    except RuntimeError as error:  # its compute mode is exclusive or prohibited, or it is broken
        reason = error_text(error)
        mend = "see its compute mode and its processes with nvidia-smi, or hide it with CUDA_VISIBLE_DEVICES"
        if state.compute_mode == "prohibited":
            mend = f"allow it: nvidia-smi -i {index} -c DEFAULT, or hide it with CUDA_VISIBLE_DEVICES"
        elif state.compute_mode == "exclusive process":
            mend = "it allows one process at a time: end the process that uses it, or hide it with CUDA_VISIBLE_DEVICES"
        mode = f" (compute mode {state.compute_mode})" if state.compute_mode not in (None, "default") else ""
        return Check(f"cuda:{index}", CheckStatus.ABSENT, f"{name}, which can't be used{mode}: {reason}", mend)
    notes = [f"{name}, {free:.1f} GB of memory free"]
    notes += [f"ROCm {torch.version.hip}"] if torch.version.hip else []
    notes += ["one process at a time"] if state.compute_mode == "exclusive process" else []
    notes += ["an instance or a GPU with MIG, for which energy can't be read"] if state.mig else []
    notes += [f"{state.other_processes} other processes on it"] if state.other_processes else []
    notes += [f"throttled: {', '.join(state.throttled)}"] if state.throttled else []
    return Check(f"cuda:{index}", CheckStatus.OK, "; ".join(notes))


def _states(count: int) -> dict[str, GpuState]:
    """What the makers' libraries say of the devices, as far as they can be asked."""
    import torch

    from gemma_trace.capture.device_watch import address_of
    from gemma_trace.machine.gpus import opened_gpus

    try:
        addresses = [address_of(torch.device("cuda", index)) for index in range(count)]
    except RuntimeError:
        return {}
    with opened_gpus(addresses) as opened:
        return {gpu.device: gpu.state() for gpu in opened.gpus}


def _nvml(undo: ExitStack) -> Any:
    """NVML, until `undo` is; None where it isn't there."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    undo.callback(pynvml.nvmlShutdown)
    return pynvml


def _highest_cuda(nvml: Any, said: list[str]) -> tuple[int, int] | None:
    """The CUDA version that the driver knows, by NVML or by what torch warned of: 12020 is 12.2."""
    version = None
    if nvml is not None:
        try:
            version = int(nvml.nvmlSystemGetCudaDriverVersion_v2())
        except nvml.NVMLError:
            version = None
    if version is None:
        match = re.search(r"driver .*too old \(found version (\d+)\)", " ".join(said))
        version = int(match[1]) if match else None
    return None if version is None else (version // 1000, version % 1000 // 10)


def _mig_without_instances(nvml: Any) -> bool:
    """Whether the GPUs that there are are split, so that none of them can be used as a whole."""
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return bool(handles) and all(nvml.nvmlDeviceGetMigMode(handle)[0] for handle in handles)
    except nvml.NVMLError:
        return False
