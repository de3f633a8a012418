"""What is read only where something needs it: strides, values of inputs that are no tensors, and memory events."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.cli import main
from gemma_trace.errors import TraceFormatError, UnreadableError
from gemma_trace.remote import path_of
from gemma_trace.trace import cache as cache_module
from gemma_trace.trace.cache import TraceCache
from gemma_trace.trace.events import TEXT_COLUMNS, DetailedEvents, Events
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.schema import DETAIL_COLUMNS
from gemma_trace.trace.trace import Trace, load
from tests.conftest import quick_first, tries
from tests.trace.test_ahead import BROKEN, REAL, STRANGE, is_small, outcome
from tests.trace_builder import TraceBuilder

MEMORY: dict[str, Any] = {"Device Type": 1, "Device Id": 0, "Addr": 4096, "Bytes": 512, "Total Allocated": 512}
DAMAGED_DETAILS = [
    {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": 2, "args": None},
    {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": 2, "args": [1]},
    {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": 2},
    {"ph": "i", "name": "Iteration Start: PyTorch Profiler", "pid": 1, "tid": 1, "ts": 2, "args": {}},
]


def built(strides: str = "[[2, 1]]") -> TraceBuilder:
    """A request with an op that has strides, a kernel, and an allocation."""
    trace = TraceBuilder().range("request", 0, 1000)
    args = {"Input Dims": [[1, 2]], "Input Strides": json.loads(strides), "Concrete Inputs": ["3"]}
    trace.span("cpu_op", "aten::mm", 10, 100, **args).launch(7, 20).kernel("gemm", 50, 200, correlation=7)
    return trace.raw(ph="i", name="[memory]", cat="cpu_instant_event", pid=1, tid=100, ts=0.03, args=MEMORY)


def text_of(value: object) -> str:
    return msgspec.json.encode(value).decode()


def shared_columns(events: Events) -> dict[str, Any]:
    """Of each column that is read in either case its values, codes of texts spelled out."""
    spelled: dict[str, Sequence[object]] = {"name": events.names, "cat": events.cats, "track": events.tracks}
    spelled |= dict.fromkeys(TEXT_COLUMNS, (*events.texts, None)) | {"node_label": (*events.names, None)}
    columns: dict[str, Any] = {}
    for name, column in vars(events).items():
        if isinstance(column, np.ndarray) and name not in DETAIL_COLUMNS:
            values = column.tolist()
            columns[name] = [spelled[name][code] for code in values] if name in spelled else values
    return columns


def assert_alike_but_for_details(path: Path) -> None:
    detailed, brief = outcome(path, 1, detailed=True), outcome(path, 1, detailed=False)
    if isinstance(detailed, str) or isinstance(brief, str):
        assert detailed == brief
        return
    assert (detailed.is_detailed, brief.is_detailed, brief.memory) == (True, False, None)
    assert shared_columns(brief.events) == shared_columns(detailed.events)
    assert not any(hasattr(brief.events, name) for name in DETAIL_COLUMNS), "nobody takes what wasn't read for absent"
    assert (brief.names, brief.content, brief.header) == (detailed.names, detailed.content, detailed.header)
    assert brief.report == detailed.report
    for part in ("flows", "counters"):
        for name, column in vars(getattr(detailed, part)).items():
            np.testing.assert_array_equal(getattr(getattr(brief, part), name), column)


@pytest.mark.uncounted
@pytest.mark.parametrize("path", quick_first(REAL, is_small), ids=lambda path: path.name)
def test_every_trace_there_is_is_read_alike_but_for_its_details(path: Path) -> None:
    assert_alike_but_for_details(path)


@settings(max_examples=tries(60))
@given(
    events=st.lists(
        st.sampled_from([text_of(each) for each in [*STRANGE, *DAMAGED_DETAILS, *built().events]] + BROKEN),
        max_size=40,
    )
)
def test_whatever_a_trace_holds_it_is_read_alike_but_for_its_details(tmp_path: Path, events: list[str]) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"traceEvents": [' + ",\n".join(events) + "]}")
    assert_alike_but_for_details(path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each time that a file is read from here on, whether with its details."""
    seen: list[bool] = []

    def noticed(*given: Any, detailed: bool = True) -> TraceFile:
        seen.append(detailed)
        return read_trace(*given, detailed=detailed)

    monkeypatch.setattr(cache_module, "read_trace", noticed)
    return seen


def assert_has_its_details(trace: Trace) -> None:
    spans = trace.details.spans
    (op,) = np.flatnonzero(spans.input_strides >= 0).tolist()
    assert spans.names[spans.name[op]] == "aten::mm"
    assert (spans.texts[spans.input_strides[op]], spans.texts[spans.concrete_inputs[op]]) == ("[[2,1]]", '["3"]')
    assert trace.memory.address.tolist() == [4096]
    assert trace.memory_on.of(0).tolist() == [0]
    assert trace.events()["input_strides"].tolist()[op] == "[[2,1]]"


