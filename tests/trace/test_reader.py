from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.errors import TraceFormatError
from gemma_trace.trace.events import NONE, Events, Track
from gemma_trace.trace.reader import ReadReport, TraceFile, read_header, read_trace
from tests.trace_builder import memory_of

BASE: dict[str, Any] = {"ph": "X", "cat": "cpu_op", "name": "op", "pid": 1, "tid": 2, "ts": 5, "dur": 3}


def event(**members: Any) -> str:
    """An event's JSON; what is given as bytes stands as it is."""
    parts = (
        f"{json.dumps(key)}: {value.decode() if isinstance(value, bytes) else json.dumps(value)}"
        for key, value in (BASE | members).items()
        if value is not ...
    )
    return "{" + ", ".join(parts) + "}"


def text_of(*events: str) -> str:
    return '{"schemaVersion": 1, "traceEvents": [' + ",\n".join(events) + '], "traceName": "t"}'


def read(folder: Path, data: str | bytes) -> TraceFile:
    path = folder / "trace.json"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_trace(path)


def names_of(events: Events) -> list[str]:
    return [events.names[code] for code in events.name]


def spans_of(file: TraceFile) -> list[tuple[str, int, int]]:
    """Name, start and length of each span."""
    events = file.events
    return list(zip(names_of(events), events.ts_ns.tolist(), events.dur_ns.tolist(), strict=True))


@pytest.mark.parametrize(
    "data",
    [
        text_of(event()).encode(),
        b"[" + event().encode() + b"]",
        b"\xef\xbb\xbf" + text_of(event()).encode(),
        b"\xef\xbb\xbf[" + event().encode() + b"]",
        b" \r\n\t" + text_of(event()).encode() + b"\n",
        b"\n [ " + event().encode() + b" \n] \n",
        gzip.compress(text_of(event()).encode(), mtime=0),
        gzip.compress(b"[" + event().encode() + b"]", mtime=0),
        gzip.compress(b'{"traceEvents": [', mtime=0) + gzip.compress(event().encode() + b"]}", mtime=0),
        b'{"traceEvents": [' + event().encode() + b",]}",
        b"[" + event().encode() + b", ]",
    ],
)
def test_a_trace_is_read_in_whatever_form_it_comes(tmp_path: Path, data: bytes) -> None:
    file = read(tmp_path, data)
    assert spans_of(file) == [("op", 5000, 3000)]
    assert file.events.tracks == (Track("1", "2"),)
    assert file.events.cats == ("cpu_op",)
    inflated = len(gzip.decompress(data)) if data.startswith(b"\x1f\x8b") else len(data)
    assert file.report == ReadReport(
        {"X": 1}, {}, truncated=False, damaged=False, inflated_bytes=inflated, first_ns=5000
    )


def test_spans_are_sorted_by_start_then_longest_then_as_in_the_file(tmp_path: Path) -> None:
    order = [("late", 9, 1), ("short", 5, 1), ("one", 5, 4), ("two", 5, 4), ("early", 1, 1), ("empty", 5, 0)]
    file = read(tmp_path, text_of(*(event(name=name, ts=ts, dur=dur) for name, ts, dur in order)))
    assert names_of(file.events) == ["early", "one", "two", "short", "empty", "late"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1600000000000000.001", 1_600_000_000_000_000_001),
        (b"1600000000000000.123", 1_600_000_000_000_000_123),
        (b"8796093022208.001", 8_796_093_022_208_001),
        (b"8796093022207.999", 8_796_093_022_207_999),
        (b"8796093022207.001", 8_796_093_022_207_001),
        (b"-1600000000000000.001", -1_600_000_000_000_000_001),
        (b"-0.001", -1),
        (b"1600000000000001", 1_600_000_000_000_001_000),
        (b"1.6e9", 1_600_000_000_000),
        (b'"1600000000000000.001"', 1_600_000_000_000_000_001),
    ],
)
def test_times_are_exact_on_either_side_of_what_floats_hold(tmp_path: Path, text: bytes, ns: int) -> None:
    file = read(tmp_path, text_of(event(ts=text, dur=b"0.001")))
    assert (file.events.ts_ns.tolist(), file.events.dur_ns.tolist()) == ([ns], [1])


