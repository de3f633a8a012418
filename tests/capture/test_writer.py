from __future__ import annotations

import gzip
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gemma_trace.capture import writer
from gemma_trace.capture.sweep import installed_version
from gemma_trace.capture.writer import trace_path, write_trace
from gemma_trace.errors import CaptureError, OutputError
from gemma_trace.metadata import Environment, RunIdentity, RunMetadata, Workload
from gemma_trace.trace.trace import load
from tests.trace_builder import TraceBuilder, decimal_us

METADATA = RunMetadata(
    schema_version=1,
    created_utc="2026-01-01T00:00:00+00:00",
    run=RunIdentity("r", "tiny", "random", "float32", "cpu", "pil"),
    workload=Workload(("1x1",), (5,), 1),
    environment=Environment(
        "0",
        "3",
        installed_version("torch") or "2",
        None,
        installed_version("transformers") or "5",
        "Linux",
        "CPU",
        1,
        1,
        1,
        "CPU",
    ),
    config={"warmup": 1, "stacks": True},
)


def exported(built: TraceBuilder, folder: Path) -> Path:
    """The file that the profiler wrote."""
    return built.write(folder / "profiler.json")


def edges(path: Path) -> dict[str, tuple[int, int]]:
    spans = load(path).spans
    return {
        spans.names[name]: (start, end)
        for name, start, end in zip(spans.name.tolist(), spans.ts_ns.tolist(), spans.end_ns.tolist(), strict=True)
    }


def test_metadata_comes_back_and_the_machine_is_not_named(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10)
    built.header |= {"host_name": "secret-host", "username": "secret-user", "traceName": "/tmp/abc/profiler.json"}
    path = trace_path(tmp_path / "run", "rank0", 12)
    write_trace([exported(built, tmp_path)], METADATA, path)
    assert path.name == "rank0.12.pt.trace.json.gz"
    assert load(path).metadata == METADATA
    text = gzip.decompress(path.read_bytes())
    assert b"secret" not in text
    assert b"/tmp/abc" not in text
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_home_folder_becomes_a_tilde_and_others_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    built = TraceBuilder().span("python_function", "/home/ann/run.py(3): main", 0, 10)
    built.span("python_function", "/home/anna/run.py(3): main", 20, 10).range("request", 0, 50)
    write_trace([exported(built, tmp_path)], METADATA, tmp_path / "a.json.gz")
    assert {"~/run.py(3): main", "run.py(3): main"} <= set(edges(tmp_path / "a.json.gz"))


def test_frames_that_cross_a_ranges_edge_end_there(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 100, 800).range("prefill", 300, 200)
    built.span("python_function", "around", 0, 1000)
    built.span("python_function", "enters request", 50, 60)
    built.span("python_function", "inside", 400, 50)
    built.span("python_function", "leaves prefill", 480, 40)
    built.span("python_function", "leaves request", 890, 30)
    built.span("python_function", "other thread", 50, 100, tid=7)
    write_trace([exported(built, tmp_path)], METADATA, tmp_path / "a.json.gz")
    found = edges(tmp_path / "a.json.gz")
    assert found["gemma_trace::request"] == (100, 900)
    assert found["gemma_trace::prefill"] == (300, 500)
    assert found["around"] == (0, 1000)
    assert found["enters request"] == (50, 100)
    assert found["inside"] == (400, 450)
    assert found["leaves prefill"] == (500, 520)
    assert found["leaves request"] == (900, 920)
    assert found["other thread"] == (50, 150)
    assert load(tmp_path / "a.json.gz").nesting.clipped == 0


def test_a_frame_that_leaves_one_range_and_enters_the_next_keeps_what_lies_between(tmp_path: Path) -> None:
    built = TraceBuilder().range("prefill", 0, 100).range("sampling", 120, 100)
    built.span("python_function", "between", 90, 50)
    write_trace([exported(built, tmp_path)], METADATA, tmp_path / "a.json.gz")
    assert edges(tmp_path / "a.json.gz")["between"] == (100, 120)


