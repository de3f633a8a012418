"""The trace that viewers get."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.errors import InputError, OutputError, TraceFormatError
from gemma_trace.export.part import ExportResult
from gemma_trace.export.viewer import export_trace
from gemma_trace.trace.trace import load
from tests.trace_builder import TraceBuilder


def exported(built: TraceBuilder, folder: Path) -> tuple[dict[str, Any], ExportResult]:
    result = export_trace(built.load(folder), folder / "out.json")
    content = json.loads((folder / "out.json").read_text(), parse_float=str)
    return content, result


def events_of(content: dict[str, Any], phase: str, name: str | None = None) -> list[dict[str, Any]]:
    return [event for event in content["traceEvents"] if event["ph"] == phase and name in (None, event["name"])]


def names_of(content: dict[str, Any]) -> dict[tuple[int, int], str]:
    processes = {event["pid"]: event["args"]["name"] for event in events_of(content, "M", "process_name")}
    threads = events_of(content, "M", "thread_name")
    return {(event["pid"], event["tid"]): f"{processes[event['pid']]}/{event['args']['name']}" for event in threads}


def test_times_are_relative_and_exact_to_the_nanosecond(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 1_700_000_000_123_456_789, 1001).op("aten::mm", 1_700_000_000_123_456_790, 3)
    built.header["baseTimeNanoseconds"] = 5
    content, result = exported(built, tmp_path)
    assert [(event["ts"], event["dur"]) for event in events_of(content, "X", "aten::mm")] == [
        ("0.000", "1.001"),
        ("0.001", "0.003"),
    ]
    assert result.record.shift_ns == 1_700_000_000_123_456_789
    assert content["baseTimeNanoseconds"] == 5 + 1_700_000_000_123_456_789
    assert content["gemma_trace_export"]["shift_ns"] == result.record.shift_ns


def test_arguments_and_unknown_members_stay(tmp_path: Path) -> None:
    args = {"Input Dims": [[2, 3], []], "anything": {"deep": ["é", None, 1e-7]}}
    built = TraceBuilder().raw(ph="X", cat="cpu_op", name="op", pid=1, tid=2, ts=5, dur=1, args=args, cname="good")
    content, _ = exported(built, tmp_path)
    (event,) = events_of(content, "X", "op")
    assert json.loads(json.dumps(event["args"])) == args | {"anything": {"deep": ["é", None, "1e-7"]}}
    assert event["cname"] == "good"


def test_pairs_become_spans_and_what_has_no_time_is_counted(tmp_path: Path) -> None:
    built = TraceBuilder().raw(ph="B", cat="cpu_op", name="pair", pid=1, tid=2, ts=5, args={"a": 1})
    built.raw(ph="X", cat="cpu_op", name="timeless", pid=1, tid=2, dur=1).op("op", 5200, 10, tid=2)
    built.raw(ph="E", pid=1, tid=2, ts=6).raw(ph="B", cat="cpu_op", name="unpaired", pid=1, tid=2, ts=9)
    content, result = exported(built, tmp_path)
    (event,) = events_of(content, "X", "pair")
    assert (event["ts"], event["dur"], event["args"]) == ("0.000", "1.000", {"a": 1})
    assert not events_of(content, "X", "timeless") + events_of(content, "X", "unpaired") + events_of(content, "E")
    assert (result.written, result.left_out) == ({"X": 2}, {"without_time": 1})


def test_ids_are_positive_numbers_and_say_what_they_were(tmp_path: Path) -> None:
    built = TraceBuilder().op("a", 0, 10, tid=-5).op("b", 0, 10).span("Trace", "c", 0, 10, pid="Spans", tid="Profiler")
    built.kernel("k", 0, 5).span("kernel", "other device", 0, 5, pid=3, tid=7, stream=7, device=1, correlation=0)
    content, _ = exported(built, tmp_path)
    spans = [event for event in events_of(content, "X") if event.get("cat") != "gemma_trace"]
    tracks = {event["name"]: (event["pid"], event["tid"]) for event in spans}
    assert all(0 < number < 2**31 for track in tracks.values() for number in track)
    assert len({tid for _, tid in tracks.values()}) == 5, "no number stands for two threads"
    assert tracks["b"] == (1, 100), "what viewers take stays"
    names = names_of(content)
    assert names[tracks["a"]].endswith("/thread -5")
    assert names[tracks["c"]] == "Spans/Profiler"
    assert names[tracks["k"]] == "device 0/stream 7"


def test_names_of_the_trace_stay(tmp_path: Path) -> None:
    built = TraceBuilder().op("op", 0, 10).kernel("k", 0, 5).range("prefill", 0, 20)
    for pid, kind, args in (
        (1, "process_name", {"name": "python"}),
        (1, "process_labels", {"labels": "CPU"}),
        (0, "process_name", {"name": "python"}),
        (0, "process_labels", {"labels": "GPU 0"}),
    ):
        built.raw(ph="M", name=kind, pid=pid, tid=0, args=args)
    built.raw(ph="M", name="thread_name", pid=1, tid=100, args={"name": "main "})
    built.raw(ph="M", name="thread_name", pid=0, tid=7, args={"name": "stream 7 "})
    content, _ = exported(built, tmp_path)
    assert set(names_of(content).values()) == {
        "stages/host",
        "stages/device",
        "stages/time",
        "stages/critical path",
        "python/main",
        "python/main · annotations",
        "GPU 0/stream 7",
    }
    assert [event["args"]["labels"] for event in events_of(content, "M", "process_labels")] == ["CPU"]


def test_arrows_follow_their_spans_and_come_last(tmp_path: Path) -> None:
    built = TraceBuilder()
    for number, (start, length) in enumerate(((100, 100), (150, 100))):
        built.raw(ph="s", id=number, cat="ac2g", name="ac2g", pid=1, tid=100, ts=number / 1000)
        built.launch(number + 1, number, 1)
        built.raw(ph="f", bp="e", id=number, cat="ac2g", name="ac2g", pid=0, tid=7, ts=start / 1000)
        built.kernel(f"k{number}", start, length, correlation=number + 1)
    content, result = exported(built, tmp_path)
    tracks = {event["name"]: (event["pid"], event["tid"]) for event in events_of(content, "X")}
    ends = [(event["pid"], event["tid"]) for event in events_of(content, "f")]
    assert ends == [tracks["k0"], tracks["k1"]]
    assert tracks["k0"] != tracks["k1"], "they overlap on one stream"
    assert result.record.moved_spans == 1
    phases = [event["ph"] for event in content["traceEvents"]]
    assert phases.index("s") > max(place for place, phase in enumerate(phases) if phase == "X" and place < 10)


def test_an_arrows_id_is_a_number_or_a_text(tmp_path: Path) -> None:
    built = TraceBuilder().op("op", 0, 10)
    for value in (7, "0x7", {"local": 1}, 10**30):
        built.raw(ph="s", id=value, cat="a", name="a", pid=1, tid=100, ts=0)
    content, _ = exported(built, tmp_path)
    assert [event["id"] for event in events_of(content, "s")] == [7, "0x7", "{'local': 1}", str(10**30)]


def test_spans_that_start_together_are_written_the_outer_one_first(tmp_path: Path) -> None:
    content, _ = exported(TraceBuilder().op("inner", 10, 5).op("x", 11, 1).op("outer", 10, 50), tmp_path)
    assert [event["name"] for event in events_of(content, "X") if event["cat"] == "cpu_op"] == ["x", "outer", "inner"]


def test_stages_and_counters_are_on_top(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("vision_tower", 100, 50).launch(1, 110).launch(2, 120)
    built.kernel("a", 200, 300, correlation=1).kernel("b", 600, 100, correlation=2)
    memory = {"Device Id": 0, "Bytes": 512, "Total Allocated": 4096, "Total Reserved": 8192}
    built.raw(ph="i", s="t", name="[memory]", pid=1, tid=100, ts=0.3, args=memory)
    content, _ = exported(built, tmp_path)
    names = names_of(content)
    slices: dict[str, list[tuple[str, str, str]]] = {}
    for event in events_of(content, "X"):
        if event["cat"] == "gemma_trace":
            row = names[event["pid"], event["tid"]]
            slices.setdefault(row, []).append((event["name"], event["ts"], event["dur"]))
    assert slices == {
        "stages/host": [("request 0", "0.000", "1.000"), ("vision_tower", "0.100", "0.050")],
        "stages/device": [("vision_tower", "0.200", "0.300"), ("vision_tower", "0.600", "0.100")],
        "stages/time": [
            ("unattributed", "0.000", "0.100"),
            ("vision_tower", "0.100", "0.050"),
            ("unattributed", "0.150", "0.050"),
            ("vision_tower", "0.200", "0.300"),
            ("unattributed", "0.500", "0.100"),
            ("vision_tower", "0.600", "0.100"),
            ("unattributed", "0.700", "0.300"),
        ],
        "stages/critical path": [  # nothing waits for the device
            ("unattributed: host", "0.000", "0.100"),
            ("vision_tower: host", "0.100", "0.050"),
            ("unattributed: host", "0.150", "0.850"),
        ],
    }
    queue = [(event["ts"], event["args"]) for event in events_of(content, "C", "device 0 launch queue")]
    assert queue == [
        ("0.110", {"depth": 1}),
        ("0.120", {"depth": 2}),
        ("0.200", {"depth": 1}),
        ("0.600", {"depth": 0}),
    ]
    allocated = [(event["ts"], event["args"]) for event in events_of(content, "C", "device 0 memory allocated")]
    assert allocated == [("0.300", {"bytes": 4096})]
    (first, *_) = [event for event in events_of(content, "M", "process_sort_index") if event["args"]["sort_index"] < 0]
    assert first["pid"] == events_of(content, "M", "process_name")[0]["pid"]


def test_an_export_is_no_trace_to_read(tmp_path: Path) -> None:
    exported(TraceBuilder().op("op", 0, 10), tmp_path)
    with pytest.raises(TraceFormatError, match="give the trace that it was made from"):
        load(tmp_path / "out.json")


def test_foreign_headers_and_the_home_folder_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    built = TraceBuilder().op("/home/somebody/model.py(3): forward", 0, 10)
    built.header |= {"host_name": "secret-host", "env": {"HF_TOKEN": "hf_secret"}, "traceName": "/home/somebody/x"}
    exported(built, tmp_path)
    text = (tmp_path / "out.json").read_text()
    assert "~/model.py(3): forward" in text
    assert not [word for word in ("secret", "somebody") if word in text]


def test_a_trace_that_grew_since_it_was_read_is_refused(tmp_path: Path) -> None:
    built = TraceBuilder().op("op", 0, 10)
    trace = built.load(tmp_path)
    more = {"ph": "s", "id": 1, "cat": "ac2g", "name": "ac2g", "pid": 1, "tid": 100, "ts": 0}
    for grown in (TraceBuilder().op("op", 0, 10).op("more", 20, 10), TraceBuilder().op("op", 0, 10).raw(**more)):
        grown.write(trace.path)
        with pytest.raises(InputError, match="has grown since it was read"):
            export_trace(trace, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_file_that_cant_be_written_leaves_nothing(tmp_path: Path) -> None:
    trace = TraceBuilder().op("op", 0, 10).load(tmp_path)
    with pytest.raises(OutputError, match="check output="):
        export_trace(trace, tmp_path / "missing" / "out.json")
    assert [path.name for path in tmp_path.iterdir()] == ["built.json"]


@pytest.mark.parametrize(
    "name", ["backslash", "badutf8", "ctrl", "nan", "negdur", "strts", "listform", "trunc_plain", "cpuonly"]
)
def test_damaged_files_become_sound_ones(corpus: Path, tmp_path: Path, name: str) -> None:
    trace = load(corpus / "bad" / f"{name}.json")
    result = export_trace(trace, tmp_path / "out.json.gz")
    content = json.loads(gzip.decompress((tmp_path / "out.json.gz").read_bytes()).decode())
    spans = Counter(event["ph"] for event in content["traceEvents"] if event.get("cat") != "gemma_trace")
    assert spans["X"] == len(trace.spans) == result.written["X"]
    assert spans["i"] == trace.read_report.phases["i"]


def test_counters_that_are_added_grow_with_the_activities_and_not_with_devices_times_windows(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for device in range(40):
        builder.launch(device + 1, 100 * device).kernel(
            "k", 100 * device + 10, 5000, correlation=device + 1, device=device
        )
    output = tmp_path / "out.json"
    export_trace(builder.load(tmp_path), output)
    events = json.loads(output.read_bytes())["traceEvents"]
    counters = [event for event in events if event["ph"] == "C"]
    # Of each device: busy from the start, one sample before its end and one at it; launched, started.
    assert len(counters) <= 40 * 5