def test_one_large_time_leaves_its_neighbours_exact(tmp_path: Path) -> None:
    file = read(
        tmp_path, text_of(event(ts=b"0.001"), event(ts=b"1600000000000000.003"), event(ts=b"0.002", dur=b"0.5"))
    )
    assert file.events.ts_ns.tolist() == [1, 2, 1_600_000_000_000_000_003]
    assert file.events.dur_ns.tolist() == [3000, 500, 3000]


def test_times_as_text_are_read_exactly_and_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(ts="1.5", dur="0.25"), event(ts=" 9 ", dur=1)))
    assert spans_of(file) == [("op", 1500, 250), ("op", 9000, 1000)]
    assert file.report.repairs == {"text_numbers": 3}


@pytest.mark.parametrize(("pid", "tid", "track"), [("host", "main", Track("host", "main")), (7, "x", Track("7", "x"))])
def test_pids_and_tids_may_be_text(tmp_path: Path, pid: int | str, tid: str, track: Track) -> None:
    assert read(tmp_path, text_of(event(pid=pid, tid=tid))).events.tracks == (track,)


def test_every_column_is_filled_from_its_argument(tmp_path: Path) -> None:
    args = {
        "correlation": 11,
        "External id": 12,
        "stream": 13,
        "device": 14,
        "bytes": 15,
        "Input Dims": [[2, 3], []],
        "Input type": ["float", ""],
        "grid": [1, 2, 3],
        "block": [64, 1, 1],
        "Ev Idx": 99,
    }
    events = read(tmp_path, text_of(event(args=args), event(ts=6))).events
    assert [
        column.tolist()
        for column in (events.correlation, events.external_id, events.stream, events.device, events.bytes)
    ] == [[11, NONE], [12, NONE], [13, NONE], [14, NONE], [15, NONE]]
    texts = [
        [json.loads(events.texts[code]) if code >= 0 else None for code in column]
        for column in (events.input_dims, events.input_types, events.grid, events.block)
    ]
    assert texts == [[[[2, 3], []], None], [["float", ""], None], [[1, 2, 3], None], [[64, 1, 1], None]]


@pytest.mark.parametrize(
    ("args", "correlation", "size", "stream"),
    [
        ({"correlation": 5.0, "bytes": "1024", "stream": 7}, 5, 1024, 7),
        ({"correlation": "5", "bytes": 1024.0, "stream": "7"}, 5, 1024, 7),
        ({"correlation": 5, "bytes": 1.5, "stream": None}, 5, NONE, NONE),
        ({"correlation": [5], "bytes": {"n": 1}, "stream": 7}, NONE, NONE, 7),
        ({"correlation": "five", "bytes": "", "stream": "-7"}, NONE, NONE, -7),
        ("no object", NONE, NONE, NONE),
        ([1, 2], NONE, NONE, NONE),
        (None, NONE, NONE, NONE),
    ],
)
def test_arguments_of_the_wrong_type_are_read_as_far_as_they_go(
    tmp_path: Path, args: Any, correlation: int, size: int, stream: int
) -> None:
    file = read(tmp_path, text_of(event(ts=1), event(args=args), event(ts=9)))
    events = file.events
    assert spans_of(file) == [("op", 1000, 3000), ("op", 5000, 3000), ("op", 9000, 3000)]
    assert (events.correlation[1], events.bytes[1], events.stream[1]) == (correlation, size, stream)
    assert file.report.repairs == {}


@pytest.mark.parametrize(
    ("args", "count"),
    [
        ({"correlation": 2**63, "bytes": 2**80, "stream": 2**63 - 1}, 2),
        ({"correlation": -(2**63) - 1, "stream": 2**63 - 1, "bytes": 7.5}, 1),
        ({"correlation": str(2**64), "bytes": "9" * 5000, "stream": 2**63 - 1}, 2),
        ({"correlation": 1e30, "bytes": -1, "stream": 2**63 - 1, "device": "-1"}, 1),
        ({"correlation": None, "External id": 2**64, "stream": 2**63 - 1}, 1),
    ],
)
def test_numbers_that_64_bits_do_not_hold_are_left_out_and_counted(
    tmp_path: Path, args: dict[str, Any], count: int
) -> None:
    file = read(tmp_path, text_of(event(ts=1), event(args=args), event(ts=9)))
    events = file.events
    assert len(events) == 3
    assert (events.correlation[1], events.bytes[1], events.stream[1]) == (NONE, NONE, 2**63 - 1)
    assert file.report.repairs == {"numbers_too_large": count}


