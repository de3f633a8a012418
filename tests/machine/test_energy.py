"""Energy from faked counters, on a faked clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemma_trace.analysis.energy import Amount, energy_of_ranks, per_request, per_token
from gemma_trace.machine.energy import EnergyWatch, NoMeter, RaplMeter, gpu_meter, host_meter, update_ns
from gemma_trace.metadata import Energy


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.ns = 0

    def now(self) -> int:
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter_ns", clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


def gpu(energy_joules: Callable[[], float | None], device: str = "cuda:0") -> SimpleNamespace:
    return SimpleNamespace(device=device, source="nvml", resolution_joules=1e-3, energy_joules=energy_joules)


def steps(clock: Clock, watts: float, every_ns: int) -> Callable[[], float]:
    """A counter that is renewed so often."""
    return lambda: watts * (clock.ns // every_ns * every_ns) / 1e9


def test_the_energy_of_a_pass_and_how_far_off_it_can_be(clock: Clock) -> None:
    clock.ns = 50_000_000
    meter = gpu_meter([gpu(steps(clock, 300, 100_000_000)), gpu(steps(clock, 100, 100_000_000))], 2, "")
    watch = EnergyWatch(meter)
    watch.start()  # both counters still say 0
    clock.sleep(2.0)
    watch.stop()  # 20 updates later
    clock.sleep(1.0)
    energy = watch.energy(requests=5, tokens=40)
    assert energy is not None
    assert (energy.source, energy.requests, energy.tokens, energy.duration_ns) == ("nvml", 5, 40, 2_000_000_000)
    assert energy.joules == pytest.approx(400 * 2.0)
    assert energy.update_ns == pytest.approx(100_000_000, abs=200_000), "it is asked every 0.2 ms"
    assert energy.uncertainty_joules == pytest.approx(400 * 0.1 + 2e-3, rel=0.01)
    assert per_request(energy) == Amount(energy.joules / 5, energy.uncertainty_joules / 5)
    assert per_token(energy) == Amount(energy.joules / 40, energy.uncertainty_joules / 40)


@pytest.mark.parametrize("told", [None, 7.0], ids=["it stops to answer", "it never changes"])
def test_a_counter_that_does_not_count_is_none(clock: Clock, told: float | None) -> None:
    values = iter([1.0, 1.0])
    watch = EnergyWatch(gpu_meter([gpu(lambda: next(values, told))], 1, ""))
    watch.start()
    watch.stop()
    assert watch.energy(3, 3) is None
    assert watch.why_not == "the energy counter did not count"
    assert clock.ns >= 0


def test_a_gpu_without_a_counter_says_so() -> None:
    assert gpu_meter([gpu(lambda: None, "cuda:3")], 1, "") == NoMeter(
        "cuda:3 has no energy counter (MIG instances and older GPUs have none)"
    )
    assert gpu_meter([], 1, "nvidia-ml-py is not installed") == NoMeter("nvidia-ml-py is not installed")
    watch = EnergyWatch(NoMeter("there is none"))
    watch.start()
    watch.between()
    watch.stop()
    assert (watch.energy(1, 1), watch.why_not) == (None, "there is none")


def test_without_a_timed_pass_there_is_no_energy(clock: Clock) -> None:
    watch = EnergyWatch(gpu_meter([gpu(steps(clock, 10, 1))], 1, ""))
    watch.start()
    watch.stop()
    assert (watch.energy(0, 0), watch.why_not) == (None, "no request was timed")


def zone(folder: Path, name: str, called: str, energy_uj: str, most_uj: int = 1_000_000) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "name").write_text(f"{called}\n")
    (made / "energy_uj").write_text(energy_uj)
    (made / "max_energy_range_uj").write_text(str(most_uj))
    return made


def test_rapl_counts_packages_once_and_goes_round(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", "999000")
    second = zone(tmp_path, "intel-rapl:1", "package-1", "5")
    zone(tmp_path, "intel-rapl:0:0", "core", "700000")
    zone(tmp_path, "intel-rapl:2", "psys", "123")
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", "999000")  # the first package once more
    meter = host_meter(tmp_path)
    assert isinstance(meter, RaplMeter)
    assert meter.joules() == 0
    (first / "energy_uj").write_text("1000\n")  # it went round
    assert meter.joules() == pytest.approx(0.002)
    (second / "energy_uj").write_text("500005\n")
    assert meter.joules() == pytest.approx(0.502)
    (second / "energy_uj").unlink()
    assert meter.joules() is None


def test_without_rapl_there_is_none(tmp_path: Path) -> None:
    assert host_meter(tmp_path) == NoMeter("the processors have no RAPL counter")
    (zone(tmp_path, "intel-rapl:0", "package-0", "1") / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # unreadable, whoever runs the tests
    why = "RAPL's counters (energy_uj in /sys/class/powercap) can't be read by this user"
    assert host_meter(tmp_path) == NoMeter(why)


def test_a_counter_that_changes_once_has_no_period(clock: Clock) -> None:
    assert update_ns(gpu_meter([gpu(lambda: float(clock.ns > 1_000_000))], 1, "")) is None  # type: ignore[arg-type]


ONE = Energy("nvml", 100.0, 5.0, 10**9, 4, 8, 1e-3, 10**8)


def test_a_job_takes_what_its_ranks_gpus_take() -> None:
    job = energy_of_ranks([ONE, ONE])
    assert job is not None
    assert (per_request(job), per_token(job)) == (Amount(50.0, 2.5), Amount(25.0, 1.25))
    assert energy_of_ranks([ONE, None]) is None
    assert energy_of_ranks([Energy("rapl", 1, 0, 1, 1, 1, 0, 1)] * 2) is None, "it may be one machine's"
    assert per_token(Energy("nvml", 1, 0, 1, 1, 0, 0, 1)) is None
