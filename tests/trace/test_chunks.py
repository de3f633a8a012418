"""A trace read in many small chunks is the trace read in one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace.trace import cuts, reader, source
from gemma_trace.trace.events import Events
from gemma_trace.trace.reader import TraceFile, read_header, read_trace
from tests.conftest import thorough

CHUNKS = [40, 333, *thorough([97, 200, 1024])]
TRICKY = [
    "plain",
    "a},{b",
    "x]}",
    r"C:\dir",
    'she said "},{"',
    "[[{{",
    'end\\"',
    '{"ph": "X"}, {"ph": "X"}',
    "],",
    "\t",
]


def trace_events(count: int = 60) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "ts": 0, "args": {}}]
    for index in range(count):
        name = f"{TRICKY[index % len(TRICKY)]} {index // 2}"
        args = {"correlation": index, "list": [{"a": "],"}, {"b": [{}, {}]}], name: name}
        events.append(
            {"ph": "X", "cat": "cpu_op", "name": name, "pid": 1, "tid": index % 3, "ts": index, "dur": 2, "args": args}
        )
    return events


def chunked(path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> TraceFile:
    with monkeypatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk_bytes)
        return read_trace(path)


def take_everything_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where something in every chunk can't be read."""
    monkeypatch.setattr(cuts, "CUTS_TRIED", 0)
    monkeypatch.setattr(reader, "BRACKETS_TRIED", 0)


def members(file: TraceFile) -> dict[str, Any]:
    return {key: json.loads(bytes(raw)) for key, raw in file.header.items()}


def rows(events: Events) -> list[tuple[Any, ...]]:
    """All that each span holds, codes spelled out."""
    frame = events.to_frame()
    return list(frame.astype(object).where(frame.notna(), None).itertuples(index=False, name=None))


def assert_alike(one: TraceFile, other: TraceFile) -> None:
    assert rows(one.events) == rows(other.events)
    assert members(one) == members(other)
    assert one.report == other.report


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("compressed", [False, True])
def test_chunks_of_any_size_give_the_same_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, indent: int | None, compressed: bool
) -> None:
    events = trace_events()
    data = json.dumps({"before": {"k": [1]}, "traceEvents": events, "after": "x]"}, indent=indent).encode()
    path = tmp_path / "trace.json"
    path.write_bytes(gzip.compress(data) if compressed else data)
    file = chunked(path, monkeypatch, chunk_bytes)
    found = [file.events.names[code] for code in file.events.name]
    assert found == [event["name"] for event in events if event["ph"] == "X"]
    assert file.events.correlation.tolist() == list(range(60))
    assert members(file) == {"before": {"k": [1]}, "after": "x]"}
    assert (file.report.phases, file.report.repairs) == ({"M": 1, "X": 60}, {})
    assert (file.report.truncated, file.report.inflated_bytes) == (False, len(data))
    assert_alike(file, read_trace(path))


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_a_bare_list_may_come_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace_events()))
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.correlation.tolist() == list(range(60))
    assert_alike(file, read_trace(path))


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_begin_and_end_are_paired_across_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    # 20 spans within each other, and one begin on top that never ends.
    events: list[dict[str, Any]] = [{"ph": "B", "name": f"span {i}", "pid": 1, "tid": 1, "ts": i} for i in range(21)]
    events += [{"ph": "E", "pid": 1, "tid": 1, "ts": 100 + i} for i in range(20)]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.ts_ns.tolist() == [1000 * i for i in range(1, 21)]
    assert file.events.dur_ns.tolist() == [1000 * (120 - 2 * i) for i in range(1, 21)]
    assert file.report.repairs == {"unpaired_begins": 1}


@pytest.mark.parametrize("chunk_bytes", [64, 200, 1024])
def test_a_tail_larger_than_a_chunk_is_found_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    tail = {"devices": [{"id": index, "name": "},{ ]"} for index in range(100)], "note": "]" * 2000, "end": 1}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"first": 1, "traceEvents": trace_events(5)} | tail))
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.correlation.tolist() == [0, 1, 2, 3, 4]
    assert members(file) == {"first": 1} | tail
    assert (file.report.truncated, file.report.repairs) == (False, {})


