"""`Events`: the spans of a trace as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]
Codes = IntArray | CodeArray
BoolArray = npt.NDArray[np.bool_]

NONE: Final = -1
"""In an integer column: the event has no such value."""


class Role(IntEnum):
    """What a span stands for."""

    HOST = 0
    """Work of a thread of the host that is none of the kinds below."""
    OP = 1
    """An op of PyTorch on the host."""
    ANNOTATION = 2
    """A `record_function` range on the host."""
    PYTHON = 3
    """A Python frame."""
    LAUNCH = 4
    """A call of the host into a device's runtime or driver."""
    DEVICE = 5
    """Work of a device: a kernel, a copy, a fill."""
    ASIDE = 6
    """No work of either: annotations mirrored onto the device, waits of streams, the profiler's own marks."""


ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys(("cpu_op", "operator"), Role.OP),
    **dict.fromkeys(("user_annotation",), Role.ANNOTATION),
    **dict.fromkeys(("python_function",), Role.PYTHON),
    **dict.fromkeys(("cuda_runtime", "cuda_driver", "hip_runtime", "hip_driver", "runtime", "driver"), Role.LAUNCH),
    **dict.fromkeys(("xpu_runtime", "xpu_driver", "privateuse1_runtime", "privateuse1_driver"), Role.LAUNCH),
    **dict.fromkeys(("mtia_runtime", "glow_runtime", "hpu_op", "gcu_runtime", "gcu_driver"), Role.LAUNCH),
    **dict.fromkeys(("kernel", "concurrent_kernel", "gpu_memcpy", "gpu_memset", "memcpy", "memset"), Role.DEVICE),
    **dict.fromkeys(("mtia_ccp_events", "gcu_memcpy", "gcu_memset"), Role.DEVICE),
    **dict.fromkeys(("gpu_user_annotation", "mtia_user_annotation", "gcu_user_annotation"), Role.ASIDE),
    **dict.fromkeys(("overhead", "trace", "cuda_sync", "cuda_event", "xpu_sync", "gcu_sync"), Role.ASIDE),
    **dict.fromkeys(("cuda_profiler_range", "gcu_profiler_range", "xpu_scope_profiler"), Role.ASIDE),
    **dict.fromkeys(("mtia_insight", "mtia_counters", "hardware_counters", "external_correlation"), Role.ASIDE),
    **dict.fromkeys(("mtia_workloadd", "collective_comm", "cpu_instant_event"), Role.HOST),
}
"""Category (in lower case) → role, of all that torch.profiler writes: the activity types of Kineto's ActivityType.h,
past and present, those of 2021, HIP's, and Enflame's fork."""


def _of_role(role: Role) -> frozenset[str]:
    return frozenset(category for category, its_role in ROLES.items() if its_role is role)


DEVICE_CATEGORIES: Final = _of_role(Role.DEVICE)
"""Categories (in lower case) of spans that are work of a device."""

LAUNCH_CATEGORIES: Final = _of_role(Role.LAUNCH)
"""Categories (in lower case) of the host's calls into a device's runtime or driver."""

OP_CATEGORIES: Final = _of_role(Role.OP)
"""Categories (in lower case) of PyTorch's ops on the host."""

ANNOTATION_CATEGORIES: Final = _of_role(Role.ANNOTATION)
"""Categories (in lower case) of `record_function` ranges on the host."""

TEXT_COLUMNS: Final = ("input_dims", "input_types", "input_strides", "concrete_inputs", "grid", "block", "collective")
"""The columns that are codes into `Events.texts`."""

WIDE_COLUMNS: Final = ("correlation", "external_id", "stream", "device", "bytes")
"""The columns that are int64 where one of their values needs that, and else int32."""


@dataclass(frozen=True)
class Flows:
    """The arrows of a trace: flow events (`s` and `f`), each bound to the span that starts at its instant on its track.

    Attributes:
        ts_ns: int64 [m].
        track: int32 [m], codes into `Events.tracks`.
        cat: int32 [m], codes into `cats`.
        id: int64 [m]; both ends of an arrow have its category and its id. Ids that are no numbers are below zero.
        is_start: bool [m], whether the arrow starts here.
    """

    ts_ns: IntArray
    track: CodeArray
    cat: CodeArray
    id: IntArray
    is_start: BoolArray
    cats: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ts_ns)


@dataclass(frozen=True)
class MemoryEvents:
    """What torch's allocators said while memory was profiled, in the file's order. All columns have the length k.

    Attributes:
        ts_ns: int64.
        track: int32, codes into `Events.tracks`: the thread of the host that allocated or freed.
        device: int64, the device's index; `NONE` is the host.
        address: int64, where the block is; `NONE` where the trace doesn't tell.
        bytes: int64, what was allocated; below zero what was freed.
        allocated_bytes, reserved_bytes: int64, the allocator's totals after it; reserved is 0 on the host.
    """

    ts_ns: IntArray
    track: CodeArray
    device: IntArray
    address: IntArray
    bytes: IntArray
    allocated_bytes: IntArray
    reserved_bytes: IntArray

    def __len__(self) -> int:
        return len(self.ts_ns)


@dataclass(frozen=True)
class CounterSeries:
    """What is counted.

    Attributes:
        name: the counter's, its id if it has one, and that of the argument unless it is `value`.
        pid: the process that it is drawn in; of a device's counters often the device's index.
    """

    name: str
    pid: str


