"""Counters, the names of tracks, and events that are passed over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.trace.cache import TraceCache
from gemma_trace.trace.events import CounterSeries
from gemma_trace.trace.reader import TraceFile, read_trace
from tests.conftest import tries
from tests.trace_builder import TraceBuilder, decimal_us


def read(folder: Path, built: TraceBuilder) -> TraceFile:
    return read_trace(built.op("aten::mm", 0, 5000).write(folder / "built.json"))


def samples(file: TraceFile) -> list[tuple[str, str, int, float]]:
    """Of each value its series' name and pid, its time, and itself."""
    found = file.counters
    series = [found.table[code] for code in found.series.tolist()]
    times, values = found.ts_ns.tolist(), found.value.tolist()
    return [(of.name, of.pid, *value) for of, *value in zip(series, times, values, strict=True)]


def test_counters_are_columns(tmp_path: Path) -> None:
    built = TraceBuilder().counter("SM Active %", 1500, 37.5).counter("SM Active %", 2500, 40)
    file = read(tmp_path, built.counter("SM Active %", 1500, -1e300, pid="1"))
    assert samples(file) == [
        ("SM Active %", "0", 1500, 37.5),
        ("SM Active %", "0", 2500, 40.0),
        ("SM Active %", "1", 1500, -1e300),
    ]
    assert file.counters.table == (CounterSeries("SM Active %", "0"), CounterSeries("SM Active %", "1"))
    assert [file.counters.ts_ns.dtype, file.counters.value.dtype, file.counters.series.dtype] == [
        "int64",
        "float64",
        "int32",
    ]
    assert len(file.counters) == 3
    assert (file.report.repairs, file.report.passed_over) == ({}, {})
    assert file.report.phases == {"C": 3, "X": 1}


def test_each_argument_of_a_counter_is_a_series(tmp_path: Path) -> None:
    built = (
        TraceBuilder().counter("DRAM", 1000, {"read": 1, "write": 2.5}).counter("DRAM", 2000, {"write": 3, "DRAM": 4})
    )
    assert samples(read(tmp_path, built)) == [
        ("DRAM read", "0", 1000, 1.0),
        ("DRAM write", "0", 1000, 2.5),
        ("DRAM write", "0", 2000, 3.0),
        ("DRAM", "0", 2000, 4.0),
    ]


def test_the_id_of_a_counter_tells_it_from_others_of_its_name(tmp_path: Path) -> None:
    built = (
        TraceBuilder().counter("heap", 1000, 1, id=3).counter("heap", 1000, 2, id="0x4").counter("heap", 2000, 3, id=3)
    )
    found = samples(read(tmp_path, built.counter("heap", 2000, 4)))
    assert found == [
        ("heap 3", "0", 1000, 1.0),
        ("heap 0x4", "0", 1000, 2.0),
        ("heap 3", "0", 2000, 3.0),
        ("heap", "0", 2000, 4.0),
    ]


def test_a_process_is_the_same_as_a_number_and_as_text(tmp_path: Path) -> None:
    built = TraceBuilder().counter("a", 1000, 1, pid=7).counter("a", 2000, 2, pid="7")
    assert len(read(tmp_path, built).counters.table) == 1


@pytest.mark.parametrize("value", ["text", None, True, False, [1], {"a": 1}, 10**400, "", "1e999", "0x10"])
def test_what_is_no_number_is_left_out_and_counted(tmp_path: Path, value: Any) -> None:
    built = TraceBuilder().counter("a", 1000, {"x": 1, "value": value, "y": 2})
    file = read(tmp_path, built)
    assert samples(file) == [("a x", "0", 1000, 1.0), ("a y", "0", 1000, 2.0)]
    assert file.report.repairs == {"counter_values_not_numeric": 1}


@pytest.mark.parametrize("args", [{}, [1], "text", None, 5])
def test_a_counter_without_values_is_counted(tmp_path: Path, args: Any) -> None:
    built = TraceBuilder().raw(ph="C", name="a", pid=0, ts=1, args=args).counter("b", 2000, 2)
    file = read(tmp_path, built)
    assert samples(file) == [("b", "0", 2000, 2.0)]
    assert file.report.repairs == {"counter_values_not_numeric": 1}


