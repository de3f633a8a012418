"""What is read of a trace file's top-level members."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemma_trace.errors import TraceFormatError
from gemma_trace.foreign import NONE, UnreadableValueError, integer, list_of, numbers_of, text, value_of
from gemma_trace.printable import path_text

if TYPE_CHECKING:
    from gemma_trace.metadata import RunMetadata

METADATA_KEY: Final = "gemma_trace"
"""The top-level key of the trace's JSON that holds the metadata of a capture of ours."""

EXPORT_KEY: Final = "gemma_trace_export"
"""The top-level key of what `gemma-trace export` writes, which is for viewers: ranges and launches share no track."""

DEVICES_KEY: Final = "deviceProperties"
"""The top-level key under which Kineto lists the machine's devices."""

MOST_MULTIPROCESSORS: Final = 1 << 16
"""No device is taken to have more."""

MOST_BASE_NS: Final = 1 << 62
"""A base is no later than the year 2116."""

BASE_KEY: Final = "baseTimeNanoseconds"
"""The top-level key of what Kineto takes off every time: ns since 1970."""

DISTRIBUTED_KEY: Final = "distributedInfo"
"""The top-level key under which torch says which rank a process is, and which groups it is in."""

MOST_RANKS: Final = 1 << 20
"""No job is taken to have more ranks."""

_TRACE_SUFFIX: Final = re.compile(r"(\.pt\.trace)?(\.json)?(\.gz)?$")


@dataclass(frozen=True)
class GroupInfo:
    """A process group, as the trace's header lists it.

    Attributes:
        name: as its collectives call it.
        description: what it is for, e.g. "default_pg".
        ranks: its global ranks; empty where they aren't said.
    """

    name: str
    description: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class DistributedInfo:
    """Which part of a job a process is, as torch says.

    Attributes:
        rank: its global rank; `NONE` where it isn't said.
        world_size: how many ranks the job has; `NONE` where it isn't said.
        backend: "nccl", "gloo" and so on.
        groups: the process groups that it is in.
    """

    rank: int
    world_size: int
    backend: str
    groups: tuple[GroupInfo, ...]


def base_ns_of(header: dict[str, msgspec.Raw]) -> int:
    """What is to be added to a trace's times for ns since 1970; 0 where the trace doesn't tell, as old ones don't."""
    base = integer(value_of(header.get(BASE_KEY, b"0")))
    return base if 0 < base < MOST_BASE_NS else 0


def distributed_of(header: dict[str, msgspec.Raw]) -> DistributedInfo | None:
    """Which rank a trace's process is; None where its header doesn't tell."""
    info = value_of(header.get(DISTRIBUTED_KEY, b"null"))
    if not isinstance(info, dict):
        return None
    world_size = integer(info.get("world_size"))
    if not 0 < world_size <= MOST_RANKS:
        world_size = NONE
    rank = integer(info.get("rank"))
    listed = info.get("pg_config")
    groups = [_group_of(group) for group in listed if isinstance(group, dict)] if isinstance(listed, list) else []
    return DistributedInfo(
        rank if 0 <= rank < (MOST_RANKS if world_size == NONE else world_size) else NONE,
        world_size,
        text(info.get("backend")),
        tuple(groups),
    )


def _group_of(group: dict[str, Any]) -> GroupInfo:
    ranks = numbers_of(group.get("ranks"))
    return GroupInfo(text(group.get("pg_name")), text(group.get("pg_desc")), ranks)


def label_of(path: Path, metadata: RunMetadata | None) -> str:
    """The run's name; of a trace that isn't ours the file's, without its endings."""
    return metadata.run.name if metadata else _TRACE_SUFFIX.sub("", path_text(path.name))


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
    from gemma_trace.metadata import SCHEMA_VERSION, RunMetadata  # which nobody else's traces need

    try:
        metadata = RunMetadata.from_json(raw)
    except UnreadableValueError as error:
        raise TraceFormatError(f"{path}: its {METADATA_KEY} metadata can't be read: {error}") from error
    if metadata.schema_version > SCHEMA_VERSION:
        raise TraceFormatError(f"{path} was written by a newer gemma-trace; run: pip install --upgrade gemma-trace")
    return metadata


def device_names(header: dict[str, msgspec.Raw]) -> dict[int, str]:
    """The devices among a trace's top-level members, by index; without those that can't be read."""
    names = {index: device.get("name", "") for index, device in _devices(header).items()}
    return {index: name if isinstance(name, str) else "" for index, name in names.items()}


def device_multiprocessors(header: dict[str, msgspec.Raw]) -> dict[int, int]:
    """How many multiprocessors each device has, by index; without those of which it isn't said."""
    counts = {index: integer(device.get("numSms")) for index, device in _devices(header).items()}
    return {index: count for index, count in counts.items() if 0 < count <= MOST_MULTIPROCESSORS}


def _devices(header: dict[str, msgspec.Raw]) -> dict[int, dict[str, Any]]:
    """What is said of the machine's devices, by index."""
    raw = header.get(DEVICES_KEY, b"[]")
    listed = list_of(bytes(raw).decode("utf-8", "replace"))
    devices = {integer(device.get("id", 0)): device for device in listed if isinstance(device, dict)}
    devices.pop(NONE, None)
    return devices