@dataclass(frozen=True)
class CounterEvents:
    """The counters of a trace (`C` events), in the file's order, one row per value. All columns have the length c.

    Attributes:
        ts_ns: int64. The value holds until the next of its series.
        value: float64, finite.
        series: int32, codes into `table`.
    """

    ts_ns: IntArray
    value: npt.NDArray[np.float64]
    series: CodeArray
    table: tuple[CounterSeries, ...]

    def __len__(self) -> int:
        return len(self.ts_ns)


@dataclass(frozen=True)
class TrackNames:
    """What a trace's metadata events call its processes (by pid) and threads (by pid and tid)."""

    processes: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    threads: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Track:
    """Where spans are drawn: a thread of the host, or a stream of a device. Ids are text, as some traces write them."""

    pid: str
    tid: str


@dataclass(frozen=True)
class Events:
    """The spans of a trace: complete (`X`) events, and `B`/`E` pairs made whole. All columns have the length n.

    Sorted by start, the longer first where two start together, in the file's order where they are alike.
    A column of arguments that no span has is one `NONE`, repeated: it takes no memory and can't be written to.

    Attributes:
        ts_ns: int64, start in ns. The zero is the trace's own.
        dur_ns: int64, length in ns, never negative.
        place: int32, how many spans begin before this one in the file.
        name, cat, track: int32, codes into `names`, `cats`, `tracks`.
        correlation: ties a device activity to the call that launched it; `NONE` where there is none. Like the four that
            follow int32, or int64 where one of its values needs that; a DataFrame and SQL have int64.
        external_id: Kineto's `External id`.
        stream: the device's stream.
        device: the device's index.
        bytes: size of a copy or a fill.
        occupancy_pct: int32, what Kineto calls the estimated achieved occupancy, in whole percent.
        input_dims, input_types, grid, block: int32, codes into `texts`, the argument's own JSON text; `NONE` if absent.
        collective: int32, code into `texts`: what a collective's call or kernel says of it, see `collective_args.py`.
        node_label: int32, code into `names`: what the node of a CUDA graph is labelled, see `node_labels.py`; `NONE` of
            activities without a label, and of all other spans.
    """

    ts_ns: IntArray
    dur_ns: IntArray
    place: CodeArray
    name: CodeArray
    cat: CodeArray
    track: CodeArray
    correlation: Codes
    external_id: Codes
    stream: Codes
    device: Codes
    bytes: Codes
    occupancy_pct: CodeArray
    input_dims: CodeArray
    input_types: CodeArray
    grid: CodeArray
    block: CodeArray
    collective: CodeArray
    node_label: CodeArray
    names: tuple[str, ...]
    cats: tuple[str, ...]
    tracks: tuple[Track, ...]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ts_ns)

    @property
    def end_ns(self) -> IntArray:
        """int64 [n], where each span ends."""
        return self.ts_ns + self.dur_ns

    def ends_ns(self, spans: IntArray) -> IntArray:
        """int64, where some of the spans end, without a pass over all of them.

        Args:
            spans: int64, their indices.
        """
        ends: IntArray = self.ts_ns[spans] + self.dur_ns[spans]
        return ends

    def taken(self, rows: IntArray | BoolArray) -> Self:
        """Some of the spans, in the order given, with the same tables.

        Args:
            rows: int64, their indices; or bool [n], which.
        """
        columns = {column.name: getattr(self, column.name) for column in fields(self)}
        chosen = {name: values[rows] for name, values in columns.items() if isinstance(values, np.ndarray)}
        return type(self)(**columns | chosen)

    def in_categories(self, categories: frozenset[str]) -> BoolArray:
        """bool [n], which spans are of one of these categories (given in lower case)."""
        wanted = np.array([cat.lower() in categories for cat in self.cats], dtype=bool)
        return wanted[self.cat] if len(self.cats) else np.zeros(len(self), dtype=bool)

    def to_frame(self) -> pd.DataFrame:
        """The columns as a DataFrame, codes spelled out as categoricals, `track` as `pid` and `tid`."""
        import pandas as pd

        tables: dict[str, tuple[str, ...]] = {"name": self.names, "cat": self.cats, "node_label": self.names}
        tables |= dict.fromkeys(TEXT_COLUMNS, self.texts)
        frame: dict[str, object] = {}
        for column in fields(self):
            values = getattr(self, column.name)
            if not isinstance(values, np.ndarray):
                continue
            if column.name == "track":
                for part in ("pid", "tid"):
                    ids = np.array([getattr(track, part) for track in self.tracks], dtype=object)
                    frame[part] = pd.Categorical(ids[values]) if len(ids) else ids
            elif column.name in tables:
                frame[column.name] = pd.Categorical.from_codes(
                    values.tolist(), categories=pd.Index(list(tables[column.name]), dtype=object)
                )
            else:
                frame[column.name] = values.astype(np.int64) if column.name in WIDE_COLUMNS else values
        return pd.DataFrame(frame)


@dataclass(frozen=True)
class DetailedEvents(Events):
    """The same with what rooflines and SQL alone ask for.

    Attributes:
        input_strides, concrete_inputs: int32, codes into `texts`, the argument's own JSON text; `NONE` if absent.
    """

    input_strides: CodeArray
    concrete_inputs: CodeArray


@dataclass(frozen=True)
class Details:
    """What few commands need of a trace.

    Attributes:
        spans: the spans of the trace, with all of their columns.
        memory: what torch's allocators said, where memory was profiled.
    """

    spans: DetailedEvents
    memory: MemoryEvents
