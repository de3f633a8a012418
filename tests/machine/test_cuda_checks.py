"""What doctor says of devices that can't be used, or not as one would think; torch, NVML and nvidia-smi are faked."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gemma_trace.machine import cuda_checks, doctor
from gemma_trace.machine.checks import Check, CheckStatus
from tests.machine import fakes
from tests.machine.fakes import UUID, FakeGpu, processes

torch = pytest.importorskip("torch", reason="needs the extra capture")


class Machine:
    """Devices as torch sees them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        patch.setattr(torch.version, "cuda", "13.0")
        patch.setitem(sys.modules, "pynvml", None)
        self.warning = ""
        self.see()

    def see(self, *names: str, unusable: str = "", broken: bool = False) -> None:
        """Args: unusable: why none can be used; broken: CUDA doesn't even begin."""

        def available() -> bool:
            if self.warning:
                warnings.warn(self.warning, stacklevel=1)
            return bool(names)

        def properties(device: Any) -> SimpleNamespace:
            if broken:
                raise RuntimeError(unusable)
            index = device if isinstance(device, int) else device.index
            return SimpleNamespace(name=names[index], uuid=UUID if index == 0 else "another")

        def free(device: Any) -> tuple[int, int]:
            if unusable:
                raise RuntimeError(unusable)
            return 70 * 10**9, 80 * 10**9

        self._patch.setattr(torch.cuda, "is_available", available)
        self._patch.setattr(torch.cuda, "device_count", lambda: len(names))
        self._patch.setattr(torch.cuda, "get_device_properties", properties)
        self._patch.setattr(torch.cuda, "mem_get_info", free)

    def nvml(self, *gpus: FakeGpu, cuda: int | None = None) -> None:
        module: Any = fakes.pynvml(*gpus)

        def highest() -> int:
            if cuda is None:
                raise fakes.NVMLError("Not Found")
            return cuda

        module.nvmlSystemGetCudaDriverVersion_v2 = highest
        module.nvmlDeviceGetCount = lambda: len(gpus)
        module.nvmlDeviceGetHandleByIndex = lambda index: gpus[index]
        self._patch.setitem(sys.modules, "pynvml", module)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_device_at_rest_is_its_name_and_its_memory(machine: Machine) -> None:
    machine.see("NVIDIA H200")
    assert list(cuda_checks.cuda_checks()) == [Check("cuda:0", CheckStatus.OK, "NVIDIA H200, 70.0 GB of memory free")]


def test_devices_of_several_kinds_are_said(machine: Machine) -> None:
    machine.see("NVIDIA H200", "NVIDIA L4")
    *_, last = cuda_checks.cuda_checks()
    assert last.found.startswith("the devices are of 2 kinds")
    machine.see("NVIDIA H200", "NVIDIA H200")
    assert [check.name for check in cuda_checks.cuda_checks()] == ["cuda:0", "cuda:1"]


def test_what_the_driver_says_of_a_device_stands_behind_it(machine: Machine) -> None:
    gpu = FakeGpu(reasons=[0x8])
    gpu.tells["nvmlDeviceGetComputeRunningProcesses"] = processes(1, 2, 3)
    gpu.tells["nvmlDeviceGetMigMode"] = [1, 1]
    machine.nvml(gpu)
    machine.see("NVIDIA H100 MIG 1g.10gb")
    (check,) = cuda_checks.cuda_checks()
    assert check.status is CheckStatus.OK
    assert check.found.split("; ")[1:] == [
        "one process at a time",
        "an instance or a GPU with MIG, for which energy can't be read",
        "2 other processes on it",
        "throttled: hardware slowdown",
    ]


