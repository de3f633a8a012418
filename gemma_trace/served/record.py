"""What a client saw of its requests to a server: the file beside the traces of the server's processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gemma_trace.errors import TraceFormatError, UnreadableError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.metadata import ConfigValue, Count, Nanoseconds
from gemma_trace.opening import opened
from gemma_trace.trace.files import home_scrubber, output_file
from gemma_trace.trace.folders import MERGED, RECORD

__all__ = ["MERGED", "RECORD", "SCHEMA_VERSION", "ClientRequest", "Measure", "ServedRecord"]

SCHEMA_VERSION: Final = 1
"""Raised when a field changes its meaning; new fields alone don't raise it."""

UnixNs = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


@dataclass(frozen=True)
class ClientRequest:
    """One request as its client saw it.

    Attributes:
        id: what it was called, in its header `X-Request-Id` too.
        label: which images it had.
        sent_unix_ns: when it was sent, ns since 1970 on the client's clock.
        token_ns: when each piece of text came, after that; usually a token each.
        done_ns: when the answer was over, after that.
        prompt_tokens, output_tokens: as the server counts them; 0 where it doesn't say.
        error: in one line why it has no answer, or only a part of it; "" for nothing.
    """

    id: str
    label: str
    sent_unix_ns: UnixNs
    token_ns: tuple[Nanoseconds, ...]
    done_ns: Nanoseconds
    prompt_tokens: Count = 0
    output_tokens: Count = 0
    error: str = ""

    @property
    def ttft_ns(self) -> int | None:
        """From sending until the first text; None where none came."""
        return self.token_ns[0] if self.token_ns else None

    @property
    def end_unix_ns(self) -> int:
        """When the answer was over, ns since 1970."""
        return self.sent_unix_ns + self.done_ns


@dataclass(frozen=True)
class Measure:
    """A sample of the server's own /metrics before and after the requests.

    Attributes:
        name: with its labels, as Prometheus writes them.
    """

    name: str
    before: float
    after: float


@dataclass(frozen=True)
class ServedRecord:
    """What was asked of a server, and what came back.

    Attributes:
        server: what it says that it is, e.g. "vllm 0.32.0"; "" where it doesn't.
        model: the last part of the name of its model.
        options: how the requests were sent.
        timed: the requests that ran without the profiler.
        profiled: those that ran under it.
        traces: the traces of its processes, relative to the record's folder.
        measures: those of its own measures that changed, over the timed requests.
        warnings: what went wrong, a line each.
    """

    schema_version: Count
    created_utc: str
    name: str
    server: str
    model: str
    options: dict[str, ConfigValue]
    timed: tuple[ClientRequest, ...] = ()
    profiled: tuple[ClientRequest, ...] = ()
    traces: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    warnings: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Write the record into a folder, whole or not at all.

        Raises:
            OutputError: it can't be written.
        """
        with output_file(folder / RECORD, "check --out-dir") as file:
            file.write(home_scrubber()(msgspec.json.format(msgspec.json.encode(self), indent=1)))

    @staticmethod
    def read(folder: Path) -> ServedRecord:
        """The record of a folder.

        Raises:
            UnreadableError: there is none.
            TraceFormatError: it is damaged, or of a newer gemma-trace.
        """
        path = folder / RECORD
        try:
            with opened(path) as file:
                record: ServedRecord = decoded(file.read(), ServedRecord)
        except OSError as error:
            raise UnreadableError(
                f"can't read {path}: {error.strerror}; give the folder of a serve-capture, which holds {RECORD}"
            ) from error
        except UnreadableValueError as error:
            raise TraceFormatError(f"{path} is not a record of served requests: {error}; capture again") from error
        if record.schema_version > SCHEMA_VERSION:
            raise TraceFormatError(f"{path} was written by a newer gemma-trace; run: pip install --upgrade gemma-trace")
        return record
