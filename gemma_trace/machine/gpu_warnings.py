"""What GPUs did during the timed pass that makes its times hard to repeat, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gemma_trace.metadata import GpuRecord

MOVED_SHARE: Final = 0.95
"""A clock that was below this share of its highest in one pass has moved."""


def gpu_warnings(gpus: Sequence[GpuRecord]) -> Iterator[str]:
    """Warnings about what makes times hard to repeat."""
    for gpu in gpus:
        yield from _of_clocks(gpu)
        if gpu.throttled:
            yield f"{gpu.device} was throttled during the timed pass: {', '.join(gpu.throttled)}; check its cooling"
        if others := max(gpu.before.other_processes or 0, gpu.after.other_processes or 0):
            yield (
                f"{others} other process{'es' if others > 1 else ''} computed on {gpu.device}; end those that "
                f"aren't needed"
            )
        if gpu.before.mig:
            yield (
                f"{gpu.device} is split by MIG; its clocks and limits are those of the whole GPU, which others may use"
            )
        yield from _of_errors(gpu)


def _of_clocks(gpu: GpuRecord) -> Iterator[str]:
    least, most = gpu.sm_mhz_least, gpu.sm_mhz_most
    if least is not None and most and least < MOVED_SHARE * most:
        yield (
            f"the clock of {gpu.device} moved between {least} and {most} MHz during the timed pass; lock it with "
            "nvidia-smi --lock-gpu-clocks, or time more requests"
        )
    before, after = gpu.before.memory_mhz, gpu.after.memory_mhz
    if before is not None and after is not None and before != after:
        yield f"the memory clock of {gpu.device} went from {before} to {after} MHz during the timed pass"


def _of_errors(gpu: GpuRecord) -> Iterator[str]:
    for kind in ("corrected", "uncorrected"):
        before, after = (getattr(state, f"{kind}_errors") for state in (gpu.before, gpu.after))
        if before is not None and after is not None and after > before:
            yield f"{gpu.device} had {after - before} {kind} memory errors during the timed pass; have it checked"
