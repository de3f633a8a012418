"""GPUs' states through faked pynvml and amdsmi, and what is said of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest

from gemma_trace.machine.gpu_types import GpuAddress
from gemma_trace.machine.gpu_warnings import gpu_warnings
from gemma_trace.machine.gpus import opened_gpus
from gemma_trace.metadata import GpuRecord, GpuState
from tests.machine import fakes
from tests.machine.fakes import BUS, UUID, FakeGpu, NVMLError, processes

FIRST = GpuAddress("cuda:0", "nvidia", UUID)
AMD = GpuAddress("cuda:0", "amd", "", BUS)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], None]:
    def install(module: ModuleType) -> None:
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return install


def test_the_fake_has_no_name_that_nvml_lacks() -> None:
    real = pytest.importorskip("pynvml")
    named = [name for name in vars(fakes.pynvml()) if name.lower().startswith("nvml")]
    assert len(named) > 20
    assert [name for name in named if not hasattr(real, name)] == []


def test_a_gpu_tells_all_of_its_state(use: Callable[[ModuleType], None]) -> None:
    gpu = FakeGpu(reasons=[0x4 | 0x1 | 0x40])
    gpu.tells["nvmlDeviceGetTotalEccErrors"] = {0: 12, 1: 1}
    gpu.tells["nvmlDeviceGetComputeRunningProcesses"] = processes(os.getpid(), 77)
    use(fakes.pynvml(gpu))
    with opened_gpus([FIRST]) as opened:
        (found,) = opened.gpus
        assert found.state() == GpuState(
            sm_mhz=1980,
            memory_mhz=2619,
            max_sm_mhz=1980,
            celsius=61,
            power_limit_mw=600_000,
            default_power_limit_mw=700_000,
            throttled=("power cap", "hardware thermal slowdown"),
            ecc=True,
            corrected_errors=12,
            uncorrected_errors=1,
            mig=False,
            compute_mode="exclusive process",
            other_processes=1,
        )
        assert opened.why_not == ""


def test_what_a_gpu_or_its_driver_lacks_is_none(use: Callable[[ModuleType], None]) -> None:
    module = fakes.pynvml(FakeGpu(tells={}))
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetMigMode", "nvmlDeviceGetClockInfo"):
        delattr(module, name)
    use(module)
    with opened_gpus([FIRST]) as opened:
        assert opened.gpus[0].state() == GpuState()
        assert opened.gpus[0].energy_joules() is None


def test_drivers_before_535_name_the_reasons_otherwise(use: Callable[[ModuleType], None]) -> None:
    module = fakes.pynvml(FakeGpu())
    vars(module)["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda gpu: 0x8
    del vars(module)["nvmlDeviceGetCurrentClocksEventReasons"]
    use(module)
    with opened_gpus([FIRST]) as opened:
        assert opened.gpus[0].glance().throttled == ("hardware slowdown",)


def test_idle_and_clocks_that_somebody_set_are_no_throttling(use: Callable[[ModuleType], None]) -> None:
    use(fakes.pynvml(FakeGpu(reasons=[0x1 | 0x2 | 0x10 | 0x100])))
    with opened_gpus([FIRST]) as opened:
        assert opened.gpus[0].glance().throttled == ()


def test_a_mig_instance_is_asked_through_its_gpu(use: Callable[[ModuleType], None]) -> None:
    whole = FakeGpu(uuid="GPU-whole", millijoules=lambda: 5, sm_mhz=[1410])
    use(fakes.pynvml(FakeGpu(uuid=f"MIG-{UUID}", whole=whole, tells={}), whole))
    with opened_gpus([replace(FIRST, uuid=UUID.replace("8c", "8d")), FIRST]) as opened:
        (found,) = opened.gpus
        state = found.state()
        assert (state.mig, state.sm_mhz) == (True, 1410)
        assert found.energy_joules() is None, "its neighbours are in that counter"


def test_a_gpu_is_found_by_its_bus_where_torch_knows_no_uuid(use: Callable[[ModuleType], None]) -> None:
    module = fakes.pynvml(FakeGpu(uuid="GPU-another"))
    use(module)
    with opened_gpus([replace(FIRST, uuid="", bus=BUS), replace(FIRST, device="cuda:1", uuid="no")]) as opened:
        assert [gpu.device for gpu in opened.gpus] == ["cuda:0"]
        assert opened.why_not == "NVML does not know cuda:1"
    assert vars(module)["calls"] == ["init", "shutdown"]


def test_a_driver_that_fails_loses_nothing(use: Callable[[ModuleType], None], monkeypatch: pytest.MonkeyPatch) -> None:
    use(fakes.pynvml(init=NVMLError("Driver Not Loaded")))
    with opened_gpus([FIRST]) as opened:
        assert opened.gpus == ()
        assert opened.why_not == "NVML says: Driver Not Loaded"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    with opened_gpus([FIRST, AMD]) as opened:
        assert opened.why_not == "nvidia-ml-py is not installed; amdsmi is not installed"


def test_amds_gpus_are_found_by_their_bus(use: Callable[[ModuleType], None]) -> None:
    told = {
        "amdsmi_get_clock_info": {"clk": 2100, "min_clk": 132, "max_clk": 2100},
        "amdsmi_get_power_cap_info": {"power_cap": 750_000_000, "default_power_cap": 1000},  # µW, and W
        "amdsmi_get_gpu_total_ecc_count": {"correctable_count": 3, "uncorrectable_count": "N/A"},
        "amdsmi_get_temp_metric": 71,
        "amdsmi_get_gpu_process_list": [{"pid": 5}, {"pid": os.getpid()}],
        "amdsmi_get_energy_count": {"energy_accumulator": 2_000_000, "counter_resolution": 15.3, "timestamp": 1},
    }
    use(fakes.amdsmi(told))
    with opened_gpus([AMD]) as opened:
        (gpu,) = opened.gpus
        assert gpu.state() == GpuState(
            sm_mhz=2100,
            memory_mhz=2100,
            max_sm_mhz=2100,
            celsius=71,
            power_limit_mw=750_000,
            default_power_limit_mw=1_000_000,
            corrected_errors=3,
            other_processes=1,
        )
        assert gpu.energy_joules() == pytest.approx(30.6)
    use(fakes.amdsmi({}))
    with opened_gpus([AMD]) as opened:
        assert opened.gpus[0].state() == GpuState()
        assert opened.gpus[0].energy_joules() is None
    use(fakes.amdsmi({}, init=fakes.AmdSmiException("no\nGPU")))
    with opened_gpus([AMD]) as opened:
        assert opened.why_not == "AMD SMI says: no GPU"


QUIET = GpuState(sm_mhz=1980, memory_mhz=2619, corrected_errors=4, uncorrected_errors=0, other_processes=0, mig=False)
RECORD = GpuRecord("cuda:1", QUIET, QUIET, 1965, 1980, ())


def test_a_quiet_gpu_is_nothing_to_speak_of() -> None:
    assert list(gpu_warnings([RECORD, GpuRecord("cuda:0", GpuState(), GpuState())])) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (replace(RECORD, sm_mhz_least=1880), "the clock of cuda:1 moved between 1880 and 1980 MHz"),
        (replace(RECORD, after=replace(QUIET, memory_mhz=1593)), "memory clock of cuda:1 went from 2619 to 1593 MHz"),
        (
            replace(RECORD, throttled=("power cap", "thermal slowdown")),
            "throttled during the timed pass: power cap, ",
        ),
        (replace(RECORD, before=replace(QUIET, other_processes=2)), "2 other processes computed on cuda:1"),
        (replace(RECORD, before=replace(QUIET, mig=True)), "cuda:1 is split by MIG"),
        (replace(RECORD, after=replace(QUIET, corrected_errors=7)), "cuda:1 had 3 corrected memory errors"),
        (replace(RECORD, after=replace(QUIET, uncorrected_errors=1)), "cuda:1 had 1 uncorrected memory errors"),
    ],
)
def test_what_makes_times_hard_to_repeat_is_said(record: GpuRecord, said: str) -> None:
    (warning,) = gpu_warnings([record])
    assert said in warning
