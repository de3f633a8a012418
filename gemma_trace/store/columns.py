"""The columns of a store: their types, and those that tables of `report/` have too.

A column of this kind is declared here alone, with its name and its definition. The store adds when it is NULL, a table
its header and its unit (`Col.stored`). What only one of them has is declared where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1
"""Raised when a column changes its meaning or goes; a new column alone doesn't raise it, and reads as NULL before."""

ColumnType = Literal["string", "int64", "int32", "float64", "bool"]


@dataclass(frozen=True)
class StoreColumn:
    """A column of a store's table.

    Attributes:
        key: its name, which ends in its unit if it has one.
        type: as pyarrow names it.
        unit: "ns", "bytes", "%"; "" where there is none.
        definition: in Markdown.
        is_optional: whether it may be NULL.
    """

    key: str
    type: ColumnType
    unit: str
    definition: str
    is_optional: bool = False

    def or_null(self, when: str = "") -> StoreColumn:
        """This column, which may be NULL.

        Args:
            when: it is that; goes on from "NULL".
        """
        definition = f"{self.definition}; NULL {when}" if when else self.definition
        return replace(self, definition=definition, is_optional=True)

    def with_note(self, note: str) -> StoreColumn:
        """This column with an addition to its definition."""
        return replace(self, definition=f"{self.definition}{note}")


@dataclass(frozen=True)
class StoreTable:
    """A table: a folder of the store.

    Attributes:
        definition: what a row is.
    """

    name: str
    definition: str
    columns: tuple[StoreColumn, ...]

    @property
    def keys(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.key for column in self.columns]

    def arrow_schema(self) -> pa.Schema:
        """The columns as pyarrow has them; the schema's version is in the metadata."""
        import pyarrow as pa

        fields = [pa.field(column.key, pa.type_for_alias(column.type), column.is_optional) for column in self.columns]
        return pa.schema(fields, {"gemma_trace_schema": str(SCHEMA_VERSION), "gemma_trace_table": self.name})


def text_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of text."""
    return StoreColumn(key, "string", "", definition, optional)


def ns_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of times, in ns."""
    return StoreColumn(key, "int64", "ns", definition, optional)


def bytes_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of sizes, in bytes."""
    return StoreColumn(key, "int64", "bytes", definition, optional)


def count_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of counts."""
    return StoreColumn(key, "int64", "", definition, optional)


def small_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of small whole numbers."""
    return StoreColumn(key, "int32", "", definition, optional)


def share_column(key: str, definition: str, *, optional: bool = False) -> StoreColumn:
    """A column of shares, in percent."""
    return StoreColumn(key, "float64", "%", definition, optional)


REQUEST: Final = small_column("request", "the request's index, from 0")
STAGE: Final = text_column("stage", "the stage's name")

HOST_NS: Final = ns_column(
    "host_ns", "length of the stage's ranges on the host, less that of the stages nested in them"
)
DEVICE_BUSY_NS: Final = ns_column(
    "device_busy_ns",
    "length of the union, on each device, of the device activities that the stage launched; summed over the devices",
)
DEVICE_SUM_NS: Final = ns_column("device_sum_ns", "Σ duration of those activities")
TIME_NS: Final = ns_column(
    "time_ns", "share of the request's wall time; Σ over the stages of a request is its wall time, exactly"
)
DEVICE_NS: Final = ns_column("device_ns", "the part of `time_ns` in which the device works for the stage")
EXPOSED_HOST_NS: Final = ns_column(
    "exposed_host_ns",
    "the part in which all devices are idle and the stage is the innermost open on the request's thread; where that "
    "has none or only waits, the one open on another thread of the request",
)
ACTIVITIES: Final = count_column("activities", "device activities that the stage launched")
LAUNCHES: Final = count_column("launches", "the calls that launched them")
SHARED_NS: Final = ns_column(
    "shared_ns",
    "the part of `time_ns` in which a server's engine also worked for other requests in the same step; each of them "
    "has the whole step",
)

FAMILY: Final = text_column(
    "family",
    "what kind of work most of the row's time is, by the kernel's name, its template arguments and the op that "
    "launched it (`gemma_trace/analysis/taxonomy.py`)",
)
SUM_NS: Final = ns_column("sum_ns", "Σ of their durations")
MIN_NS: Final = ns_column("min_ns", "the shortest of the durations")
MEDIAN_NS: Final = ns_column("median_ns", "the median of the durations")
MAX_NS: Final = ns_column("max_ns", "the longest of the durations")

ALLOCATOR: Final = text_column("allocator", "`host`, `device 0` and so on")
PEAK_BYTES: Final = bytes_column("peak_bytes", "the most it had given out")
RESIDENT_BYTES: Final = bytes_column(
    "resident_bytes", "given out before its first event: in a capture the weights, and little else"
)
START_BYTES: Final = bytes_column("start_bytes", "allocated when the stage first begins")
ALLOCATED_BYTES: Final = bytes_column("allocated_bytes", "Σ over the events that allocate")
FREED_BYTES: Final = bytes_column("freed_bytes", "Σ over the events that free")
ACTIVATIONS_BYTES: Final = bytes_column(
    "activations_bytes",
    "the most that is allocated, less what was when the request began and less the cache, while it is the innermost "
    "stage; inputs count too",
)

BATCH: Final = count_column("batch", "sequences per request, each of which gets one token per step")

WEIGHTS: Final = text_column("weights", "`pretrained` or `random`")
DTYPE: Final = text_column("dtype", "of the weights and activations, e.g. `bfloat16`")
DEVICE: Final = text_column("device", "the kind of device that it ran on: `cpu` or `cuda`")
DEVICE_NAME: Final = text_column("device_name", "the device's marketing name")
IMAGE_BACKEND: Final = text_column("image_backend", "the image processor: `torchvision` or `pil`")

FILE_BYTES: Final = bytes_column("file_bytes", "the size of the trace's file")
CREATED_NS: Final = ns_column("created_ns", "when it was captured, in ns since 1970 (UTC)")
TIMING: Final = text_column("timing", "`timed`: without the profiler; `profiled`: under it")
GROUP_SIZE: Final = count_column("group_size", "how many ranks the group has")
ELEMENT_TYPE: Final = text_column("dtype", "the type of the elements")
