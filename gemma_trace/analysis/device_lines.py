"""What each device did for every stage, and for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_trace.analysis.devices import DeviceUse, label_of_device

ALL_STAGES = "all stages"


@dataclass(frozen=True)
class DeviceLine:
    """What one device did for one stage, or for all.

    Attributes:
        wall_ns: of the requests.
    """

    use: DeviceUse
    wall_ns: int

    @property
    def label(self) -> str:
        """What the device is called in a table."""
        return label_of_device(self.use.device)

    @property
    def busy_pct(self) -> float | None:
        """How much of the wall time it was busy, in percent; None where that is 0."""
        return 100 * self.use.device_busy_ns / self.wall_ns if self.wall_ns else None


def device_lines(devices: Sequence[DeviceUse], wall_ns: int) -> list[DeviceLine]:
    """A line per device and stage, and one per device for all stages where it worked for several.

    Args:
        wall_ns: of the requests that they are of.
    """
    lines = []
    for device in dict.fromkeys(use.device for use in devices):
        uses = [use for use in devices if use.device == device]
        lines += [
            DeviceLine(use, wall_ns) for use in ([*uses, summed_use(uses, ALL_STAGES)] if len(uses) > 1 else uses)
        ]
    return lines


def summed_use(devices: Sequence[DeviceUse], stage: str) -> DeviceUse:
    """Rows summed up, under the first one's device."""
    return DeviceUse(
        devices[0].device,
        devices[0].name,
        stage,
        sum(use.device_busy_ns for use in devices),
        sum(use.device_sum_ns for use in devices),
        sum(use.activities for use in devices),
    )
