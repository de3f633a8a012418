"""What is read of a trace file's top-level members."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from gemma_trace.errors import TraceFormatError
from gemma_trace.foreign import NONE, UnreadableValueError, integer, list_of
from gemma_trace.metadata import METADATA_KEY, SCHEMA_VERSION, RunMetadata

EXPORT_KEY: Final = "gemma_trace_export"
"""The top-level key of what `gemma-trace export` writes, which is for viewers: ranges and launches share no track."""

DEVICES_KEY: Final = "deviceProperties"
"""The top-level key under which Kineto lists the machine's devices."""


def metadata_of(header: dict[str, msgspec.Raw], path: Path) -> RunMetadata | None:
    """The metadata among a trace's top-level members.

    Raises:
        TraceFormatError: the metadata is of a newer schema, or damaged.
    """
    if EXPORT_KEY in header:
        raise TraceFormatError(
            f"{path} was made for viewers by gemma-trace export; give the trace that it was made from"
        )
    raw = header.get(METADATA_KEY)
    if raw is None:
        return None
    try:
        metadata = RunMetadata.from_json(raw)
    except UnreadableValueError as error:
        raise TraceFormatError(f"{path}: its {METADATA_KEY} metadata can't be read: {error}") from error
    if metadata.schema_version > SCHEMA_VERSION:
        raise TraceFormatError(f"{path} was written by a newer gemma-trace; run: pip install --upgrade gemma-trace")
    return metadata


def device_names(header: dict[str, msgspec.Raw]) -> dict[int, str]:
    """The devices among a trace's top-level members, by index; without those that can't be read."""
    raw = header.get(DEVICES_KEY, b"[]")
    listed = list_of(bytes(raw).decode("utf-8", "replace"))
    found: dict[int, str] = {}
    for device in listed:
        index = integer(device.get("id", 0)) if isinstance(device, dict) else NONE
        if index != NONE:
            name = device.get("name", "")
            found[index] = name if isinstance(name, str) else ""
    return found
