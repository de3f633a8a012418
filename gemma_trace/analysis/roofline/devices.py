"""The peak rates of a trace's device, by the name that its driver gives it. What isn't in the table has none.

A device that is sliced (MIG) or renamed has another name and isn't matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gemma_trace.analysis.roofline.device_table import DEVICES
from gemma_trace.peaks import ANY_DEVICE, Peaks
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

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


def known_peaks(name: str, user_peaks: Sequence[Peaks] = ()) -> Peaks | None:
    """The peaks of the device of this name: the user's own first, then the table's; None for an unknown one.

    NVIDIA's drivers used to leave their maker's name out ("A100-SXM4-40GB"); that is the same device.
    """
    for peaks in user_peaks:
        if name in peaks.names:
            return peaks
    listed = _BY_NAME.get(name) or _BY_NAME.get(f"NVIDIA {name}")
    return listed or next((peaks for peaks in user_peaks if ANY_DEVICE in peaks.names), None)


def device_peaks(
    trace: Trace, user_peaks: Sequence[Peaks] = (), on: Literal["device", "host"] | None = None
) -> DevicePeaks:
    """What to hold a trace against: never assumed, always by the name of the device that worked.

    Args:
        user_peaks: the user's own peaks, e.g. of a CPU.
        on: whether the work is a device's or the host's; None is the device's, where one worked.
    """
    on = on or ("device" if len(trace.activities) else "host")
    names = _names(trace, on)
    shown = ", ".join(names)
    if len(names) > 1:
        return DevicePeaks(
            shown, None, f"work on different kinds of devices ({shown}): there is no floor for a mixture"
        )
    name = names[0] if names else ""
    peaks = known_peaks(name, user_peaks)
    if peaks is not None:
        return DevicePeaks(name, peaks, _described(name, peaks))
    if user_peaks:
        given = ", ".join(each for peaks in user_peaks for each in peaks.names)
        return DevicePeaks(
            name, None, f"the trace's device is {name or 'not named'}, and --peaks has {given}, so there is no floor"
        )
    if on == "host":
        of = name or "this CPU"
        mend = "measure them with gemma-trace doctor --measure -o peaks.toml, and give --peaks peaks.toml"
        return DevicePeaks(name, None, f"no peak rates of {of}; {mend}")
    if not name:
        return DevicePeaks(
            name, None, "the trace does not name its device, so there is no floor; give peak rates with --peaks FILE"
        )
    return DevicePeaks(
        name, None, f"the peak rates of {name} are unknown, so there is no floor; give them with --peaks FILE"
    )


def _names(trace: Trace, on: str) -> list[str]:
    """The distinct names of what did the work: the trace's devices, or its host's CPU."""
    metadata = trace.metadata
    if on == "host":
        return [metadata.environment.host_cpu] if metadata else []
    used = set(distinct(trace.spans.device[trace.activities]).tolist())
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
