"""What a machine does beside what is measured: other load, its clock, its temperature; and drift over the trials."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from gemma_trace.analysis.student_t import two_sided_p

BUSY_SHARE: Final = 0.25
"""Load of others, as a share of the cores, from which it is worth a warning."""

THROTTLED_SHARE: Final = 0.9
"""A clock below this share of the fastest that was seen is throttled, or saves power."""

HOT_CELSIUS: Final = 90.0
"""What processors begin to slow down at, give or take the maker."""

DRIFT_PCT: Final = 2.0
"""A trend over all trials that is smaller is nothing to speak of."""


@dataclass(frozen=True)
class Conditions:
    """The machine just before a trial; None for what can't be read.

    Attributes:
        load: processes that run or wait to, averaged over the last minute by the kernel.
        mhz: the median clock of the cores.
        celsius: the hottest sensor.
        gpu_mhz, gpu_celsius: of the hottest GPU, through NVML.
    """

    load: float | None = None
    mhz: float | None = None
    celsius: float | None = None
    gpu_mhz: float | None = None
    gpu_celsius: float | None = None


def read_conditions() -> Conditions:
    """What can be read of this machine now."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    clocks = [value / 1e3 for value in _numbers("/sys/devices/system/cpu", "cpu[0-9]*/cpufreq/scaling_cur_freq")]
    heats = [value / 1e3 for value in _numbers("/sys/class/thermal", "thermal_zone*/temp")]
    gpu_mhz, gpu_celsius = _gpu()
    return Conditions(load, median(clocks) if clocks else None, max(heats, default=None), gpu_mhz, gpu_celsius)


def remarks(trials: Sequence[Conditions], cores: int) -> Iterator[str]:
    """What speaks against a comparison's figures, a line each.

    Args:
        trials: the conditions before each trial that was run now.
    """
    # The load before the first trial is that of others; later on most of it is our own.
    if trials and trials[0].load is not None and trials[0].load > BUSY_SHARE * cores:
        yield (
            f"other processes were running, with a load of {trials[0].load:.1f} on {cores} cores before the first "
            f"trial; this widens the intervals"
        )
    for what, clocks in (("the cores'", [t.mhz for t in trials]), ("the GPU's", [t.gpu_mhz for t in trials])):
        known = [clock for clock in clocks if clock]
        if known and min(known) < THROTTLED_SHARE * max(known):
            yield f"{what} clock went from {max(known):.0f} down to {min(known):.0f} MHz between trials"
    for what, heats in (("a sensor", [t.celsius for t in trials]), ("the GPU", [t.gpu_celsius for t in trials])):
        hottest = max((heat for heat in heats if heat is not None), default=0.0)
        if hottest >= HOT_CELSIUS:
            yield f"{what} was at {hottest:.0f} °C, where processors slow down"


def drift_remark(times_ms: Mapping[str, Sequence[tuple[int, float]]]) -> str | None:
    """Whether what was measured went up or down over the trials, whichever configuration it was of.

    A line is fitted to the logarithms over the trials' places in the order they were run, each less its arm's mean.

    Args:
        times_ms: by arm, (place in the order, ms).
    """
    places: list[float] = []
    values: list[float] = []
    trials: list[int] = []
    for measured in times_ms.values():
        known = [(place, ms) for place, ms in measured if ms > 0]
        if len(known) > 1:
            at, logs = np.array([place for place, _ in known]), np.log([ms for _, ms in known])
            trials += at.tolist()
            places += (at - at.mean()).tolist()
            values += (logs - logs.mean()).tolist()
    n = len(values)
    df = n - 1 - len(times_ms)
    if df < 2:
        return None
    x, y = np.asarray(places), np.asarray(values)
    slope = float((x @ y) / (x @ x))
    error = float(np.sqrt(max(0.0, ((y - slope * x) ** 2).sum()) / df / (x @ x)))
    total_pct = 100 * (np.exp(slope * (max(trials) - min(trials))) - 1)
    if abs(total_pct) < DRIFT_PCT or (error > 0 and two_sided_p(slope / error, df) > 0.05):
        return None
    return (
        f"times drifted by {total_pct:+.1f}% from the first trial to the last; rounds are compared within themselves, "
        "so the difference is valid, but let the machine warm up or cool down first"
    )


def _numbers(folder: str, pattern: str) -> list[float]:
    numbers = []
    for path in Path(folder).glob(pattern):
        try:
            numbers.append(float(path.read_text()))
        except (OSError, ValueError):  # a sensor that is there and can't be read says nothing
            continue
    return numbers


def _gpu() -> tuple[float | None, float | None]:
    """(clock in MHz, temperature in °C) of the hottest GPU; nothing where NVML isn't there."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return None, None
    try:
        pynvml.nvmlInit()
        devices = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        read = [
            (
                float(pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU)),
                float(pynvml.nvmlDeviceGetClockInfo(device, pynvml.NVML_CLOCK_SM)),
            )
            for device in devices
        ]
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None, None
    celsius, mhz = max(read, default=(None, None))
    return mhz, celsius
