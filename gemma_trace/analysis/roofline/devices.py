"""Peak rates of devices, by the names that their drivers give them. What isn't in the table has none.

Rates are those of the maker's data sheets, at the boost clock and without sparsity: what the silicon can do at most, a
bound and not an expectation. A device that clocks higher would do more; an H100 SXM's limit is 8% above the 1.83 GHz
that its rates are of. A device that is sliced (MIG) or renamed has another name and isn't matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gemma_trace.trace.trace import Trace

ANY_DEVICE: Final = "*"
"""The name of peaks, of the user's own, that hold for whatever device the trace is of."""


@dataclass(frozen=True)
class Peaks:
    """What a device can do at most.

    Attributes:
        names: as `deviceProperties` and `torch.cuda.get_device_name` give them.
        memory_gb_per_s: of its memory, 10⁹ bytes a second.
        cache_mb: its last-level cache, 10⁶ bytes: what one op may leave there for the next.
        tflops: pairs of a dtype and the dense rate of matrix products in it, 10¹² FLOP a second; `tf32` is that of
            float32 matrices multiplied in TF32 (AMD: XF32), `float32` the rate without it.
        source: where the figures stand.
        note: what has to be said of them.
    """

    names: tuple[str, ...]
    memory_gb_per_s: float
    cache_mb: float
    tflops: tuple[tuple[str, float], ...]
    source: str
    note: str = ""

    @property
    def bytes_per_ns(self) -> float:
        """The memory's rate in bytes a nanosecond, which is the same number as GB/s."""
        return self.memory_gb_per_s

    @property
    def cache_bytes(self) -> float:
        """The cache's size."""
        return self.cache_mb * 1e6

    def flops_per_ns(self, dtype: str, *, without_tf32: bool = False) -> float | None:
        """The rate of matrix products in a dtype, FLOP a nanosecond; None where there is no figure.

        Args:
            without_tf32: float32 is known to be multiplied as such. Else it takes the faster of the two rates, since
                a trace doesn't say whether TF32 was allowed, and a bound has to hold either way.
        """
        rates = dict(self.tflops)
        found = rates.get(dtype)
        if dtype == "float32" and not without_tf32 and "tf32" in rates:
            found = max(found or 0.0, rates["tf32"])
        return None if found is None else found * 1e3


def _rates(half: float, *, bfloat16: bool = True, **others: float) -> tuple[tuple[str, float], ...]:
    """Pairs of dtype and TFLOP/s; bfloat16 has float16's rate, where the device knows it."""
    return (("float16", half), *((("bfloat16", half),) if bfloat16 else ()), *others.items())


_V100: Final = "NVIDIA Tesla V100 GPU data sheet, January 2020"
_A100: Final = "NVIDIA A100 Tensor Core GPU data sheet, June 2021"
_H100: Final = "NVIDIA H100 Tensor Core GPU architecture white paper, without sparsity"
_ADA: Final = "NVIDIA Ada GPU architecture white paper V2, appendices A and C, without sparsity"
_MI200: Final = "AMD Instinct MI200 series data sheet, and CDNA 2 white paper"
_MI300: Final = "AMD CDNA 3 white paper, and the data sheets of the AMD Instinct MI300X and MI325X"

_A100_RATES: Final = _rates(312, float64=19.5, float32=19.5, tf32=156, int8=624)
_H100_SXM_RATES: Final = _rates(989.4, float64=66.9, float32=66.9, tf32=494.7, float8=1978.9, int8=1978.9)
_H100_NVL_RATES: Final = _rates(835.5, float64=60, float32=60, tf32=417.5, float8=1671, int8=1671)
_CDNA3_RATES: Final = _rates(1307.4, float64=163.4, float32=163.4, tf32=653.7, float8=2614.9, int8=2614.9)

