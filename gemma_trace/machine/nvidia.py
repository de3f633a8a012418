"""NVIDIA's GPUs through NVML (the package nvidia-ml-py). Whatever a GPU, its driver or an old library lacks is None."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from gemma_trace.machine.gpu_types import GpuAddress, OpenedGpus, others_among
from gemma_trace.metadata import GpuState

THROTTLING: Final = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x200: "board limit",
    0x400: "reliability",
}
"""Bits of NVML's clocks event reasons that say that the GPU is slower than it is set to be. Idle (0x1), clocks that
somebody set (0x2, 0x100) and those that follow another GPU (0x10) are no throttling."""

COMPUTE_MODES: Final = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}


def opened(addresses: Sequence[GpuAddress], undo: ExitStack) -> OpenedGpus:
    """The GPUs at these addresses; NVML is shut down when `undo` is."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return OpenedGpus((), "nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return OpenedGpus((), f"NVML says: {error}")
    undo.callback(_shut_down, pynvml)
    handles = [(address, _handle(pynvml, address)) for address in addresses]
    gpus = tuple(NvidiaGpu(pynvml, address.device, handle) for address, handle in handles if handle is not None)
    lacking = [address.device for address, handle in handles if handle is None]
    return OpenedGpus(gpus, f"NVML does not know {', '.join(lacking)}" if lacking else "")


class NvidiaGpu:
    """One GPU, or the one that a MIG instance is of."""

    source = "nvml"
    resolution_joules = 1e-3  # the counter is in mJ

    def __init__(self, nvml: Any, device: str, handle: Any) -> None:
        self.device = device
        self._nvml = nvml
        whole = self._ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
        self._is_instance = whole is not None
        self._handle = whole if whole is not None else handle

    def state(self) -> GpuState:
        """Everything that the GPU reports at this moment."""
        nvml = self._nvml
        ecc, mig = self._told("nvmlDeviceGetEccMode"), self._told("nvmlDeviceGetMigMode")
        processes = self._told("nvmlDeviceGetComputeRunningProcesses")
        glance = self.glance()
        return GpuState(
            sm_mhz=glance.sm_mhz,
            memory_mhz=self._told("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            max_sm_mhz=self._told("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
            celsius=self._told("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_limit_mw=self._told("nvmlDeviceGetEnforcedPowerLimit"),
            default_power_limit_mw=self._told("nvmlDeviceGetPowerManagementDefaultLimit"),
            throttled=glance.throttled,
            ecc=None if ecc is None else bool(ecc[0]),
            corrected_errors=self._errors(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            uncorrected_errors=self._errors(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            mig=True if self._is_instance else None if mig is None else bool(mig[0]),
            compute_mode=COMPUTE_MODES.get(self._told("nvmlDeviceGetComputeMode")),
            other_processes=None if processes is None else others_among([process.pid for process in processes]),
        )

    def glance(self) -> GpuState:
        """Its clock and what holds it."""
        reasons = self._told("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:  # drivers before 535 have it under its former name
            reasons = self._told("nvmlDeviceGetCurrentClocksThrottleReasons")
        return GpuState(
            sm_mhz=self._told("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            throttled=None if reasons is None else tuple(name for bit, name in THROTTLING.items() if reasons & bit),
        )

    def energy_joules(self) -> float | None:
        """Since the driver was loaded; None before Volta, and for a MIG instance, whose neighbours count too."""
        millijoules = None if self._is_instance else self._told("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def _errors(self, kind: int) -> int | None:
        count: int | None = self._told("nvmlDeviceGetTotalEccErrors", kind, self._nvml.NVML_VOLATILE_ECC)
        return count

    def _told(self, function: str, *arguments: Any) -> Any:
        return self._ask(function, self._handle, *arguments)

    def _ask(self, function: str, *arguments: Any) -> Any:
        return _asked(self._nvml, function, *arguments)


def _asked(nvml: Any, function: str, *arguments: Any) -> Any:
    """What a function of NVML's returns; None where the library, the driver or the GPU hasn't got it."""
    call = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def _handle(nvml: Any, address: GpuAddress) -> Any:
    """By UUID, of a GPU or of a MIG instance, else by its place on the bus."""
    for prefix in ("GPU-", "MIG-") if address.uuid else ():
        if (handle := _asked(nvml, "nvmlDeviceGetHandleByUUID", prefix + address.uuid)) is not None:
            return handle
    return _asked(nvml, "nvmlDeviceGetHandleByPciBusId", address.bus) if address.bus else None


def _shut_down(nvml: Any) -> None:
    _asked(nvml, "nvmlShutdown")
