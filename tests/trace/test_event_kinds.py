"""Events that are told by their phase while they are decoded say what those say that are decoded as any."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import numpy as np
import pytest

from gemma_trace.trace import sink
from gemma_trace.trace.reader import TraceFile, read_trace
from tests.trace_builder import memory_of

OP = {"External id": 1, "Input Dims": [[2, 3], []], "Input type": ["float", ""], "Concrete Inputs": ["", "1"]}
KERNEL = {"device": 0, "stream": 7, "correlation": 5, "grid": [1, 2, 3], "block": [32, 1, 1], "External id": 1}
MEMORY = {"Device Id": -1, "Bytes": 64, "Total Allocated": 64, "Addr": 4096, "Total Reserved": 0}
SPANS: list[dict[str, Any]] = [
    {"ph": "X", "cat": "cpu_op", "name": "aten::addmm", "pid": 1, "tid": 2, "ts": 1.5, "dur": 9, "args": OP},
    {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 12, "dur": 4.25, "args": KERNEL},
    {
        "ph": "X",
        "cat": "python_function",
        "name": "f",
        "pid": 1,
        "tid": 2,
        "ts": 1,
        "dur": 20,
        "args": {"Python id": 3},
    },
    {
        "ph": "X",
        "cat": "kernel",
        "name": "nccl",
        "pid": 0,
        "tid": 7,
        "ts": 20,
        "dur": 1,
        "args": {"Collective name": "b"},
    },
    {"ph": "X", "cat": "", "name": "no length", "pid": "1", "tid": "2", "ts": 30},
    {"ph": "X", "name": "no time", "pid": 1, "tid": 2, "dur": 1},
]
ARROWS: list[dict[str, Any]] = [
    {"ph": "s", "id": 5, "pid": 1, "tid": 2, "ts": 2, "cat": "ac2g", "name": "ac2g"},
    {"ph": "f", "id": "five", "pid": 0, "tid": 7, "ts": 12, "cat": "ac2g", "name": "ac2g", "bp": "e"},
]
INSTANTS: list[dict[str, Any]] = [
    {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 2, "ts": 3, "args": MEMORY},
    {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 2, "ts": 4},
    {"ph": "i", "name": "a mark", "pid": 1, "tid": 9, "ts": 5, "dur": 2},
]
OTHERS: list[dict[str, Any]] = [
    {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}},
    {"ph": "C", "name": "load", "id": 3, "pid": 1, "ts": 6, "args": {"value": 0.5}},
]
PAIR: list[dict[str, Any]] = [
    {"ph": "B", "cat": "cuda_runtime", "name": "launch", "pid": 1, "tid": 2, "ts": 7, "args": {"correlation": 5}},
    {"ph": "E", "pid": 1, "tid": 2, "ts": 8},
]
ASYNCHRONOUS: list[dict[str, Any]] = [
    {"ph": "b", "cat": "c", "id": 1, "name": "n", "pid": 1, "tid": 2, "ts": 1},
    {"ph": "e", "cat": "c", "id": 1, "name": "n", "pid": 1, "tid": 2, "ts": 9},
]
NOT_LOOKED_AT: list[dict[str, Any]] = [  # of a type that nothing asks for
    {"ph": "X", "id": {"local": 1}, "name": "s", "pid": 1, "tid": 2, "ts": 1, "dur": 2, "args": {"Bytes": [1]}},
    {"ph": "s", "id": 8, "pid": 1, "tid": 2, "ts": 2, "cat": "ac2g", "args": "none"},
]


def parts_of(file: TraceFile) -> dict[str, Any]:
    return {
        f"{part}.{field.name}": getattr(getattr(file, part), field.name)
        for part in ("events", "flows", "memory", "counters", "names", "report")
        for field in dataclasses.fields(getattr(file, part))
    }


def no_kinds(array: object) -> NoReturn:
    raise msgspec.ValidationError


@pytest.mark.parametrize(
    "events",
    [
        SPANS,
        SPANS + ARROWS + INSTANTS,
        [*OTHERS, *ARROWS, *SPANS[::-1], *INSTANTS],
        [*PAIR, *SPANS, *PAIR[::-1], *ARROWS],
        [*SPANS, *ASYNCHRONOUS, *INSTANTS],
        [*SPANS, *NOT_LOOKED_AT],
        ARROWS + OTHERS,
    ],
    ids=["spans", "arrows", "others", "pairs", "asynchronous", "not looked at", "no spans"],
)
def test_both_ways_to_decode_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    by_kind = parts_of(read_trace(path))
    monkeypatch.setattr(sink, "decode_tagged", no_kinds)
    for name, column in parts_of(read_trace(path)).items():
        np.testing.assert_array_equal(by_kind[name], column, err_msg=name)
        if isinstance(column, np.ndarray):
            assert by_kind[name].dtype == column.dtype


def test_the_arguments_of_a_kind_are_those_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": [*SPANS, *INSTANTS]}))
    file = read_trace(path)
    spans, rows = file.events, {name: row for row, name in enumerate(file.events.names[c] for c in file.events.name)}
    assert spans.texts[spans.input_dims[rows["aten::addmm"]]] == "[[2, 3], []]"
    assert (spans.texts[spans.grid[rows["gemm"]]], spans.grid[rows["aten::addmm"]]) == ("[1, 2, 3]", -1)
    assert (spans.correlation[rows["gemm"]], spans.stream[rows["gemm"]], spans.correlation[rows["f"]]) == (5, 7, -1)
    assert spans.texts[spans.collective[rows["nccl"]]] == '{"Collective name":"b"}'
    assert (memory_of(file).bytes.tolist(), memory_of(file).address.tolist()) == ([64], [4096])
    assert file.report.passed_over == {"i": 2}
