"""Energy over a stretch of time, from counters that only ever grow: those of GPUs, and RAPL's of the processors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Protocol

from gemma_trace.machine.gpu_types import Gpu
from gemma_trace.metadata import Energy

POWERCAP: Final = Path("/sys/class/powercap")
"""Where Linux has RAPL's counters, those of AMD's processors too."""

LONGEST_WATCH_NS: Final = 500_000_000
"""How long a counter is watched to see how often it changes. GPUs renew theirs every 10 to 100 ms, RAPL every ms."""

_CHANGES: Final = 3


class Meter(Protocol):
    """Counters that are read together.

    Attributes:
        source: as in `Energy`.
        resolution_joules: their step, of all together.
    """

    source: str
    resolution_joules: float

    def joules(self) -> float | None:
        """Joules since an arbitrary instant; it has to be asked before any of its counters has gone round twice."""


@dataclass(frozen=True)
class NoMeter:
    """There is no counter.

    Attributes:
        why: in a few words.
    """

    why: str


class GpuMeter:
    """The counters of GPUs, summed up."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self._gpus = gpus
        self.source = gpus[0].source
        self.resolution_joules = sum(gpu.resolution_joules for gpu in gpus)

    def joules(self) -> float | None:
        """Since the drivers were loaded; None where one of them doesn't tell."""
        told = [gpu.energy_joules() for gpu in self._gpus]
        known = [joules for joules in told if joules is not None]
        return sum(known) if len(known) == len(told) else None


class RaplMeter:
    """RAPL's counters of all processor packages, without those of their parts, which are in them."""

    source = "rapl"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = packages
        self._rounds_uj = [_number(package / "max_energy_range_uj") or 0 for package in packages]
        self._last_uj = [0] * len(packages)
        self._first = True
        self._sum_uj = 0
        self.resolution_joules = 1e-6 * len(packages)

    def joules(self) -> float | None:
        """Since it was asked first; None where a counter can't be read."""
        read = [_number(package / "energy_uj") for package in self._packages]
        now_uj = [value for value in read if value is not None]
        if len(now_uj) < len(read):
            return None
        if not self._first:
            steps = zip(now_uj, self._last_uj, self._rounds_uj, strict=True)
            self._sum_uj += sum(now - last if now >= last else now - last + rounds for now, last, rounds in steps)
        self._first, self._last_uj = False, now_uj
        return self._sum_uj / 1e6


def gpu_meter(gpus: Sequence[Gpu], wanted: int, why_not: str) -> Meter | NoMeter:
    """The meter of a model's GPUs.

    Args:
        wanted: how many GPUs the model is on.
        why_not: why some can't be asked.
    """
    if len(gpus) < wanted:
        return NoMeter(why_not or "not every GPU of the model can be read")
    if dumb := [gpu.device for gpu in gpus if gpu.energy_joules() is None]:
        return NoMeter(f"{', '.join(dumb)} has no energy counter (MIG instances and older GPUs have none)")
    return GpuMeter(gpus)


def host_meter(powercap: Path | None = None) -> Meter | NoMeter:
    """The meter of the host's processors."""
    folder = POWERCAP if powercap is None else powercap
    packages = [zone for zone in sorted(folder.glob("*rapl:*")) if _text(zone / "name").startswith("package")]
    if not packages:
        return NoMeter("the processors have no RAPL counter")
    if any(_number(package / "energy_uj") is None for package in packages):
        return NoMeter("RAPL's counters (energy_uj in /sys/class/powercap) can't be read by this user")
    return RaplMeter(packages)


def update_ns(meter: Meter) -> int | None:
    """The longest time between two changes of a counter, of the first few; None where there aren't two."""
    began_ns = time.perf_counter_ns()
    last, changes_ns = meter.joules(), list[int]()
    while len(changes_ns) <= _CHANGES and (now_ns := time.perf_counter_ns()) - began_ns < LONGEST_WATCH_NS:
        if (joules := meter.joules()) != last:
            last = joules
            changes_ns.append(now_ns)
        time.sleep(2e-4)
    return max((later - sooner for sooner, later in pairwise(changes_ns)), default=None)


class EnergyWatch:
    """Reads a meter at both ends of a stretch of time, and in between as often as it is told to."""

    def __init__(self, meter: Meter | NoMeter) -> None:
        self._meter = meter if not isinstance(meter, NoMeter) else None
        self.why_not = meter.why if isinstance(meter, NoMeter) else ""

    def start(self) -> None:
        """The stretch begins."""
        self._before = self._joules()
        self._began_ns = time.perf_counter_ns()

    def between(self) -> None:
        """Read the counters, so that none goes round twice unseen."""
        self._joules()

    def stop(self) -> None:
        """The stretch ends."""
        self._after = self._joules()
        self._ended_ns = time.perf_counter_ns()

    def energy(self, requests: int, tokens: int) -> Energy | None:
        """What the stretch took; the counter is watched for half a second at most, to see how often it changes.

        Args:
            requests, tokens: what was done in it.

        Returns:
            None where there is no counter, or it doesn't count; `why_not` says so then.
        """
        if self._meter is None or not requests:
            self.why_not = self.why_not or "no request was timed"
            return None
        period_ns = update_ns(self._meter)
        if self._before is None or self._after is None or period_ns is None or self._after < self._before:
            self.why_not = "the energy counter did not count"
            return None
        joules, duration_ns = self._after - self._before, max(self._ended_ns - self._began_ns, 1)
        return Energy(
            source=self._meter.source,
            joules=joules,
            uncertainty_joules=joules / duration_ns * period_ns + self._meter.resolution_joules,
            duration_ns=duration_ns,
            requests=requests,
            tokens=tokens,
            resolution_joules=self._meter.resolution_joules,
            update_ns=period_ns,
        )

    def _joules(self) -> float | None:
        return None if self._meter is None else self._meter.joules()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
