"""What is set in torch for all of the process while a capture runs, and is as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gemma_trace.capture.config import CaptureConfig


@contextmanager
def torch_settings(config: CaptureConfig) -> Iterator[None]:
    """While the block runs, torch has as many threads, and cuDNN tries its algorithms, as the options say."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.cudnn_benchmark:
        torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = benchmark
