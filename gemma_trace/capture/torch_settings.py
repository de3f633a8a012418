"""What is set in torch for all of the process while a capture runs, and is as before afterwards."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.modes import chosen_cpus


@contextmanager
def torch_settings(config: CaptureConfig, device: torch.device) -> Iterator[None]:
    """While the block runs, torch has as many threads, and cuDNN tries its algorithms, as the options say.

    Where CPUs are chosen, all threads of the process run on those, and torch has no more threads than there are.
    A CUDA device is the current one meanwhile: it is that one's stream on which events are recorded.
    """
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    cpus = chosen_cpus(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif cpus is not None:
        torch.set_num_threads(min(threads, len(cpus)))
    if config.cudnn_benchmark:
        torch.backends.cudnn.benchmark = True
    try:
        with _running_on(cpus), torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _running_on(cpus: frozenset[int] | None) -> Iterator[None]:
    """Every thread that the process has, and so those that they start, runs on these CPUs alone; None is as it is."""
    before: dict[int, set[int]] = {}
    if cpus is not None:
        for task in Path("/proc/self/task").iterdir():
            with suppress(OSError):  # the thread has ended meanwhile
                before[int(task.name)] = os.sched_getaffinity(int(task.name))
                os.sched_setaffinity(int(task.name), cpus)
    try:
        yield
    finally:
        if cpus is not None:
            _set_free(before)


def _set_free(before: dict[int, set[int]]) -> None:
    """Each thread as it was; those that were started meanwhile as the one that calls."""
    main_cpus = before[threading.get_native_id()]
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            os.sched_setaffinity(int(task.name), before.get(int(task.name), main_cpus))
