"""Times that our plugin in a server's process wrote beside its trace: what the profiler doesn't record there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_trace.errors import TraceFormatError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.opening import opened

PATTERN: Final = "gemma_trace_stamps.*.jsonl"
"""What the files are called, with the process's id for the star."""


@dataclass(frozen=True, order=True)
class Stamp:
    """A call in a server's process.

    Attributes:
        start_ns, end_ns: ns since 1970.
        stage: the stage that it is; `step` for a step of the engine.
        request_ids: the requests that a step is of, as the engine calls them.
    """

    start_ns: int
    end_ns: int
    stage: str
    request_ids: tuple[str, ...] = ()


def read_stamps(path: Path) -> list[Stamp]:
    """The stamps of a file; a last line that was cut off is left out.

    Raises:
        TraceFormatError: it is no file of stamps.
        OSError: it can't be read.
    """
    with opened(path) as file:
        *lines, _ = file.read().split(b"\n")
    try:
        return [decoded(line, Stamp) for line in lines]
    except UnreadableValueError as error:
        raise TraceFormatError(f"{path} is no file of the vLLM plugin's: {error}; remove it") from error
