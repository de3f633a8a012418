"""What can go wrong, as one tree. The command line catches the root and prints its one line.

    GemmaTraceError
    ├── ConfigError            an option's value makes no sense (exit code 2)
    ├── InputError             what is asked of a file can't be answered
    │   └── UnreadableError    a file or folder that isn't there, or can't be read (exit code 4)
    │       └── TraceFormatError   a file that is not a trace, or has no events
    ├── GateError              a difference over the limit that was set (exit code 3)
    ├── InconclusiveError      too little is known to say whether a limit is exceeded (exit code 5)
    ├── OutputError            an output that exists already, or can't be written
    ├── MissingExtraError      a package of an extra isn't installed
    └── CaptureError           a capture that can't run
        ├── ModelError         a model that doesn't exist or can't be loaded
        ├── ImageError         an image that isn't one
        └── DeviceError        a device that isn't there

Every message is one line: what is wrong, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar

from gemma_trace.wording import as_spoken


class GemmaTraceError(Exception):
    """The root. `exit_code` is what the command line ends with.

    Messages are written with the options of the command line; programs are told of the arguments instead.
    """

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return as_spoken(super().__str__())


class ConfigError(GemmaTraceError, ValueError):
    """An option's value makes no sense, alone or with another."""

    exit_code = 2


class InputError(GemmaTraceError):
    """What is asked of a file or folder can't be answered."""


class UnreadableError(InputError):
    """A file or folder that isn't there, or can't be read."""

    exit_code = 4


class TraceFormatError(UnreadableError):
    """A file that is not a trace, or has no events."""


class GateError(GemmaTraceError):
    """A difference over the limit that was set for it."""

    exit_code = 3


class InconclusiveError(GemmaTraceError):
    """Too little is known to say whether a limit is exceeded."""

    exit_code = 5


class OutputError(GemmaTraceError):
    """An output that exists already, or can't be written."""


class CaptureError(GemmaTraceError):
    """A capture that can't run."""


class MissingExtraError(GemmaTraceError):
    """A package isn't installed that an extra of gemma-trace brings.

    Args:
        package: the package whose import failed.
        extra: the extra that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; run: pip install "gemma-trace[{extra}]"')


class ModelError(CaptureError):
    """A model that doesn't exist or can't be loaded."""


class ImageError(CaptureError):
    """An image that isn't one."""


class DeviceError(CaptureError):
    """A device that isn't there."""