DEVICES: Final[tuple[Peaks, ...]] = (
    Peaks(
        ("Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB"),
        900,
        6.3,
        _rates(125, bfloat16=False, float64=7.8, float32=15.7),
        _V100,
    ),
    Peaks(
        ("Tesla V100-PCIE-16GB", "Tesla V100-PCIE-32GB"),
        900,
        6.3,
        _rates(112, bfloat16=False, float64=7, float32=14),
        _V100,
    ),
    Peaks(
        ("Tesla V100S-PCIE-32GB",),
        1134,
        6.3,
        _rates(130, bfloat16=False, float64=8.2, float32=16.4),
        _V100,
    ),
    Peaks(
        ("Tesla T4",),
        320,
        4.2,
        _rates(65, bfloat16=False, float32=8.1, int8=130),
        "NVIDIA T4 Tensor Core GPU data sheet, and Turing architecture white paper, appendix A",
    ),
    Peaks(
        ("NVIDIA A10",),
        600,
        6.3,
        _rates(125, float32=31.2, tf32=62.5, int8=250),
        "NVIDIA A10 Tensor Core GPU data sheet, without sparsity",
    ),
    Peaks(
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100-PG509-200"),
        1555,
        41.9,
        _A100_RATES,
        _A100,
        "PG509-200 has the device id (20B0) and the memory of the A100-SXM4-40GB",
    ),
    Peaks(("NVIDIA A100 80GB PCIe",), 1935, 41.9, _A100_RATES, _A100),
    Peaks(("NVIDIA A100-SXM4-80GB",), 2039, 41.9, _A100_RATES, _A100),
    Peaks(
        ("NVIDIA L4",),
        300,
        50.3,
        _rates(121, float32=30.3, tf32=60, float8=242, int8=242),
        "NVIDIA L4 Tensor Core GPU data sheet, halved where it counts sparsity",
    ),
    Peaks(
        ("NVIDIA L40S",),
        864,
        100.7,
        _rates(362, float32=91.6, tf32=183, float8=733, int8=733),
        "NVIDIA L40S data sheet, without sparsity",
    ),
    Peaks(
        ("NVIDIA GeForce RTX 4090",),
        1008,
        75.5,
        (
            ("float16", 330.3),
            ("bfloat16", 165.2),
            ("float32", 82.6),
            ("tf32", 82.6),
            ("float8", 660.6),
            ("int8", 660.6),
        ),
        _ADA,
        "float16 and float8 are the rates with FP16 accumulation, twice those with FP32",
    ),
    Peaks(
        ("NVIDIA H100 PCIe",),
        2039,
        52.4,
        _rates(756, float64=51.2, float32=51.2, tf32=378, float8=1513, int8=1513),
        _H100,
    ),
    Peaks(("NVIDIA H100 80GB HBM3",), 3352, 52.4, _H100_SXM_RATES, _H100),
    Peaks(("NVIDIA H100 NVL",), 3938, 52.4, _H100_NVL_RATES, "NVIDIA H100 NVL data sheet, without sparsity"),
    Peaks(("NVIDIA H200",), 4800, 52.4, _H100_SXM_RATES, "NVIDIA H200 Tensor Core GPU data sheet, without sparsity"),
    Peaks(("NVIDIA H200 NVL",), 4800, 52.4, _H100_NVL_RATES, "NVIDIA H200 NVL data sheet, without sparsity"),
    Peaks(
        ("NVIDIA B200",),
        8000,
        132.6,
        _rates(2250, float64=40, float32=80, tf32=1125, float8=4500, int8=4500),
        "NVIDIA Blackwell architecture technical brief, HGX B200, without sparsity",
    ),
    Peaks(
        ("AMD Instinct MI210",),
        1638.4,
        8.4,
        _rates(181, float64=45.3, float32=45.3, int8=181),
        _MI200,
    ),
    Peaks(
        ("AMD Instinct MI250X", "AMD Instinct MI250X / MI250"),
        1638.4,
        8.4,
        _rates(191.5, float64=47.9, float32=47.9, int8=191.5),
        _MI200,
        "one of the two dies, which is what a program sees as a device; an MI250 that is named so does 5% less",
    ),
    Peaks(("AMD Instinct MI300X",), 5325, 268.4, _CDNA3_RATES, _MI300),
    Peaks(("AMD Instinct MI325X",), 6000, 268.4, _CDNA3_RATES, _MI300),
)
"""Known devices. Caches: NVIDIA's is the L2, AMD's the Infinity Cache where there is one; the makers count them in MiB.

FP32 and FP64 rates are the higher of those of the vector and the matrix units.
"""

