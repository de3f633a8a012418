"""What can be told of a capture's files and CPUs before torch is imported, which takes seconds."""

from __future__ import annotations

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.modes import chosen_cpus
from gemma_trace.errors import ImageError
from gemma_trace.requests_file import read_requests


def check_files(config: CaptureConfig) -> None:
    """Refuse files that aren't there, and CPUs on which the process may not run.

    Raises:
        UnreadableError: the file of requests can't be read.
        ImageError: an image isn't there.
        ConfigError: a request is on the network, or a CPU can't be had.
    """
    requests = config.requests
    if requests is not None and (requests.is_file() or not requests.exists()):  # a pipe can be read but once
        read_requests(requests, config.online)
    for path in config.images:
        if not path.exists():
            raise ImageError(f"no image at {path}; check --image")
    chosen_cpus(config)