def test_numbers_that_are_text_are_numbers(tmp_path: Path) -> None:
    file = read(tmp_path, TraceBuilder().counter("a", 1000, "37.5").counter("a", 2000, " -2e3 "))
    assert samples(file) == [("a", "0", 1000, 37.5), ("a", "0", 2000, -2000.0)]
    assert file.report.repairs == {"text_numbers": 2}


def test_nan_is_left_out_and_counted(tmp_path: Path) -> None:
    data = (
        TraceBuilder().op("aten::mm", 0, 5).counter("a", 1000, 1.5).counter("a", 2000, "~").counter("a", 3000, 2).json()
    )
    (tmp_path / "nan.json").write_bytes(data.replace(b'"~"', b"NaN"))
    file = read_trace(tmp_path / "nan.json")
    assert samples(file) == [("a", "0", 1000, 1.5), ("a", "0", 3000, 2.0)]
    assert file.report.repairs == {"counter_values_not_numeric": 1, "not_a_number": 1}


@pytest.mark.parametrize("ts", ["1000000000000000.5", '"1.5"'], ids=["epoch", "text"])
def test_counters_are_read_in_batches_that_take_the_slow_way(tmp_path: Path, ts: str) -> None:
    # Times that a float64 doesn't hold; and a span whose pid is of a wrong type, with which nothing is assumed.
    counter = f'{{"ph": "C", "name": "a", "pid": 0, "ts": {ts}, "args": {{"value": 2, "bytes": 1.5}}}}'
    for number, strange in enumerate(("", ', {"ph": "X", "name": null, "pid": [1], "tid": {}, "ts": 5, "dur": 1}')):
        path = tmp_path / f"{number}.json"
        path.write_text(
            f'[{counter}, {{"ph": "C", "name": "lost"}}{strange}, {{"ph": "X", "name": "x", "ts": 1, "dur": 2}}]'
        )
        file = read_trace(path)
        assert [(name, value) for name, _, _, value in samples(file)] == [("a", 2.0), ("a bytes", 1.5)]
        assert file.report.repairs["undecodable_events"] == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
VALUES = st.dictionaries(
    TEXT.map(lambda name: name + "_"), st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
)


@settings(max_examples=tries(60))
@given(st.lists(st.tuples(TEXT, st.integers(-(2**50), 2**50), VALUES), min_size=1, max_size=6))
def test_any_counters_are_read_as_they_were_written(
    tmp_path: Path, written: list[tuple[str, int, dict[str, float]]]
) -> None:
    built = TraceBuilder()
    for name, at_ns, values in written:
        built.counter(name, at_ns, values)
    file = read(tmp_path, built)
    expected = [
        (f"{name} {key}", "0", at, float(value)) for name, at, values in written for key, value in values.items()
    ]
    assert samples(file) == expected
    missing = sum(not values for _, _, values in written)
    assert file.report.repairs == ({"counter_values_not_numeric": missing} if missing else {})


def test_the_names_of_tracks_are_kept(tmp_path: Path) -> None:
    built = TraceBuilder().names("process_name", "python", pid=1).names("process_labels", "GPU 0", pid="0")
    built.names("thread_name", "main", pid=1, tid=100).names("thread_sort_index", "7", pid=1, tid=100)
    built.raw(ph="M", name="process_name", pid=9, args=[]).raw(ph="M", name="thread_name", pid=9, ts=3)
    names = read(tmp_path, built).names
    assert names.processes == {"1": "python", "9": ""}
    assert names.labels == {"0": "GPU 0"}
    assert names.threads == {("1", "100"): "main", ("9", ""): ""}


