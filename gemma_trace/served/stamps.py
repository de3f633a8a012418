"""Times that our plugin in a server's process wrote beside its trace: what the profiler doesn't record there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from gemma_trace.errors import TraceFormatError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.opening import opened

PATTERN: Final = "gemma_trace_stamps.*.jsonl"
"""What the files are called, with the process's id, and the time, for the star."""

_PROCESS: Final = re.compile(r"(?:\d+-)?gemma_trace_stamps\.(\d{1,12})-")


@dataclass(frozen=True, order=True)
class Stamp:
    """A call in a server's process.

    Attributes:
        start_ns, end_ns: ns since 1970.
        stage: the stage that it is; `step` for a step of the engine.
        request_ids: the requests that a step is of, as the engine calls them.
        reading_ids: those of them whose prompt it reads.
        process: the id of the process that wrote it; 0 where the file's name doesn't say it.
    """

    start_ns: int
    end_ns: int
    stage: str
    request_ids: tuple[str, ...] = ()
    reading_ids: tuple[str, ...] = ()
    process: int = 0


def read_stamps(path: Path) -> list[Stamp]:
    """The stamps of a file; a last line that was cut off is left out.

    Raises:
        TraceFormatError: it is no file of stamps.
        OSError: it can't be read.
    """
    with opened(path) as file:
        *lines, _ = file.read().split(b"\n")
    named = _PROCESS.match(path.name)
    process = int(named[1]) if named else 0
    try:
        return [replace(decoded(line, Stamp), process=process) for line in lines]
    except UnreadableValueError as error:
        raise TraceFormatError(f"{path} is not a file that a server's plugin wrote: {error}; remove it") from error