def compact(path: Path) -> Path:
    path.write_text(text_of({"traceEvents": built().events}))
    return path


def test_details_that_were_not_read_are_read_when_they_are_asked_for(tmp_path: Path, reads: list[bool]) -> None:
    trace = load(compact(tmp_path / "a.json"), detailed=False)
    assert type(trace.spans) is Events
    assert reads == [False]
    assert_has_its_details(trace)
    assert reads == [False, True], "once"
    assert len(trace.details.spans) == len(trace.spans)


def test_by_default_all_is_read_at_once(tmp_path: Path, reads: list[bool]) -> None:
    trace = load(compact(tmp_path / "a.json"))
    assert isinstance(trace.spans, DetailedEvents)
    assert_has_its_details(trace)
    assert reads == [True]


def test_details_of_a_file_that_has_changed_meanwhile_are_refused(tmp_path: Path) -> None:
    path = compact(tmp_path / "a.json")
    trace = load(path, detailed=False)
    path.write_text(path.read_text().replace("4096", "8192"))
    with pytest.raises(UnreadableError, match=r"a\.json changed while it was read; run the command again"):
        _ = trace.memory
    path.unlink()
    with pytest.raises(UnreadableError, match="no file at"):
        _ = trace.memory


def test_what_was_read_without_details_alone_says_so(tmp_path: Path) -> None:
    path = compact(tmp_path / "a.json")
    with pytest.raises(UnreadableError, match="was read without its details; read it with detailed=True"):
        _ = Trace(read_trace(path, detailed=False), path).memory


def test_the_cache_keeps_what_was_read_and_more_once_it_is_asked_for(
    tmp_path: Path, reads: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1)
    path, cache = compact(tmp_path / "a.json"), TraceCache(tmp_path / "cache")
    load(path, cache=cache, detailed=False)
    assert type(load(path, cache=cache, detailed=False).spans) is Events
    assert reads == [False]
    trace = load(path, cache=cache, detailed=False)
    assert_has_its_details(trace)
    assert reads == [False, True]
    for detailed in (True, False):
        assert_has_its_details(load(path, cache=cache, detailed=detailed))
    assert reads == [False, True], "the entry holds the details now"
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_remote_trace_is_asked_for_once(reads: list[bool]) -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs the extra scale")
    with fsspec.open("memory://details/a.json", "w") as file:
        file.write(text_of({"traceEvents": built().events}))
    assert_has_its_details(load(path_of("memory://details/a.json"), detailed=False))
    assert reads == [True]


def test_a_trace_of_memory_events_alone_is_told_in_the_same_words(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(text_of({"traceEvents": [event for event in built().events if event["ph"] == "i"]}))
    for detailed in (True, False):
        with pytest.raises(TraceFormatError, match="holds 1 memory event but no span"):
            load(path, detailed=detailed)


def test_displaced_spans_are_left_out_of_the_details_too(tmp_path: Path) -> None:
    args: dict[str, Any] = {"Input Strides": [[9]]}
    trace = built().span("cpu_op", "aten::late", 2_000_000_000 * 10**9, 5, **args)
    read = load(trace.write(tmp_path / "a.json"), detailed=False)
    assert read.implausible.displaced == 1
    assert len(read.details.spans) == len(read.spans) == 4
    assert "[[9]]" not in {read.details.spans.texts[code] for code in read.details.spans.input_strides if code >= 0}


@pytest.mark.parametrize(
    ("command", "detailed"),
    [
        (lambda path: ["kernels", str(path)], [False]),
        (lambda path: ["kernels", str(path), "--by", "shape"], [False]),
        (lambda path: ["kernels", str(path), "--roofline"], [True]),
        (lambda path: ["tree", str(path)], [False]),
        (lambda path: ["summarize", str(path)], [False]),
        (lambda path: ["diff", str(path), str(path)], [False, False]),
        (lambda path: ["what-if", str(path), "--scale", "family:gemm=0.5"], [False]),
        (lambda path: ["hta", str(path)], [False]),
        (lambda path: ["stages", str(path)], [True]),
        (lambda path: ["check", str(path)], [True]),
    ],
)
def test_a_command_reads_a_trace_once_and_no_more_than_it_needs(
    tmp_path: Path, reads: list[bool], command: Callable[[Path], list[str]], detailed: list[bool]
) -> None:
    arguments = command(compact(tmp_path / "a.json"))
    if "hta" in arguments:
        pytest.importorskip("hta", reason="needs the extra hta")
    assert main([*arguments, "--no-cache", "-o", str(tmp_path / "out.json")]) in (0, 3)
    assert reads == detailed[: len(reads)]
    assert reads, "the trace was read"
