"""pynvml and amdsmi as far as they are asked: the functions by their real names, a machine of made-up GPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

UUID = "8c9b2f1e-0000-4d3a-9f00-5c1f2ab34cde"
BUS = "0000:c1:00.0"


class NVMLError(Exception):
    pass


@dataclass
class FakeGpu:
    """What a GPU tells; a function that isn't in `tells` is not supported."""

    uuid: str = f"GPU-{UUID}"
    bus: str = BUS
    sm_mhz: list[int] = field(default_factory=lambda: [1980])
    reasons: list[int] = field(default_factory=lambda: [0])
    millijoules: Callable[[], int] | None = None
    tells: dict[str, Any] = field(
        default_factory=lambda: {
            "nvmlDeviceGetMaxClockInfo": 1980,
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetEnforcedPowerLimit": 600_000,
            "nvmlDeviceGetPowerManagementDefaultLimit": 700_000,
            "nvmlDeviceGetEccMode": [1, 1],
            "nvmlDeviceGetTotalEccErrors": 0,
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetComputeMode": 3,
            "nvmlDeviceGetComputeRunningProcesses": [],
        }
    )
    whole: FakeGpu | None = None
    """Of a MIG instance, the GPU that it is of."""


def pynvml(*gpus: FakeGpu, init: Exception | None = None) -> ModuleType:
    """A module in pynvml's place."""
    module: Any = ModuleType("pynvml")
    module.NVMLError = NVMLError
    module.calls = []
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0, "NVML_VOLATILE_ECC": 0}
    constants |= {"NVML_MEMORY_ERROR_TYPE_CORRECTED": 0, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED": 1}
    for name, value in constants.items():
        setattr(module, name, value)

    def started() -> None:
        module.calls.append("init")
        if init:
            raise init

    def found(attribute: str) -> Callable[[str], FakeGpu]:
        def handle(text: str) -> FakeGpu:
            for gpu in gpus:
                if getattr(gpu, attribute) == text:
                    return gpu
            raise NVMLError("Not Found")

        return handle

    def clock(gpu: FakeGpu, domain: int) -> int:
        if domain != module.NVML_CLOCK_SM:
            return 2619
        return gpu.sm_mhz.pop(0) if len(gpu.sm_mhz) > 1 else gpu.sm_mhz[0]

    def reasons(gpu: FakeGpu) -> int:
        return gpu.reasons.pop(0) if len(gpu.reasons) > 1 else gpu.reasons[0]

    def energy(gpu: FakeGpu) -> int:
        if gpu.millijoules is None:
            raise NVMLError("Not Supported")
        return gpu.millijoules()

    def whole(gpu: FakeGpu) -> FakeGpu:
        if gpu.whole is None:
            raise NVMLError("Invalid Argument")
        return gpu.whole

    module.nvmlInit = started
    module.nvmlShutdown = lambda: module.calls.append("shutdown")
    module.nvmlDeviceGetHandleByUUID = found("uuid")
    module.nvmlDeviceGetHandleByPciBusId = found("bus")
    module.nvmlDeviceGetClockInfo = clock
    module.nvmlDeviceGetCurrentClocksEventReasons = reasons
    module.nvmlDeviceGetTotalEnergyConsumption = energy
    module.nvmlDeviceGetDeviceHandleFromMigDeviceHandle = whole
    for name in FakeGpu().tells:
        setattr(module, name, _teller(name))
    return module  # type: ignore[no-any-return]


def _teller(name: str) -> Callable[..., Any]:
    def tell(gpu: FakeGpu, *arguments: int) -> Any:
        if name not in gpu.tells:
            raise NVMLError("Not Supported")
        told = gpu.tells[name]
        return told[arguments[0]] if isinstance(told, dict) else told

    return tell


def processes(*pids: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in pids]


class AmdSmiException(Exception):  # noqa: N818
    pass


def amdsmi(tells: dict[str, Any], init: Exception | None = None) -> ModuleType:
    """A module in amdsmi's place, with one GPU at `BUS`.

    Args:
        tells: what its functions return; a function that isn't in it raises.
    """
    module: Any = ModuleType("amdsmi")
    module.AmdSmiException = AmdSmiException
    module.AmdSmiInitFlags = SimpleNamespace(INIT_AMD_GPUS=2)
    module.AmdSmiClkType = SimpleNamespace(GFX="GFX", MEM="MEM")
    module.AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    module.AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def started(flag: int) -> None:
        if init:
            raise init

    def of(name: str) -> Callable[..., Any]:
        def tell(handle: object, *arguments: Any) -> Any:
            if name not in tells:
                raise AmdSmiException("AMDSMI_STATUS_NOT_SUPPORTED")
            return tells[name]

        return tell

    module.amdsmi_init = started
    module.amdsmi_shut_down = lambda: None
    module.amdsmi_get_processor_handles = lambda: ["handle"]
    module.amdsmi_get_gpu_device_bdf = lambda handle: BUS.upper()
    for name in ("clock_info", "power_cap_info", "gpu_total_ecc_count", "temp_metric", "energy_count"):
        setattr(module, f"amdsmi_get_{name}", of(f"amdsmi_get_{name}"))
    module.amdsmi_get_gpu_process_list = of("amdsmi_get_gpu_process_list")
    return module  # type: ignore[no-any-return]
