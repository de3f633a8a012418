"""The tables that SQL finds in a trace: each column's type, unit and definition, declared once."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_trace.store.columns import ColumnType, StoreColumn, StoreTable
from gemma_trace.store.schema import KERNELS, RUN_ID, STAGES


def _column(key: str, kind: ColumnType, definition: str, unit: str = "", *, optional: bool = True) -> StoreColumn:
    return StoreColumn(key, kind, unit, definition, optional)


def _text(key: str, definition: str) -> StoreColumn:
    return _column(key, "string", definition)


def _given(key: str, kind: ColumnType, definition: str, unit: str = "") -> StoreColumn:
    return _column(key, kind, definition, unit, optional=False)


_SPAN: Final = _given("span", "int64", "its number: the row of `Trace.spans`, from 0, by start")
_TS: Final = _given("ts_ns", "int64", "when it starts, on the trace's own clock", "ns")
_DUR: Final = _given("dur_ns", "int64", "how long it takes", "ns")
_NAME: Final = _given("name", "string", "its name")
_PID: Final = _given("pid", "string", "the process that it is drawn in, as the trace writes it")
_TID: Final = _given("tid", "string", "the thread, or the stream, that it is drawn on")
_CORRELATION: Final = _column("correlation", "int64", "ties an activity to its launch; NULL where there is none")
_BYTES: Final = _column("bytes", "int64", "the size of a copy or a fill", "bytes")
_STREAM: Final = _column("stream", "int64", "the device's stream")
_DEVICE: Final = _column("device", "int64", "the device's index")
_GRID, _BLOCK = (_text(key, f"the {key} of the launch, as JSON") for key in ("grid", "block"))
_EXTERNAL_ID: Final = _column("external_id", "int64", "Kineto's `External id`")
_INPUTS: Final = (
    _text("input_dims", "the dimensions of an op's inputs, as JSON, where shapes were recorded"),
    _text("input_types", "their types, as JSON"),
    _text("input_strides", "their strides, as JSON"),
    _text("concrete_inputs", "the values of inputs that are no tensors, as JSON"),
)
_CATEGORY: Final = _given("cat", "string", "its category, as the trace writes it")
_ASKING: Final = _given("stage", "string", "the stage that asked for it; `unattributed` outside of all")
_OCCUPANCY: Final = _column("occupancy_pct", "int32", "Kineto's estimated achieved occupancy", "%")
_NODE_LABEL: Final = _text("node_label", "what its node of a CUDA graph is labelled; NULL where there is no label")
_REQUEST: Final = _column("request", "int32", "the request in whose window it was asked for; NULL outside of all")

SPANS: Final = StoreTable(
    "spans",
    "a span of the trace, of whatever kind; ends at `ts_ns + dur_ns`",
    (
        *(_SPAN, _TS, _DUR, _NAME),
        _CATEGORY,
        _given(
            "role", "string", "what it stands for: `op`, `annotation`, `python`, `launch`, `device`, `aside` or `host`"
        ),
        *(_PID, _TID, _CORRELATION, _EXTERNAL_ID, _DEVICE, _STREAM, _BYTES, _OCCUPANCY, *_INPUTS, _GRID, _BLOCK),
        _text("collective", "what a collective's call or kernel says of it, as JSON"),
        _NODE_LABEL,
    ),
)

ACTIVITIES: Final = StoreTable(
    "activities",
    "a kernel, a copy or a fill on a device",
    (
        *(_SPAN, _TS, _DUR, _NAME),
        _CATEGORY,
        *(_DEVICE, _STREAM, _CORRELATION, _BYTES, _OCCUPANCY, _GRID, _BLOCK, _NODE_LABEL),
        _given(
            "stage",
            "string",
            "the stage that its graph node is labelled with, or else that asked for it; `unlinked` where its launch "
            "is not in the trace",
        ),
        _given("family", "string", "what kind of work it is, as in `gemma-trace kernels TRACE --by family`"),
        _REQUEST,
        _column("launch_span", "int64", "`launches.span` of the call that launched it; NULL where that isn't there"),
        _column("op_span", "int64", "`ops.span` of the innermost op around that call; NULL where there is none"),
    ),
)

LAUNCHES: Final = StoreTable(
    "launches",
    "a call of the host into a device's runtime or driver, or whatever else launched an activity",
    (
        *(_SPAN, _TS, _DUR, _NAME, _PID, _TID, _CORRELATION),
        _given("activities", "int64", "how many activities it launched"),
        _ASKING,
        _column("op_span", "int64", "`ops.span` of the innermost op around it; NULL where there is none"),
    ),
)

OPS: Final = StoreTable(
    "ops",
    "an op of PyTorch on the host",
    (
        *(_SPAN, _TS, _DUR),
        _given("self_ns", "int64", "the part of `dur_ns` in which nothing else is open inside it", "ns"),
        *(_NAME, _PID, _TID),
        _ASKING,
        _column("module", "string", "the innermost module around it; NULL where there is none"),
        *(_EXTERNAL_ID, *_INPUTS),
    ),
)

REQUESTS: Final = StoreTable(
    "requests",
    "a request; in a trace of others a step, or the whole trace",
    (
        _given("request", "int32", "its index, from 0"),
        _given("label", "string", "what it is called"),
        _given("start_ns", "int64", "where it starts, on the trace's own clock", "ns"),
        _given("end_ns", "int64", "where it ends", "ns"),
        _given("wall_ns", "int64", "its length", "ns"),
        _column("ttft_ns", "int64", "until the first token is on the host; NULL where the trace doesn't tell", "ns"),
        *(_PID, _TID),
    ),
)

FLOWS: Final = StoreTable(
    "flows",
    "an end of an arrow; both ends have the same `cat` and `id`",
    (
        *(_TS, _PID, _TID),
        _given("cat", "string", "its category"),
        _given("id", "int64", "its id; below 0 where the trace's own is no number"),
        _given("is_start", "bool", "whether the arrow starts here"),
    ),
)

MEMORY: Final = StoreTable(
    "memory",
    "what an allocator said, where memory was profiled",
    (
        *(_TS, _PID, _TID),
        _column("device", "int64", "the device's index; NULL is the host"),
        _column("address", "int64", "where the block is"),
        _given("bytes", "int64", "what was allocated; below 0 what was freed", "bytes"),
        _column("allocated_bytes", "int64", "the allocator's total after it", "bytes"),
        _column("reserved_bytes", "int64", "what it has reserved after it; 0 on the host", "bytes"),
    ),
)

COUNTERS: Final = StoreTable(
    "counters",
    "a value of a counter, which holds until the next of its series",
    (
        _TS,
        _given("value", "float64", "the value, in the counter's own unit"),
        _given("name", "string", "the counter's name"),
        _given("pid", "string", "the process that it is drawn in; of a device's counters often the device's index"),
    ),
)

METADATA: Final = StoreTable(
    "metadata",
    "what the trace says of itself",
    (
        _given("key", "string", "e.g. `run.model`, `environment.torch`, `config.dtype`, `device.0`, `rank`, `base_ns`"),
        _column("value", "string", "its value as text; of lists and mappings as JSON"),
    ),
)


def _without_run(table: StoreTable, definition: str) -> StoreTable:
    return replace(table, definition=definition, columns=tuple(each for each in table.columns if each != RUN_ID))


TRACE_TABLES: Final[dict[str, StoreTable]] = {
    table.name: table
    for table in (
        *(SPANS, ACTIVITIES, LAUNCHES, OPS, REQUESTS),
        _without_run(
            STAGES, "a stage of a request, as `gemma-trace stages TRACE` has it; the store's without `run_id`"
        ),
        _without_run(
            KERNELS,
            "a kernel in a stage, or without a device an op; the store's without `run_id`, with all of its rows",
        ),
        *(FLOWS, MEMORY, COUNTERS, METADATA),
    )
}
"""All tables by name."""

RUN: Final = _given("run", "string", "the run's name; the path of its file where several have that name")
RANK: Final = _given("rank", "int32", "the global rank of the process in its job")