@pytest.mark.parametrize("chunk_bytes", [64, 200, 1024])
def test_a_head_larger_than_a_chunk_is_found_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    head = {"nested": {"traceEvents": [{}] * 300}, "note": '"traceEvents": [' * 100}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(head | {"traceEvents": trace_events(5), "end": 1}))
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.correlation.tolist() == [0, 1, 2, 3, 4]
    assert members(file) == head | {"end": 1}
    with monkeypatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk_bytes)
        assert list(read_header(path)) == list(head)


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_an_event_larger_than_many_chunks_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    events = trace_events(3)
    events[2]["args"]["stack"] = ["},{"] * 1000
    events[2]["name"] = "long " * 1000
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.correlation.tolist() == [0, 1, 2]
    assert file.events.names[file.events.name[1]] == "long " * 1000


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
def test_repairs_in_chunks_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    text = json.dumps({"traceEvents": trace_events()})
    text = text.replace('"ts": 7,', '"ts": 7, "x": NaN,').replace('"ts": 40,', '"ts": 40, "y": "\x01",')
    text = text.replace('"ts": 50, "dur": 2', r'"ts": 50, "z": "C:\q", "dur": -1')
    path = tmp_path / "trace.json"
    path.write_text(text)
    file = chunked(path, monkeypatch, chunk_bytes)
    assert file.events.correlation.tolist() == list(range(60))
    assert file.report.repairs == {
        "not_a_number": 1,
        "control_characters": 1,
        "broken_escapes": 1,
        "negative_durations": 1,
    }


@pytest.mark.parametrize("chunk_bytes", [97, *thorough([200, 1024])])
def test_a_trace_cut_anywhere_yields_the_events_before_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    parts = [json.dumps(event) for event in trace_events(20)]
    start = '{"traceEvents": ['
    ends = np.cumsum([len(start), *(len(part) + 2 for part in parts)])[1:] - 2
    text = start + ", ".join(parts)
    for cut in range(ends[1], len(text), 37):
        path = tmp_path / "cut.json"
        path.write_text(text[:cut])
        file = chunked(path, monkeypatch, chunk_bytes)
        assert sum(file.report.phases.values()) == int((ends <= cut).sum())
        assert file.report.truncated


@pytest.mark.parametrize("chunk_bytes", [20, 39, 58, 77, 200])
def test_a_chunks_border_within_a_name_leaves_the_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    wanted = [f"loss is NaN, größer 漢字 {index}" for index in range(20)]
    path = tmp_path / "trace.json"
    events = [{"ph": "X", "name": name, "pid": 1, "tid": 1, "ts": i, "dur": 1} for i, name in enumerate(wanted)]
    path.write_text(json.dumps({"traceEvents": events}, ensure_ascii=False), encoding="utf-8")
    take_everything_apart(monkeypatch)
    file = chunked(path, monkeypatch, chunk_bytes)
    assert [file.events.names[code] for code in file.events.name] == wanted
    assert file.report.repairs == {}


def test_a_chunks_border_within_the_tail_leaves_the_tail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.json"
    note = "NaN 漢字 " * 100
    path.write_text(json.dumps({"traceEvents": trace_events(2), "note": note}, ensure_ascii=False), encoding="utf-8")
    for chunk_bytes in range(64, 96):
        file = chunked(path, monkeypatch, chunk_bytes)
        assert members(file)["note"] == note
        assert file.report.repairs == {}


@pytest.mark.parametrize("chunk_bytes", CHUNKS)
@pytest.mark.parametrize("indent", [None, 2])
def test_chunks_read_event_by_event_give_the_same_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, indent: int | None
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"a": 1, "traceEvents": trace_events(), "b": "x]"}, indent=indent))
    whole = read_trace(path)
    take_everything_apart(monkeypatch)
    assert_alike(chunked(path, monkeypatch, chunk_bytes), whole)


def loose_among_others(folder: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> TraceFile:
    events: list[dict[str, Any]] = [
        {"ph": "X", "name": "op", "cat": "cpu_op", "pid": 1, "tid": 2, "ts": index, "dur": 9 - index}
        for index in range(8)
    ]
    events[5]["args"] = {"stream": None}
    path = folder / "trace.json"
    path.write_text(json.dumps(events))
    return chunked(path, monkeypatch, chunk_bytes)


def test_a_loosely_read_event_stays_on_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = loose_among_others(tmp_path, monkeypatch, 200)
    assert len(set(file.events.track.tolist())) == 1
    assert len(file.events.tracks) == 1
