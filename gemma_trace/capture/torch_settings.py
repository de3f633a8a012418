"""What is set in torch for all of the process while a capture runs, and is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from gemma_trace.capture.config import CaptureConfig


@contextmanager
def torch_settings(config: CaptureConfig, device: torch.device) -> Iterator[None]:
    """While the block runs, torch has as many threads, and cuDNN tries its algorithms, as the options say.

    A CUDA device is the current one meanwhile: it is that one's stream on which events are recorded.
    """
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.cudnn_benchmark:
        torch.backends.cudnn.benchmark = True
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
