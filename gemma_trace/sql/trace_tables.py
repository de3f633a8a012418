"""A trace's columns → the tables of `schema.py` in Arrow. Columns are taken as they are where they can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.printable import encodable
from gemma_trace.sql.schema import TRACE_TABLES
from gemma_trace.trace.events import NONE, TEXT_COLUMNS, Role
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, Any]
_NO_NUMBER: Final = ("correlation", "external_id", "device", "stream", "bytes", "occupancy_pct")


def trace_table(trace: Trace, name: str) -> pa.Table:
    """One of the tables of a trace.

    Columns of times and codes are those of the trace, without a copy; numbers that it keeps in 32 bits where they fit
    are widened. What is absent, `NONE` there, is NULL.

    Raises:
        KeyError: there is no such table.
    """
    import pyarrow as pa

    columns = _MAKERS[name](trace)
    schema = TRACE_TABLES[name].arrow_schema()
    arrays = [_as_declared(columns[key], kind) for key, kind in zip(schema.names, schema.types, strict=True)]
    fields = [pa.field(key, array.type) for key, array in zip(schema.names, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _as_declared(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column in the type that its table has for it; texts stay codes."""
    import pyarrow as pa

    return column.cast(kind) if pa.types.is_integer(kind) else column


def _numbers(values: npt.NDArray[Any]) -> pa.Array:
    """A column that every row has a value in."""
    import pyarrow as pa

    return pa.array(values)


def _optional(values: npt.NDArray[Any]) -> pa.Array:
    """A column in which `NONE` is NULL."""
    import pyarrow as pa

    if values.strides == (0,):  # one value, repeated: no span has any
        absent = not len(values) or values[0] == NONE
        return pa.nulls(len(values), pa.from_numpy_dtype(values.dtype)) if absent else pa.array(values.copy())
    return pa.array(values, mask=values == NONE)


def _coded(codes: npt.NDArray[Any], names: Sequence[str]) -> pa.Array:
    """A column of texts that are codes into a table; `NONE` is NULL."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(_optional(codes), _texts(names))


def _texts(values: Iterable[str | None]) -> pa.Array:
    import pyarrow as pa

    listed = list(values)
    try:
        return pa.array(listed, pa.string())
    except UnicodeEncodeError:  # halves of pairs, which JSON can hold and UTF-8 can't
        return pa.array(encodable(listed), pa.string())


def _tracks(trace: Trace, track: npt.NDArray[Any]) -> Columns:
    tracks = trace.spans.tracks
    return {"pid": _coded(track, [each.pid for each in tracks]), "tid": _coded(track, [each.tid for each in tracks])}


def _spans(trace: Trace) -> Columns:
    return _span_columns(trace, None)


def _span_columns(trace: Trace, rows: npt.NDArray[np.int64] | None) -> Columns:
    """All that `spans` has, of some spans or, for None, of all."""
    spans = trace.details.spans

    def taken(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return column if rows is None else column[rows]

    columns: Columns = {key: _numbers(taken(getattr(spans, key))) for key in ("ts_ns", "dur_ns")}
    columns["span"] = _numbers(np.arange(len(spans)) if rows is None else rows)
    columns |= {key: _optional(taken(getattr(spans, key))) for key in _NO_NUMBER}
    columns |= {key: _coded(taken(getattr(spans, key)), spans.texts) for key in TEXT_COLUMNS}
    columns |= {"name": _coded(taken(spans.name), spans.names), "cat": _coded(taken(spans.cat), spans.cats)}
    columns["node_label"] = _coded(taken(spans.node_label), spans.names)
    columns |= _tracks(trace, taken(spans.track))
    if rows is None:
        columns["role"] = _coded(_roles(trace), [role.name.lower() for role in Role])
    return columns


def _roles(trace: Trace) -> npt.NDArray[np.int32]:
    code = np.zeros(len(trace.spans), dtype=np.int32)
    for role in Role:
        code[trace.roles.are(role)] = role
    return code


def _activities(trace: Trace) -> Columns:
    from gemma_trace.analysis.timeline import UNLINKED
    from gemma_trace.analysis.work_groups import families
    from gemma_trace.analysis.work_pieces import device_work, request_of_work, stage_of_work

    work = device_work(trace)
    family, names = families(trace, work) if len(work) else (work.span, [])
    op = np.where(work.caller >= 0, trace.innermost_op[work.caller], NONE).astype(np.int64)
    return _span_columns(trace, work.span) | {
        "stage": _coded(stage_of_work(trace, work), (*trace.stage_names, UNLINKED)),
        "family": _coded(family, names),
        "request": _optional(request_of_work(trace, work, trace.requests).astype(np.int32)),
        "launch_span": _optional(work.caller),
        "op_span": _optional(op),
    }


def _launches(trace: Trace) -> Columns:
    launched = trace.launch[trace.launch >= 0]
    rows = distinct(np.concatenate((np.flatnonzero(trace.is_call), launched)))
    return _span_columns(trace, rows) | {
        "activities": _numbers(np.bincount(launched, minlength=len(trace.spans))[rows].astype(np.int64)),
        "stage": _coded(trace.stage_at(rows), trace.stage_names),
        "op_span": _optional(trace.innermost_op[rows].astype(np.int64)),
    }


def _ops(trace: Trace) -> Columns:
    rows, segments = np.flatnonzero(trace.is_op), trace.segments
    self_ns = np.zeros(len(trace.spans), dtype=np.int64)
    np.add.at(self_ns, segments.owner, segments.end_ns - segments.start_ns)
    module = trace.innermost_module[rows]
    names = np.where(module >= 0, trace.spans.name[module], NONE)
    return _span_columns(trace, rows) | {
        "self_ns": _numbers(self_ns[rows]),
        "stage": _coded(trace.stage_at(rows), trace.stage_names),
        "module": _coded(names, trace.spans.names),
    }


def _requests(trace: Trace) -> Columns:
    from gemma_trace.analysis.timeline import first_token_ns

    windows = trace.requests
    first = [first_token_ns(trace, window) for window in windows]
    ttft = [None if ns is None else ns - window.start_ns for ns, window in zip(first, windows, strict=True)]
    rows = [
        {key: getattr(window, key) for key in ("label", "start_ns", "end_ns", "wall_ns")}
        | {"request": window.index, "ttft_ns": ttft_ns}
        for window, ttft_ns in zip(windows, ttft, strict=True)
    ]
    return _records("requests", rows) | _tracks(trace, np.array([window.track for window in windows], dtype=np.int32))


def _stages(trace: Trace) -> Columns:
    from gemma_trace.analysis.breakdown import breakdown

    return _records("stages", [asdict(row) for row in breakdown(trace).rows])


def _kernels(trace: Trace) -> Columns:
    from gemma_trace.store.kernels import stage_kernels

    return _records("kernels", [asdict(row) for row in stage_kernels(trace, most=None)])


def _records(name: str, rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Columns of rows that are few."""
    import pyarrow as pa

    arrays: Columns = {}
    for field in TRACE_TABLES[name].arrow_schema():
        values = [row.get(field.name) for row in rows]
        arrays[field.name] = _texts(values) if pa.types.is_string(field.type) else pa.array(values, field.type)
    return arrays


