"""The columns that are filled while a trace is read, with their dtypes. Times are in ns, codes point into tables."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

SPAN_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "ts_ns": np.int64,
    "dur_ns": np.int64,
    "place": np.int32,
    "name": np.int32,
    "cat": np.int32,
    "track": np.int32,
}

ARGUMENT_COLUMNS: Final[dict[str, type[np.signedinteger[Any]]]] = {
    "correlation": np.int64,
    "external_id": np.int64,
    "stream": np.int64,
    "device": np.int64,
    "bytes": np.int64,
    "occupancy_pct": np.int32,
    "input_dims": np.int32,
    "input_types": np.int32,
    "input_strides": np.int32,
    "concrete_inputs": np.int32,
    "grid": np.int32,
    "block": np.int32,
    "collective": np.int32,
    "node_label": np.int32,
}
"""Those of the spans that most of them have no value for, with the type that holds all values that may come."""

DETAIL_COLUMNS: Final = ("input_strides", "concrete_inputs")
"""Those of them that are read only where something needs them."""

FLOW_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "ts_ns": np.int64,
    "track": np.int32,
    "cat": np.int32,
    "id": np.int64,
    "is_start": np.bool_,
}

MEMORY_COLUMNS: Final[dict[str, type[np.generic]]] = {
    "ts_ns": np.int64,
    "track": np.int32,
    "device": np.int64,
    "address": np.int64,
    "bytes": np.int64,
    "allocated_bytes": np.int64,
    "reserved_bytes": np.int64,
}