_BY_NAME: Final = {name: peaks for peaks in DEVICES for name in peaks.names}


@dataclass(frozen=True)
class DevicePeaks:
    """What a trace's device can do, as far as that is known.

    Attributes:
        device: its name; several names where the trace has work of different kinds of devices; "" where it has none.
        peaks: None where there are none to hold the trace against.
        note: a line: the rates and where they are from, or why there are none and what to do.
    """

    device: str
    peaks: Peaks | None
    note: str


def known_peaks(name: str, own: Sequence[Peaks] = ()) -> Peaks | None:
    """The peaks of the device of this name: the user's own first, then the table's; None for an unknown one.

    NVIDIA's drivers used to leave their maker's name out ("A100-SXM4-40GB"); that is the same device.
    """
    for peaks in own:
        if name in peaks.names:
            return peaks
    found = _BY_NAME.get(name) or _BY_NAME.get(f"NVIDIA {name}")
    return found or next((peaks for peaks in own if ANY_DEVICE in peaks.names), None)


def device_peaks(trace: Trace, own: Sequence[Peaks] = (), on: Literal["device", "host"] | None = None) -> DevicePeaks:
    """What to hold a trace against: never assumed, always by the name of the device that worked.

    Args:
        own: the user's own peaks, e.g. of a CPU.
        on: whether the work is a device's or the host's; None is the device's, where one worked.
    """
    on = on or ("device" if len(trace.activities) else "host")
    names = _names(trace, on)
    shown = ", ".join(names)
    if len(names) > 1:
        return DevicePeaks(shown, None, f"work on different kinds of devices ({shown}): no floor for a mixture")
    name = names[0] if names else ""
    peaks = known_peaks(name, own)
    if peaks is not None:
        return DevicePeaks(name, peaks, _described(name, peaks))
    if own:
        given = ", ".join(each for peaks in own for each in peaks.names)
        return DevicePeaks(name, None, f"the trace's device is {name or 'not named'}, --peaks has {given}: no floor")
    if on == "host":
        of = name or "this CPU"
        mend = "gemma-trace doctor --measure -o peaks.toml measures them, --peaks peaks.toml takes them"
        return DevicePeaks(name, None, f"no peak rates of {of}; {mend}")
    if not name:
        return DevicePeaks(name, None, "the trace doesn't name its device: no floor; --peaks FILE gives peak rates")
    return DevicePeaks(name, None, f"no peak rates are known of {name}: no floor; --peaks FILE gives them")


def _names(trace: Trace, on: str) -> list[str]:
    """The distinct names of what did the work: the trace's devices, or its host's CPU."""
    metadata = trace.metadata
    if on == "host":
        return [metadata.environment.host_cpu] if metadata else []
    used = set(np.unique(trace.spans.device[trace.activities]).tolist())
    named = [name for index, name in sorted(trace.devices.items()) if index in used]
    if not named and len(set(trace.devices.values())) == 1:  # listed by another numbering, but all of one kind
        named = [*trace.devices.values()]
    if not named and metadata and metadata.run.device != "cpu":
        named = [metadata.environment.device_name]
    return list(dict.fromkeys(named))


def _described(name: str, peaks: Peaks) -> str:
    rates = ", ".join(f"{dtype} {rate:,.4g}" for dtype, rate in peaks.tflops)
    line = f"{name or 'device'}: {rates} TFLOP/s; {peaks.memory_gb_per_s:,.4g} GB/s ({peaks.source})"
    return f"{line}; {peaks.note}" if peaks.note else line