def test_counters_and_names_go_through_the_cache(tmp_path: Path) -> None:
    built = TraceBuilder().counter("a", 1000, {"x": 1, "y": "?"}).names("thread_name", "main", pid=1, tid=2)
    file = read(tmp_path, built.raw(ph="P", name="sample", pid=1, tid=1, ts=3, dur=2))
    cache = TraceCache(tmp_path / "cache")
    cache.keep(file, cache.path_of(tmp_path / "built.json"))
    again = cache.load(cache.path_of(tmp_path / "built.json"))
    assert again is not None
    assert samples(again) == samples(file) == [("a x", "0", 1000, 1.0)]
    assert again.counters.table == file.counters.table
    assert (again.names, again.report) == (file.names, file.report)
    assert again.report.passed_over_ns == 2000


def begin(phase: str, at_ns: int, **more: Any) -> dict[str, Any]:
    return {"ph": phase, "cat": "x", "name": "n", "pid": 1, "tid": 1, "ts": decimal_us(at_ns)} | more


def passed_over(folder: Path, *events: dict[str, Any]) -> tuple[dict[str, int], int]:
    built = TraceBuilder()
    built.events += events
    report = read(folder, built).report
    assert report.repairs == {}
    return report.passed_over, report.passed_over_ns


@pytest.mark.parametrize("phase", ["I", "R", "i", "n", "T", "p", "N", "O", "D", "P", "c", "V", "v", "(", ")", "t", "Q"])
def test_every_phase_that_is_passed_over_is_counted(tmp_path: Path, phase: str) -> None:
    assert passed_over(tmp_path, begin(phase, 1000, id=1), begin(phase, 2000, id=1)) == ({phase: 2}, 0)


def test_an_event_without_a_phase_is_counted(tmp_path: Path) -> None:
    assert passed_over(tmp_path, {"name": "n", "ts": 1}, {}) == ({"none": 2}, 0)


def test_what_kineto_marks_in_every_trace_is_understood(tmp_path: Path) -> None:
    marks = [begin("i", 1000, name="Iteration Start: PyTorch Profiler"), begin("i", 9000, name="Record Window End")]
    memory = begin("i", 2000, name="[memory]", args={"Bytes": 1})
    assert passed_over(tmp_path, *marks, memory) == ({}, 0)
    assert passed_over(tmp_path, memory, begin("i", 3000, name="[memory]")) == ({"i": 1}, 0)


@pytest.mark.parametrize(("start", "end"), ["be", "SF"])
def test_asynchronous_pairs_cover_time(tmp_path: Path, start: str, end: str) -> None:
    # 1 lasts from 1 to 11 µs with 2 to 4 nested in it, the other from 8 to 15 µs: 14 µs together.
    events = [
        begin(start, 1000, id=1),
        begin(start, 2000, id=1),
        begin(end, 4000, id="1"),
        begin(start, 8000, id="0xa"),
    ]
    events += [begin(end, 11_000, id=1), begin(end, 15_000, id="0xa")]
    assert passed_over(tmp_path, *events) == ({start: 3, end: 3}, 14_000)


def test_halves_of_pairs_cover_nothing(tmp_path: Path) -> None:
    events = [begin("b", 1000, id=1), begin("e", 2000, id=2), begin("b", 3000, id=1, cat="y"), begin("e", 500, id=1)]
    assert passed_over(tmp_path, *events) == ({"b": 2, "e": 2}, 0)


def test_pairs_are_found_whatever_the_files_order(tmp_path: Path) -> None:
    assert passed_over(tmp_path, begin("e", 5000, id=1), begin("b", 1000, id=1)) == ({"e": 1, "b": 1}, 4000)


def test_lengths_of_unknown_phases_cover_time(tmp_path: Path) -> None:
    events = [begin("x", 1000, dur=2), begin("x", 2000, dur=3), begin("Q", 9000, dur=1), begin("Q", 9000, dur=0)]
    assert passed_over(tmp_path, *events) == ({"x": 2, "Q": 2}, 5000)


def test_a_span_among_the_others_is_a_span(tmp_path: Path) -> None:
    file = read(tmp_path, TraceBuilder().counter("a", 1000, 1).op("aten::add", 2000, 3000))
    assert file.events.ts_ns.tolist() == [0, 2000]
    assert json.loads((tmp_path / "built.json").read_bytes())["traceEvents"][0]["ph"] == "C"