def test_an_address_that_64_bits_do_not_hold_is_counted(tmp_path: Path) -> None:
    args = {"Device Type": 1, "Device Id": 0, "Addr": 2**64 - 1, "Bytes": 512}
    file = read(tmp_path, text_of(event(ph="i", name="[memory]", args=args), event(ts=6)))
    assert (memory_of(file).address.tolist(), memory_of(file).bytes.tolist()) == ([NONE], [512])
    assert file.report.repairs == {"numbers_too_large": 1}


def test_names_and_ids_of_the_wrong_type_become_text(tmp_path: Path) -> None:
    events = read(tmp_path, text_of(event(name=12, cat=None, pid=None, tid=1.5))).events
    assert (events.names, events.cats, events.tracks) == (("12",), ("",), (Track("", "1.5"),))


def test_negative_durations_count_as_zero_and_are_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(dur=-4), event(ts=6, dur=b"-0.001"), event(ts=7, dur=2)))
    assert spans_of(file) == [("op", 5000, 0), ("op", 6000, 0), ("op", 7000, 2000)]
    assert file.report.repairs == {"negative_durations": 2}


@pytest.mark.parametrize("missing", [..., None, b"NaN"])
def test_missing_durations_count_as_zero_and_are_counted(tmp_path: Path, missing: Any) -> None:
    file = read(tmp_path, text_of(event(dur=missing), event(ts=6, dur=2)))
    assert spans_of(file) == [("op", 5000, 0), ("op", 6000, 2000)]
    assert file.report.repairs["missing_durations"] == 1
    assert file.report.repairs.get("not_a_number", 0) == (missing == b"NaN")


@pytest.mark.parametrize("missing", [..., None, "soon", b"-Infinity"])
def test_a_span_without_a_start_is_left_out_and_counted(tmp_path: Path, missing: Any) -> None:
    file = read(tmp_path, text_of(event(name="lost", ts=missing), event(name="kept")))
    assert spans_of(file) == [("kept", 5000, 3000)]
    assert file.report.repairs["undecodable_events"] == 1
    assert file.report.phases == {"X": 1}


def test_metadata_events_need_no_time(tmp_path: Path) -> None:
    meta = '{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "python"}}'
    file = read(tmp_path, text_of(meta, event(), meta))
    assert spans_of(file) == [("op", 5000, 3000)]
    assert (file.report.phases, file.report.repairs) == ({"M": 2, "X": 1}, {})


def test_events_that_are_no_spans_are_counted_by_phase(tmp_path: Path) -> None:
    others = [event(ph=phase, dur=..., id=3) for phase in "ssftiC"]
    file = read(tmp_path, text_of(*others, event()))
    assert len(file.events) == 1
    assert file.report.phases == {"s": 2, "f": 1, "t": 1, "i": 1, "C": 1, "X": 1}
    assert file.report.passed_over == {"t": 1, "i": 1}
    assert file.report.repairs == {"counter_values_not_numeric": 1}  # the counter has no value


def test_an_event_that_cant_be_mended_is_left_out_and_counted(tmp_path: Path) -> None:
    broken = '{"ph": "X", "name" what, "ts": 1}'
    file = read(tmp_path, text_of(event(name="before"), broken, event(name="after", ts=6)))
    assert spans_of(file) == [("before", 5000, 3000), ("after", 6000, 3000)]
    assert file.report.repairs == {"undecodable_events": 1}
    assert not file.report.truncated


def test_all_top_level_members_but_the_events_are_kept(tmp_path: Path) -> None:
    data = '{"a": {"traceEvents": [1]}, "traceEvents": [' + event() + '], "b": [1, {"c": "]}"}], "d": null}'
    header = read(tmp_path, data).header
    assert {key: json.loads(bytes(raw)) for key, raw in header.items()} == {
        "a": {"traceEvents": [1]},
        "b": [1, {"c": "]}"}],
        "d": None,
    }


def test_members_that_need_repair_are_repaired(tmp_path: Path) -> None:
    data = '{"a": NaN, "traceEvents": [' + event() + '], "b": "C:\\data"}'
    file = read(tmp_path, data)
    assert {key: json.loads(bytes(raw)) for key, raw in file.header.items()} == {"a": None, "b": r"C:\data"}
    assert file.report.repairs == {"not_a_number": 1, "broken_escapes": 1}


