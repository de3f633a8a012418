"""What a GPU is to us: its address, what it answers, and those that could be asked. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from gemma_trace.metadata import GpuState


@dataclass(frozen=True)
class GpuAddress:
    """Which GPU is meant.

    Attributes:
        device: as torch names it, `cuda:0`.
        maker: `nvidia` or `amd`.
        uuid: without a prefix; "" where torch doesn't tell it.
        bus: as in `0000:c1:00.0`; "" likewise.
    """

    device: str
    maker: str
    uuid: str = ""
    bus: str = ""


class Gpu(Protocol):
    """A GPU that answers.

    Attributes:
        device: as torch names it.
        source: who answers, `nvml` or `amdsmi`.
        resolution_joules: the step of its energy counter.
    """

    device: str
    source: str
    resolution_joules: float

    def state(self) -> GpuState:
        """Everything that the GPU reports at this moment."""

    def glance(self) -> GpuState:
        """Its clock and what holds it alone, which takes less time."""

    def energy_joules(self) -> float | None:
        """What it took since its driver was loaded; None where it doesn't count, or for others too."""


@dataclass(frozen=True)
class OpenedGpus:
    """The GPUs that could be asked.

    Attributes:
        why_not: why some or all could not; "" where all could.
    """

    gpus: tuple[Gpu, ...]
    why_not: str = ""


def others_among(pids: Collection[int], own: int | None = None) -> int:
    """How many processes are not this one, at least.

    In a container the driver names processes by numbers that are not ours: one of them is then taken for this one.

    >>> others_among([7, 8], own=8), others_among([7, 8], own=12), others_among([], own=12)
    (1, 1, 0)
    """
    own = os.getpid() if own is None else own
    return len(set(pids) - {own}) if own in pids else max(0, len(set(pids)) - 1)