BUSY = "CUDA error: all CUDA-capable devices are busy or unavailable\nmore"


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("mode", "mend"),
    [
        (2, "allow it: nvidia-smi -i 0 -c DEFAULT"),
        (3, "it allows one process at a time: end the process"),
        (0, "see its"),
    ],
)
def test_a_compute_mode_that_keeps_us_out_is_named(machine: Machine, mode: int, mend: str, broken: bool) -> None:
    gpu = FakeGpu()
    gpu.tells["nvmlDeviceGetComputeMode"] = mode
    machine.nvml(gpu)
    machine.see("NVIDIA A30", unusable=BUSY, broken=broken)
    (check,) = cuda_checks.cuda_checks()
    assert check.status is CheckStatus.ABSENT
    assert "all CUDA-capable devices are busy or unavailable" in check.found
    assert "\n" not in check.found
    if not broken:
        assert check.mend.startswith(mend)
        assert ("compute mode" in check.found) == (mode != 0)


def test_a_rocm_build_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0.2")
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    machine.see("AMD Instinct MI300X")
    (check,) = cuda_checks.cuda_checks()
    assert check.found == "AMD Instinct MI300X, 70.0 GB of memory free; ROCm 7.0.2"


@pytest.mark.parametrize("told_by", ["nvml", "torch"])
def test_a_driver_that_is_too_old_is_said(machine: Machine, told_by: str) -> None:
    if told_by == "nvml":
        machine.nvml(FakeGpu(), cuda=12020)
    else:
        machine.warning = "CUDA initialization: The NVIDIA driver on your system is too old (found version 12020)."
    (check,) = cuda_checks.cuda_checks()
    assert check.found == "the driver supports CUDA up to 12.2, and torch is built for CUDA 13.0"
    assert check.mend.startswith("update the driver to version 580 or newer, or install a torch for CUDA 12")


def test_a_newer_driver_without_devices_is_no_old_one(machine: Machine) -> None:
    machine.nvml(FakeGpu(), cuda=13010)
    (check,) = cuda_checks.cuda_checks()
    assert check.found == "torch is built for CUDA 13.0, but no device is visible"


def test_mig_without_an_instance_is_said(machine: Machine) -> None:
    gpu = FakeGpu()
    gpu.tells["nvmlDeviceGetMigMode"] = [1, 1]
    machine.nvml(gpu, cuda=13000)
    (check,) = cuda_checks.cuda_checks()
    assert check.found == "torch is built for CUDA 13.0; MIG is on, but no instance is visible"
    assert check.mend.startswith("make one: nvidia-smi mig -cgi")


def test_a_profiler_without_permission_is_told_from_one_that_sees_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_checks, "PARAMETERS", tmp_path / "params")
    assert cuda_checks.why_unseen()[0] == "saw no device activity in a trial"
    (tmp_path / "params").write_text("EnableMSI: 1\nRmProfilingAdminOnly: 1\n")
    found, mend = cuda_checks.why_unseen()
    assert "only administrators to profile" in found
    assert "NVreg_RestrictProfilingToAdminUsers=0" in mend
    (tmp_path / "params").write_text("RmProfilingAdminOnly: 0\n")
    assert cuda_checks.why_unseen()[0] == "saw no device activity in a trial"


@pytest.mark.parametrize(
    ("script", "hangs"), [("exec sleep 60", True), ("exit 9", False), ("echo fine", False), (None, False)]
)
def test_a_driver_that_hangs_is_not_asked_any_more(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, hangs: bool
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("not a program" if script is None else f"#!/bin/sh\n{script}\n")
    smi.chmod(0o700 if script else 0o600)
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    monkeypatch.setattr(cuda_checks, "LONGEST_S", 0.3 if hangs else 20.0)
    machine.see("NVIDIA H200")
    if not hangs:
        assert not cuda_checks.driver_hangs()
        return

    def never() -> bool:
        raise AssertionError("the driver was asked")

    monkeypatch.setattr(torch.cuda, "is_available", never)
    checks = {check.name: check for check in doctor._devices()}
    assert checks["cuda"].found == "nvidia-smi does not answer within 0 s, so no device was checked"
    assert set(checks) == {"cpu", "cuda", "compiler"}
