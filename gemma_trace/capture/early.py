"""What can be told of a capture's files, names and CPUs before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from gemma_trace.capture import require
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.model_kinds import check_adapter, check_assistant, check_model
from gemma_trace.capture.modes import chosen_cpus
from gemma_trace.errors import ImageError
from gemma_trace.requests_file import read_requests


def check_early(config: CaptureConfig) -> None:
    """Refuse files and models that aren't there, and CPUs on which the process may not run.

    Raises:
        UnreadableError: the file of requests can't be read.
        ImageError: an image isn't there.
        ModelError: there is no such model, adapter or assistant.
        MissingExtraError: a package is missing that an option requires.
        ConfigError: a request is on the network, or a CPU can't be had.
    """
    check_names(config)
    requests = config.requests
    if requests is not None and (requests.is_file() or not requests.exists()):  # a pipe can be read but once
        read_requests(requests, config.online)
    for path in config.images:
        check_image(path)
    chosen_cpus(config)


def check_names(config: CaptureConfig) -> None:
    """Refuse a model, an adapter or an assistant that isn't there, as far as this machine can tell.

    Raises:
        ModelError: naming the option.
        MissingExtraError: a package is missing that an option requires.
    """
    check_model(config.model, config.model_label)
    if config.assistant is not None:
        check_assistant(config.assistant, Path(config.assistant).name)
    if config.adapter is not None:
        require("peft", "adapter")
        check_adapter(config.adapter)
    if config.quantize is not None:
        require("bitsandbytes", "quantize")


def check_image(path: Path) -> None:
    """Refuse what isn't there, and what is no file.

    Raises:
        ImageError: naming it.
    """
    if not path.exists():
        if path.parts[0].lower() in ("http:", "https:"):
            raise ImageError("--image takes files; give --requests FILE and --online to have images of URLs fetched")
        raise ImageError(f"no image at {path}; check --image")
    if not path.is_file():
        raise ImageError(f"{path} is a folder or a device, not an image; give --image a JPEG or PNG file")
