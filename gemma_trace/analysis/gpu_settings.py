"""Whether the GPUs of two sides of a comparison ran under the same conditions: clocks, limits, errors, neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from gemma_trace.metadata import GpuRecord, RunMetadata

CLOCK_SHARE: Final = 0.03
"""Clocks that differ by no more of the higher one are the same: GPUs choose theirs in steps of 15 MHz."""

_SETTINGS: Final[dict[str, Callable[[GpuRecord], Any]]] = {
    "GPU memory clock": lambda gpu: _with_unit(gpu.after.memory_mhz, "MHz"),
    "GPU power limit": lambda gpu: _with_unit(_watts(gpu.after.power_limit_mw), "W"),
    "GPU throttled by": lambda gpu: None if gpu.throttled is None else " and ".join(gpu.throttled) or "nothing",
    "GPU ECC": lambda gpu: _switch(gpu.after.ecc),
    "GPU MIG": lambda gpu: _switch(gpu.after.mig),
    "GPU shared with others": lambda gpu: _shared(gpu.before.other_processes, gpu.after.other_processes),
}

GPU_SETTINGS: Final = ("GPU clock", *_SETTINGS)
"""What may differ, by name; the texts are of numbers and words of ours."""


def differing_gpus(before: Iterable[RunMetadata | None], after: Iterable[RunMetadata | None]) -> Iterator[str]:
    """What both sides know and don't agree on, a line each; a side is all of its processes."""
    sides = [[gpu for metadata in side if metadata for gpu in metadata.gpus] for side in (before, after)]
    clocks = [_clocks(gpus) for gpus in sides]
    if clocks[0] and clocks[1] and any(map(_differ, clocks[0], clocks[1])):
        yield f"GPU clock: {_range(clocks[0])} → {_range(clocks[1])}"
    for name, told in _SETTINGS.items():
        earlier, later = ([*dict.fromkeys(value for gpu in gpus if (value := told(gpu)) is not None)] for gpus in sides)
        if earlier and later and set(earlier) != set(later):
            yield f"{name}: {', '.join(earlier)} → {', '.join(later)}"


def _clocks(gpus: Sequence[GpuRecord]) -> tuple[int, int] | None:
    """The lowest and the highest that any had, in MHz."""
    known = [(gpu.sm_mhz_least, gpu.sm_mhz_most) for gpu in gpus]
    least = [low for low, _ in known if low is not None]
    most = [high for _, high in known if high is not None]
    return (min(least), max(most)) if least and most else None


def _differ(before: int, after: int) -> bool:
    return abs(before - after) > CLOCK_SHARE * max(before, after)


def _range(clocks: tuple[int, int]) -> str:
    least, most = clocks
    return f"{most} MHz" if least == most else f"{least} to {most} MHz"


def _with_unit(value: int | None, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def _watts(milliwatts: int | None) -> int | None:
    return None if milliwatts is None else round(milliwatts / 1e3)


def _switch(is_on: bool | None) -> str | None:
    return None if is_on is None else "on" if is_on else "off"


def _shared(before: int | None, after: int | None) -> str | None:
    return None if before is None and after is None else "yes" if before or after else "no"
