"""AMD's GPUs through AMD SMI (the package amdsmi). Whatever a GPU, its driver or an old library lacks is None."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from gemma_trace.machine.gpu_types import GpuAddress, OpenedGpus, others_among
from gemma_trace.metadata import GpuState

_MOST_WATTS: Final = 100_000
"""A power cap of more is in µW: the library's versions don't agree on its unit."""


def opened(addresses: Sequence[GpuAddress], undo: ExitStack) -> OpenedGpus:
    """The GPUs at these addresses; AMD SMI is shut down when `undo` is."""
    try:
        import amdsmi  # type: ignore[import-not-found]
    except (ImportError, OSError, KeyError):  # without ROCm's library it can't be imported either
        return OpenedGpus((), "amdsmi is not installed")
    try:
        amdsmi.amdsmi_init(amdsmi.AmdSmiInitFlags.INIT_AMD_GPUS)
    except amdsmi.AmdSmiException as error:
        return OpenedGpus((), f"AMD SMI says: {' '.join(str(error).split())}")
    undo.callback(_asked, amdsmi, "amdsmi_shut_down")
    handles = {
        str(_asked(amdsmi, "amdsmi_get_gpu_device_bdf", handle)).lower(): handle
        for handle in _asked(amdsmi, "amdsmi_get_processor_handles") or ()
    }
    known = [address for address in addresses if address.bus in handles]
    lacking = [address.device for address in addresses if address not in known]
    gpus = tuple(AmdGpu(amdsmi, address.device, handles[address.bus]) for address in known)
    return OpenedGpus(gpus, f"AMD SMI does not know {', '.join(lacking)}" if lacking else "")


class AmdGpu:
    """One GPU."""

    source = "amdsmi"

    def __init__(self, smi: Any, device: str, handle: Any) -> None:
        self.device = device
        self._smi = smi
        self._handle = handle
        counted = self._told("amdsmi_get_energy_count")
        self.resolution_joules = (_number(counted, "counter_resolution") or 0.0) / 1e6  # it is in µJ

    def state(self) -> GpuState:
        """Everything that the GPU reports at this moment."""
        smi = self._smi
        clock, memory = self._told("amdsmi_get_clock_info", smi.AmdSmiClkType.GFX), self._clock("MEM")
        cap, errors = self._told("amdsmi_get_power_cap_info"), self._told("amdsmi_get_gpu_total_ecc_count")
        heat = self._told(
            "amdsmi_get_temp_metric", smi.AmdSmiTemperatureType.HOTSPOT, smi.AmdSmiTemperatureMetric.CURRENT
        )
        processes = self._told("amdsmi_get_gpu_process_list")
        return GpuState(
            sm_mhz=_whole(clock, "clk"),
            memory_mhz=memory,
            max_sm_mhz=_whole(clock, "max_clk"),
            celsius=round(heat) if isinstance(heat, int | float) else None,
            power_limit_mw=_milliwatts(cap, "power_cap"),
            default_power_limit_mw=_milliwatts(cap, "default_power_cap"),
            corrected_errors=_whole(errors, "correctable_count"),
            uncorrected_errors=_whole(errors, "uncorrectable_count"),
            other_processes=others_among(_pids(processes)) if isinstance(processes, list) else None,
        )

    def glance(self) -> GpuState:
        """Its clock; AMD SMI doesn't tell of an instant what holds it."""
        return GpuState(sm_mhz=self._clock("GFX"))

    def energy_joules(self) -> float | None:
        """Since its driver was loaded."""
        counted = self._told("amdsmi_get_energy_count")
        steps = _number(counted, "energy_accumulator")
        if steps is None:  # before amdsmi 6.2.1 it was called so
            steps = _number(counted, "power")
        return None if steps is None or not self.resolution_joules else steps * self.resolution_joules

    def _clock(self, domain: str) -> int | None:
        return _whole(self._told("amdsmi_get_clock_info", getattr(self._smi.AmdSmiClkType, domain)), "clk")

    def _told(self, function: str, *arguments: Any) -> Any:
        return _asked(self._smi, function, self._handle, *arguments)


def _asked(smi: Any, function: str, *arguments: Any) -> Any:
    """What a function of AMD SMI's returns; None where the library, the driver or the GPU hasn't got it."""
    call = getattr(smi, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except smi.AmdSmiException:
        return None


def _number(told: Any, name: str) -> float | None:
    """A number of a dictionary, in which `N/A` stands for what isn't known."""
    value = told.get(name) if isinstance(told, Mapping) else None
    return value if isinstance(value, int | float) and value >= 0 else None


def _whole(told: Any, name: str) -> int | None:
    value = _number(told, name)
    return None if value is None else round(value)


def _milliwatts(told: Any, name: str) -> int | None:
    value = _number(told, name)
    return None if not value else round(value / 1e3 if value > _MOST_WATTS else value * 1e3)


def _pids(processes: Sequence[Any]) -> list[int]:
    return [round(pid) for process in processes if (pid := _number(process, "pid")) is not None]
