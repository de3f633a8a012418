"""What is recorded of the devices during the timed pass, with faked GPUs and on the CPU, and where it is shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gemma_trace import load
from gemma_trace.analysis.gpu_settings import differing_gpus
from gemma_trace.capture import device_watch
from gemma_trace.capture.device_watch import address_of, watched_devices
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.session import CaptureResult, profile
from gemma_trace.cli import main
from gemma_trace.machine.energy import NoMeter
from gemma_trace.machine.gpu_types import GpuAddress
from gemma_trace.metadata import GpuRecord, GpuState, RunMetadata
from gemma_trace.report.html.environment import _devices, public_settings
from tests.machine import fakes
from tests.machine.fakes import UUID, FakeGpu, processes


@pytest.fixture
def cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices as torch tells them: 0 has a UUID, 1 its place on the bus alone."""

    def properties(device: torch.device) -> SimpleNamespace:
        if device.index == 0:
            return SimpleNamespace(uuid=UUID)
        return SimpleNamespace(pci_domain_id=0, pci_bus_id=0xD1, pci_device_id=0)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)


CUDA = [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda", 0), torch.device("cpu")]


@pytest.mark.usefixtures("cuda_devices")
def test_devices_are_found_by_what_torch_says_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(CUDA[0]) == GpuAddress("cuda:0", "nvidia", UUID)
    assert address_of(CUDA[1]) == GpuAddress("cuda:1", "nvidia", "", "0000:d1:00.0")
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert address_of(CUDA[1]).maker == "amd"


@pytest.mark.usefixtures("cuda_devices")
def test_the_gpus_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter(range(1_000, 100_000, 500))
    first = FakeGpu(sm_mhz=[1980, 1965, 1700, 1980], reasons=[0, 0, 0x4, 0x20], millijoules=lambda: next(counted))
    second = FakeGpu(uuid="GPU-other", bus="0000:d1:00.0", millijoules=lambda: 7_000)
    monkeypatch.setitem(sys.modules, "pynvml", fakes.pynvml(first, second))
    with watched_devices(CUDA) as watch:
        watch.start()
        watch.between()
        watch.between()
        second.tells["nvmlDeviceGetComputeRunningProcesses"] = processes(1, 2)
        watch.finish(requests=2, tokens=6)
    one, other = watch.records
    assert (one.device, one.sm_mhz_least, one.sm_mhz_most) == ("cuda:0", 1700, 1980)
    assert one.throttled == ("power cap", "thermal slowdown")
    assert (other.device, other.before.other_processes, other.after.other_processes) == ("cuda:1", 0, 1)
    assert watch.energy is not None
    # Start, twice in between and the end: 3 steps of 0.5 J, which is once more at the very first, when it is tried.
    assert watch.energy.joules == pytest.approx(1.5)
    assert [warning.split(" during")[0] for warning in watch.warnings] == [
        "the clock of cuda:0 moved between 1700 and 1980 MHz",
        "cuda:0 was throttled",
        "1 other process computed on cuda:1; end those that aren't needed",
    ]


@pytest.mark.usefixtures("cuda_devices")
def test_a_gpu_that_processes_images_is_watched_and_its_energy_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = iter(range(1_000, 100_000, 500))
    first = FakeGpu(millijoules=lambda: next(counted))
    second = FakeGpu(uuid="GPU-other", bus="0000:d1:00.0", sm_mhz=[1000, 1500], millijoules=lambda: next(counted))
    monkeypatch.setitem(sys.modules, "pynvml", fakes.pynvml(first, second))
    for devices, joules in (([CUDA[0]], 0.5), ([CUDA[3]], None)):
        monkeypatch.setattr(device_watch, "host_meter", lambda: NoMeter("none here"))
        with watched_devices(devices, CUDA[1]) as watch:
            watch.start()
            watch.finish(requests=1, tokens=1)
        assert "cuda:1" in [record.device for record in watch.records]
        assert (watch.energy.joules if watch.energy else None) == joules
    assert watch.no_energy == "none here"


class Meter:
    """A counter that grows by a joule whenever it is read."""

    source = "rapl"
    resolution_joules = 1e-6

    def __init__(self) -> None:
        self.read = 0

    def joules(self) -> float:
        self.read += 1
        return float(self.read)


@pytest.fixture
def captured_here(quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CaptureResult:
    """A capture that times nothing, beside a counter that counts."""
    monkeypatch.setattr(device_watch, "host_meter", Meter)
    return captured(quick, tmp_path, runs=0)


def captured(quick: LoadedModel, folder: Path, runs: int = 3) -> CaptureResult:
    options: dict[str, Any] = {"new_tokens": 2, "warmup": 1, "profile_runs": 1, "image_sizes": "8x6", "detail": "stage"}
    return profile(model=quick.model, processor=quick.processor, output=folder, runs=runs, **options)


def test_a_capture_on_the_cpu_tells_its_energy(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device_watch, "host_meter", Meter)
    result = captured(quick, tmp_path)
    energy = load(result.path).metadata.energy  # type: ignore[union-attr]
    assert energy is not None
    assert (energy.joules, energy.requests, energy.tokens) == (4.0, 3, 6)
    assert main(["summarize", str(result.path), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["energy_request_joules"] == pytest.approx(4 / 3)
    assert row["energy_token_joules"] == pytest.approx(4 / 6)
    assert row["energy_source"] == "rapl"
    assert main(["summarize", str(result.path)]) == 0
    shown = capsys.readouterr().out
    assert "1.333 ±" in shown
    assert "the processor packages (RAPL)" in shown


def test_a_capture_without_a_counter_says_why(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(device_watch, "host_meter", lambda: NoMeter("the processors have no RAPL counter"))
    result = captured(quick, tmp_path, runs=1)
    assert (result.metadata.energy, result.metadata.gpus) == (None, ())
    assert main(["summarize", str(result.path), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["energy_request_joules"] is None
    page = tmp_path / "page.html"
    assert main(["report", str(result.path), "-o", str(page)]) == 0
    assert "none: the processors have no RAPL counter" in page.read_text()


STATE = GpuState(sm_mhz=1980, memory_mhz=2619, power_limit_mw=700_000, ecc=True, mig=False, other_processes=0)
GPU = GpuRecord("cuda:0", STATE, STATE, 1965, 1980, ())


def of(records: Sequence[GpuRecord]) -> RunMetadata:
    found: RunMetadata = SimpleNamespace(gpus=tuple(records))  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (GPU, []),
        (replace(GPU, sm_mhz_least=1950, sm_mhz_most=1965), []),
        (replace(GPU, sm_mhz_least=1410, sm_mhz_most=1410), ["GPU clock: 1965 to 1980 MHz → 1410 MHz"]),
        (replace(GPU, after=replace(STATE, power_limit_mw=500_400)), ["GPU power limit: 700 W → 500 W"]),
        (replace(GPU, after=replace(STATE, ecc=None)), []),
        (replace(GPU, after=replace(STATE, ecc=False)), ["GPU ECC: on → off"]),
        (replace(GPU, throttled=("power cap",)), ["GPU throttled by: nothing → power cap"]),
        (replace(GPU, before=replace(STATE, other_processes=1)), ["GPU shared with others: no → yes"]),
        (replace(GPU, after=replace(STATE, memory_mhz=1593)), ["GPU memory clock: 2619 MHz → 1593 MHz"]),
    ],
)
def test_a_comparison_flags_what_differs(after: GpuRecord, said: list[str]) -> None:
    assert list(differing_gpus([of([GPU]), None], [of([after])])) == said
    assert list(differing_gpus([None], [of([after])])) == []


BUSY = GpuState(
    sm_mhz=1700,
    max_sm_mhz=1980,
    celsius=83,
    power_limit_mw=500_000,
    default_power_limit_mw=700_000,
    ecc=True,
    corrected_errors=1_200,
    uncorrected_errors=0,
    mig=True,
    compute_mode="exclusive process",
    other_processes=2,
)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (GpuRecord("cuda:0", GpuState(), GpuState()), "tells nothing"),
        (GPU, "1965 to 1980 MHz, power limit 700 W, not throttled, ECC on"),
        (replace(GPU, sm_mhz_least=1980, throttled=None, after=GpuState(ecc=False)), "1980 MHz, ECC off"),
        (
            GpuRecord("cuda:0", BUSY, BUSY, 1700, 1900, ("power cap", "board limit")),
            "1700 to 1900 MHz of 1980, 83 °C, power limit 500 W (by default 700 W), throttled by power cap and "
            "board limit, ECC on, 1,200 corrected memory errors, split by MIG, compute mode exclusive process, "
            "2 other processes",
        ),
    ],
)
def test_the_page_tells_what_a_gpu_did(record: GpuRecord, text: str) -> None:
    told: RunMetadata = SimpleNamespace(gpus=(record,), no_energy="none here")  # type: ignore[assignment]
    first, second = _devices(told)
    assert (first.name, first.value) == ("cuda:0 during the timed pass", text)
    assert (second.name, second.value) == ("energy", "none: none here")
    assert public_settings(["GPU power limit: 700 W → 500 W"]) == ("GPU power limit: 700 W → 500 W",)


def test_without_a_timed_pass_there_is_no_energy_and_all_survives_json(captured_here: CaptureResult) -> None:
    told = captured_here.metadata
    assert (told.energy, told.no_energy) == (None, "no request was timed")
    busy = replace(told, gpus=(GpuRecord("cuda:0", BUSY, STATE, 1, 2, ("power cap",)),))
    assert RunMetadata.from_json(busy.to_json()) == busy
