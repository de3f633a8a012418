"""What GPUs say of themselves: clocks, limits, errors, who else is on them, and the energy that they took.

Free of torch: a GPU is found by what torch says of it, its UUID or its place on the bus. Its number is another one here
where CUDA_VISIBLE_DEVICES hides some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from gemma_trace.machine import amd, nvidia
from gemma_trace.machine.gpu_types import Gpu, GpuAddress, OpenedGpus


@contextmanager
def opened_gpus(addresses: Sequence[GpuAddress]) -> Iterator[OpenedGpus]:
    """Ask these GPUs while the block runs; it never fails, whatever the driver or its library does."""
    with ExitStack() as undo:
        gpus: list[Gpu] = []
        reasons: list[str] = []
        for maker, module in (("nvidia", nvidia), ("amd", amd)):
            wanted = [address for address in addresses if address.maker == maker]
            if wanted:
                opened = module.opened(wanted, undo)
                gpus += opened.gpus
                reasons += [opened.why_not] if opened.why_not else []
        yield OpenedGpus(tuple(gpus), "; ".join(reasons))