def test_the_header_alone_is_what_stands_before_the_events(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"a": 1, "b": [2], "traceEvents": [' + event() + '], "c": 3}')
    assert {key: json.loads(bytes(raw)) for key, raw in read_header(path).items()} == {"a": 1, "b": [2]}


def test_a_bare_list_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("[" + event() + "]")
    assert read_header(path) == {} == read_trace(path).header


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; was the trace written to its end?"),
        (b" \n", "is empty; was the trace written to its end?"),
        (gzip.compress(b"", mtime=0), "is empty; was the trace written to its end?"),
        (b"hello", "is not a trace: it is neither a JSON object nor a list of events"),
        (b'"traceEvents"', "is not a trace: it is neither a JSON object nor a list of events"),
        (text_of(event()).encode("utf-16"), "is not a trace: it is neither a JSON object nor a list of events"),
        (b"\x89PNG\r\n", "is not a trace: it is neither a JSON object nor a list of events"),
        (b"{}", "is not a trace: it has no traceEvents; give a file that torch.profiler exported"),
        (b'{"traceEvents": 5}', "is not a trace: it has no traceEvents; give a file that torch.profiler exported"),
        (
            b'{"a": {"traceEvents": []}}',
            "is not a trace: it has no traceEvents; give a file that torch.profiler exported",
        ),
        (b'{"traceEvents": []}', "has no trace events; was the profiler running?"),
        (b'{"traceEvents": [', "has no trace events; was the profiler running?"),
        (b"[]", "has no trace events; was the profiler running?"),
        (b"[", "has no trace events; was the profiler running?"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(TraceFormatError) as caught:
        read(tmp_path, data)
    assert str(caught.value) == f"{tmp_path / 'trace.json'} {message}"


@pytest.mark.parametrize(
    "kept",
    [event(), event() + ", ", event() + ', {"ph": "X", "na', event() + "\n", event() + ', {"name": "a \\'],
    ids=len,
)
@pytest.mark.parametrize("before", ["[", '{"a": 1, "traceEvents": ['], ids=["list", "object"])
def test_a_trace_without_its_end_yields_its_whole_events(tmp_path: Path, before: str, kept: str) -> None:
    file = read(tmp_path, before + kept)
    assert spans_of(file) == [("op", 5000, 3000)]
    assert (file.report.truncated, file.report.repairs) == (True, {})
    assert list(file.header) == (["a"] if before != "[" else [])


def test_a_trace_that_ends_behind_its_events_is_truncated(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event())[:-3])
    assert (len(file.events), file.report.truncated) == (1, True)
    assert [json.loads(bytes(raw)) for raw in file.header.values()] == [1]


def test_a_file_whose_events_cant_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "lost.json"
    path.write_text(
        '{"traceEvents": [{"ph": "X", "name": "a", "ts": 1e400, "dur": 5, "args": {"x": }}, {"ph": "X", "ts"}]}'
    )
    with pytest.raises(TraceFormatError, match="has 2 events, of which none can be read; capture again"):
        read_trace(path)


def test_arguments_of_other_types_are_read_alike_whatever_stands_beside_them(tmp_path: Path) -> None:
    """What can't be decoded at all changes how a whole batch is decoded, and no value of the others."""
    odd = [None, True, "7", 7.0, 7.5, 2**63, -(2**63), "x", [7], {"a": 7}]
    events = [
        event(ts=place, args={"stream": value, "correlation": value, "Input Dims": [[place]]})
        for place, value in enumerate(odd)
    ]
    alone = read(tmp_path, text_of(*events))
    hopeless = event(ts=len(odd), args={"stream": 0}).replace('"stream": 0', '"stream": 1e400')
    beside = read(tmp_path, text_of(*events, hopeless))
    wanted = [-1, 1, 7, 7, -1, -1, -(2**63), -1, -1, -1]
    for found in (alone, beside):
        assert found.events.stream.tolist()[: len(odd)] == wanted
        assert found.events.correlation.tolist()[: len(odd)] == wanted
        assert [found.events.texts[code] for code in found.events.input_dims[: len(odd)]] == [
            f"[[{place}]]" for place in range(len(odd))
        ]
    assert alone.report.repairs["numbers_too_large"] == 2
    assert beside.report.repairs["unreadable_values"] == 1