def test_events_that_need_no_trimming_stay_byte_for_byte(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10).op("aten::mm \u2581\t", 1, 2, dims=[[1, 2]])
    write_trace([exported(built, tmp_path)], METADATA, tmp_path / "a.json.gz")
    written = msgspec.json.decode(gzip.decompress((tmp_path / "a.json.gz").read_bytes()), type=dict[str, msgspec.Raw])
    original = msgspec.json.decode(built.json(), type=dict[str, msgspec.Raw])
    decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
    assert [bytes(raw) for raw in decode(written["traceEvents"])] == [
        bytes(raw) for raw in decode(original["traceEvents"])
    ]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_write_header", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_trace(
            [exported(TraceBuilder().range("request", 0, 1), tmp_path)], METADATA, tmp_path / "run" / "a.json.gz"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (b'{"traceEvents": [', "ends too early"),
        (b"", "is empty"),
        (b'{"traceEvents": [{"ph": "X", "name": "a\x01"}, {}], "displayTimeUnit": "ms"}', "control characters: 1"),
        (b'{"traceEvents": [{"ph": "X"}, 7], "displayTimeUnit": "ms"}', "undecodable events: 1"),
        (b'{"traceEvents": [{"ph": "X"}], "displayTimeUnit": nonsense}', "bare values: 1"),
    ],
)
def test_an_export_that_is_no_json_is_refused(text: bytes, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "profiler.json").write_bytes(text)
    lightest, with_stacks = replace(METADATA, config={}), replace(METADATA, config={"stacks": True})
    for metadata, advice in ((lightest, r"\)$"), (with_stacks, r"\); try without stacks=True$")):
        with pytest.raises(CaptureError, match=rf"is not valid \(.*{wrong}.*{advice}"):
            write_trace([tmp_path / "profiler.json"], metadata, tmp_path / "out" / "a.json.gz")
    assert not list(tmp_path.glob("out/*"))


def test_metadata_stands_before_the_events(tmp_path: Path) -> None:
    write_trace([exported(TraceBuilder().range("request", 0, 1), tmp_path)], METADATA, tmp_path / "a.json.gz")
    keys = list(json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes())))
    assert keys.index("gemma_trace") < keys.index("traceEvents")


def test_no_more_than_a_few_blocks_of_the_export_are_in_memory(tmp_path: Path) -> None:
    event = b'{"ph": "X", "cat": "cpu_op", "name": "%s", "pid": 1, "tid": 1, "ts": 5, "dur": 1}' % (b"x" * 200)
    file = tmp_path / "profiler.json"
    file.write_bytes(b'{"schemaVersion": 1, "traceEvents": [\n' + b",\n".join([event] * 60_000) + b"\n]}")
    tracemalloc.start()
    try:
        write_trace([file], METADATA, tmp_path / "a.json")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 9e6 < file.stat().st_size / 1.8
    assert (tmp_path / "a.json").read_bytes().count(event) == 60_000


def cycle(folder: Path, number: int, **header: object) -> Path:
    """What the profiler exports of its cycle of a number, the first being 0: its Python ids begin anew in each."""
    start = 1_000 * number
    built = TraceBuilder().names("process_name", "python", pid=1).names("thread_name", f"pool {number}", pid=1, tid=7)
    built.events = [event | {"ts": decimal_us(start)} for event in built.events]
    built.range("request", start + 100, 800)
    outer: dict[str, Any] = {"Python id": 1, "Python parent id": None}
    inner: dict[str, Any] = {"Python id": 2, "Python parent id": 1}
    built.span("python_function", f"enters {number}", start + 50, 60, **outer)
    built.span("python_function", "inside", start + 200, 50, **inner)
    built.header |= {"baseTimeNanoseconds": 0, "trace_id": f"id {number}"} | header
    return built.write(folder / f"profiler-{number}.json")


def test_cycles_follow_each_other_in_one_trace(tmp_path: Path) -> None:
    write_trace([cycle(tmp_path, number) for number in range(3)], METADATA, tmp_path / "a.json.gz")
    text = json.loads(gzip.decompress((tmp_path / "a.json.gz").read_bytes()))
    events = text["traceEvents"]
    assert text["trace_id"] == "id 0"
    frames = [event["args"] for event in events if event.get("cat") == "python_function"]
    assert [frame["Python id"] for frame in frames] == [1, 2, 3, 4, 5, 6]
    assert [frame["Python parent id"] for frame in frames] == [None, 1, None, 3, None, 5]
    named = [event["args"]["name"] for event in events if event["ph"] == "M"]
    assert named == ["python", "pool 0", "pool 1", "pool 2"], "what is said again at another time stands there once"
    found = edges(tmp_path / "a.json.gz")
    assert [found[f"enters {number}"] for number in range(3)] == [(50, 100), (1_050, 1_100), (2_050, 2_100)]
    assert len(load(tmp_path / "a.json.gz").requests) == 3


def test_a_cycle_that_is_not_like_the_first_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    first, other = cycle(tmp_path, 0), cycle(tmp_path, 1, baseTimeNanoseconds=7)
    with pytest.raises(CaptureError, match="times of its cycles from different instants; profile 10 requests or less"):
        write_trace([first, other], METADATA, tmp_path / "out" / "a.json.gz")
    other.write_bytes(other.read_bytes()[:-20])
    with pytest.raises(CaptureError, match="is not valid"):
        write_trace([first, other], METADATA, tmp_path / "out" / "a.json.gz")
    with pytest.raises(CaptureError, match="is not valid"):
        write_trace([first, tmp_path / "never exported.json"], METADATA, tmp_path / "out" / "a.json.gz")
    assert not (tmp_path / "out").exists()