def _flows(trace: Trace) -> Columns:
    flows = trace.flows
    columns = {key: _numbers(getattr(flows, key)) for key in ("ts_ns", "id", "is_start")}
    return columns | {"cat": _coded(flows.cat, flows.cats)} | _tracks(trace, flows.track)


def _memory(trace: Trace) -> Columns:
    memory = trace.memory
    columns = {key: _numbers(getattr(memory, key)) for key in ("ts_ns", "bytes")}
    columns |= {key: _optional(getattr(memory, key)) for key in ("device", "address", "allocated_bytes")}
    return columns | {"reserved_bytes": _optional(memory.reserved_bytes)} | _tracks(trace, memory.track)


def _counters(trace: Trace) -> Columns:
    counters = trace.counters
    return {
        "ts_ns": _numbers(counters.ts_ns),
        "value": _numbers(counters.value),
        "name": _coded(counters.series, [series.name for series in counters.table]),
        "pid": _coded(counters.series, [series.pid for series in counters.table]),
    }


def _metadata(trace: Trace) -> Columns:
    from gemma_trace.ranks.identity import identity_of

    identity = identity_of(trace.distributed, trace.path)
    told: Columns = {"label": trace.label, "base_ns": trace.base_ns or None}
    told |= {"rank": identity.rank, "world_size": identity.world_size}
    told = {key: None if value == NONE else value for key, value in told.items()}
    told |= {f"device.{index}": name for index, name in trace.devices.items()}
    if trace.metadata:
        ours = asdict(trace.metadata)
        told |= {key: ours[key] for key in ("schema_version", "created_utc", "warnings", "profiled_images")}
        for part in ("run", "environment", "workload", "config"):
            told |= {f"{part}.{key}": value for key, value in ours[part].items()}
    return {"key": _texts(told), "value": _texts(map(_value_text, told.values()))}


def _value_text(value: Any) -> str | None:
    import msgspec

    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(encodable(value)).decode()


_MAKERS: Final[Mapping[str, Callable[[Trace], Columns]]] = {
    "spans": _spans,
    "activities": _activities,
    "launches": _launches,
    "ops": _ops,
    "requests": _requests,
    "stages": _stages,
    "kernels": _kernels,
    "flows": _flows,
    "memory": _memory,
    "counters": _counters,
    "metadata": _metadata,
}
