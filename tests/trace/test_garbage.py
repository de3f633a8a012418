"""Small files that inflate to a lot of nothing: they are answered in time that goes with their length."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from gemma_trace.errors import TraceFormatError
from gemma_trace.health.examine import examine
from gemma_trace.trace import reader, salvage
from gemma_trace.trace.reader import ReadReport, read_trace
from gemma_trace.trace.repair import split_objects
from gemma_trace.trace.salvage import Salvage
from gemma_trace.trace.sink import ColumnSink
from gemma_trace.trace.trace import Trace
from tests.conftest import thorough
from tests.trace.test_reader import event, read, spans_of, text_of

MIB = 1 << 20
GOOD = event(name="good")
UNITS = [
    "[],",
    "{},",
    "},",
    "{",
    "1,",
    ",",
    '"x",',
    '"',
    "}",
    "]",
    "[]",
    "{}",
    '{"a":',
    '{"a" b},',
    '{"ph":1},',
    r'{"a":"\q"},',
    r'{"ph":"X","name":"\ud800","ts":1,"dur":1},',
    r'{"ph":"X","name":"' + "\x01" + r'","ts":1,"dur":1},',
    r'"\ud800",',
    r"\ud800",
    "\x01",
    '{"ph":"X","name":"a","ts":1,"dur":NaN},',
    '{"ph":"X","ts":1,"args":{"stream":null}},',
    "x ",
    "(",
]
SECONDS = 240
"""A hundred times what all of these take on an idle core."""

READ_ALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]), int(sys.argv[1])))
from pathlib import Path
from gemma_trace.errors import GemmaTraceError
from gemma_trace.trace.reader import read_trace
for path in sys.argv[2:]:
    try:
        print(sum(read_trace(Path(path)).report.phases.values()))
    except GemmaTraceError:
        print(0)
"""


@pytest.mark.parametrize(
    "before", [f'{{"traceEvents": [{GOOD},\n', *thorough(['{"traceEvents": [', "[", '{"a": [', '{"a": "'])]
)
def test_garbage_is_answered_in_time_that_goes_with_its_length(tmp_path: Path, before: str) -> None:
    paths = []
    for place, unit in enumerate(UNITS):
        paths.append(tmp_path / f"{place}.json.gz")
        paths[-1].write_bytes(gzip.compress((before + unit * (MIB // 8 // len(unit))).encode(), 1))
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(SECONDS), *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    found = [int(line) for line in done.stdout.split()]
    assert len(found) == len(UNITS)
    if GOOD in before:
        assert all(found), "what comes before the garbage is kept"


class Counting:
    """A sink that takes what the columns would, and counts what it was asked."""

    def __init__(self) -> None:
        self.sink = ColumnSink()
        self.asked = 0

    def decode(self, array: bytes | memoryview) -> bool:
        self.asked += 1
        return self.sink.decode(array)


def test_a_thousand_broken_events_are_handed_over_at_once() -> None:
    repairs: Counter[str] = Counter()
    sink = Counting()
    events = [event(name=f"{index}", dur=b"NaN") for index in range(1000)]
    Salvage(sink, repairs).take(",".join(events).encode())
    assert sink.asked == 2, "as they stand, and mended"
    assert sink.sink.builder.collected.phases == {"X": 1000}
    assert repairs == {"not_a_number": 1000}


def test_what_cant_be_mended_ends_after_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "LOST_AT_LEAST", 100)
    broken = '{"name" what},'
    count = MIB // len(broken)
    file = read(tmp_path, '{"traceEvents": [' + GOOD + "," + broken * count + GOOD + "]}")
    assert spans_of(file) == [("good", 5000, 3000)]
    lost, unread = file.report.repairs["undecodable_events"], file.report.repairs["unread_bytes"]
    assert 100 <= lost < count
    assert lost * len(broken) + unread == pytest.approx(count * len(broken) + len(GOOD) + 2, abs=40)
    assert file.report.truncated


def test_good_events_earn_the_broken_ones_among_them_their_mending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "LOST_AT_LEAST", 100)
    events = [event(ts=index, dur=b"NaN" if index % 2 else 1, args={"text": "x" * 60}) for index in range(20_000)]
    file = read(tmp_path, text_of(*events))
    assert file.report.phases == {"X": 20_000}
    assert file.report.repairs == {"not_a_number": 10_000, "missing_durations": 10_000}


@pytest.mark.parametrize("closed", [True, False])
def test_stray_braces_over_several_chunks_are_counted_once(tmp_path: Path, closed: bool) -> None:
    file = read(tmp_path, '{"traceEvents": [' + GOOD + "," + "}" * 1_572_864 + ("," + GOOD + "]}" if closed else ""))
    assert file.report.repairs == {"stray_braces": 1_572_864}
    assert len(file.events) == (2 if closed else 1)


@pytest.mark.parametrize(
    ("unit", "kind"), [("1,", "undecodable_events"), ('"a",', "undecodable_events"), ("},", "stray_braces")]
)
def test_what_stands_between_events_is_counted_to_the_last(tmp_path: Path, unit: str, kind: str) -> None:
    count = 2 * MIB // len(unit)
    file = read(tmp_path, '{"traceEvents": [' + GOOD + "," + unit * count + GOOD + "]}")
    assert (file.report.repairs, len(file.events)) == ({kind: count}, 2)


def test_lists_among_the_events_are_counted_and_cost_nothing_else(tmp_path: Path) -> None:
    file = read(tmp_path, '{"traceEvents": [' + GOOD + ",[],[[{}]],[1]," + GOOD + "]}")
    assert (file.report.repairs, len(file.events)) == ({"undecodable_events": 3}, 2)


def test_an_event_longer_than_any_ends_the_trace_and_keeps_what_is_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_EVENT_BYTES", MIB)
    endless = '{"a": "' + "x" * 5 * MIB
    file = read(tmp_path, '{"traceEvents": [' + GOOD + "," + endless)
    assert spans_of(file) == [("good", 5000, 3000)]
    assert file.report.repairs == {"unread_bytes": len(endless)}
    with pytest.raises(TraceFormatError, match="has no trace events"):
        read(tmp_path, '{"traceEvents": [' + endless)


def test_a_tail_longer_than_any_is_left_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_HEADER_BYTES", MIB)
    file = read(tmp_path, '{"traceEvents": [' + GOOD + "]" + "]" * 4 * MIB)
    assert len(file.events) == 1
    assert file.report.repairs == {"unreadable_header": 1, "unread_bytes": 4 * MIB}
    assert not file.report.truncated


def test_events_without_a_time_are_counted_where_they_stand_alone(tmp_path: Path) -> None:
    nothing, lost, naming = "{}", '{"ph": "X"}', '{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "p"}}'
    file = read(tmp_path, text_of(nothing, lost, naming, GOOD, '{"name": "n"}', '{"ph": 1}', '{"ph": "X", "ts": null}'))
    assert file.report.phases == {"M": 1, "X": 1}
    assert file.report.passed_over == {"none": 1}
    assert file.report.repairs == {"undecodable_events": 4}
    assert dict(file.names.processes) == {"1": "p"}


def test_whatever_strings_need_mending_is_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "LOST_AT_LEAST", 10)
    count = 30_000
    strange = ['"' + r"\ud800" * 9 + '"', '"' + "\x01" * 9 + '"', '"' + r"\q" * 9 + '"']
    file = read(tmp_path, text_of(*(event(ts=index, name=strange[index % 3].encode()) for index in range(count))))
    assert file.report.phases == {"X": count}
    each = 9 * count // 3
    assert file.report.repairs == {"bad_utf8": each, "control_characters": each, "broken_escapes": each}
    assert set(file.events.names) == {"\ufffd" * 9, "\x01" * 9, r"\q" * 9}


def test_one_event_that_cant_be_mended_costs_no_other(tmp_path: Path) -> None:
    events = [event(name=f"{index}", dur=b"NaN") for index in range(200)]
    events[70] = '{"ph": "X", "name" what}'
    events[71] = '{"ph": "X", "name": C:\\"}'
    file = read(tmp_path, text_of(*events))
    assert {span for span, _, _ in spans_of(file)} == {f"{index}" for index in range(200)} - {"70", "71"}
    assert file.report.repairs["not_a_number"] == 198
    assert file.report.repairs["undecodable_events"] == 2


def test_garbage_takes_bounded_memory(tmp_path: Path) -> None:
    peaks = []
    for size in (2 * MIB, 5 * MIB):
        path = tmp_path / f"{size}.json.gz"
        path.write_bytes(
            gzip.compress(b'{"traceEvents": [' + GOOD.encode() + b"," + b"123456789012345," * (size // 16), 1)
        )
        tracemalloc.start()
        read_trace(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_brackets_are_told_apart_by_blocks_as_they_are_at_once() -> None:
    rng = random.Random(3)
    tokens = [b"{", b"}", b"[", b"]", b",", b'"a}"', b'"\\"{"', b'"\\\\"', b"x" * 30_000]
    for _ in range(20):
        text = b"".join(rng.choice(tokens) for _ in range(60))
        depth, start, expected = 0, 0, []
        in_string = escaped = False
        for place, byte in enumerate(text):
            if in_string:
                in_string = escaped or byte != ord('"')
                escaped = byte == ord("\\") and not escaped
            elif byte == ord('"'):
                in_string = True
            elif byte in b"{[":
                start = place if depth == 0 else start
                depth += 1
            elif byte in b"}]" and depth:
                depth -= 1
                if depth == 0:
                    expected.append((start, place + 1))
            elif byte == ord("]"):
                expected.append((place, -1))
                break
        assert list(split_objects(text)) == expected


@pytest.mark.parametrize("compressed", [False, True])
def test_files_cut_at_random_places_give_all_whole_events_before_the_cut(tmp_path: Path, compressed: bool) -> None:
    rng = random.Random(11)
    events = [event(name=rng.randbytes(20).hex(), ts=index, args={"k": ["},{"] * 3}) for index in range(60)]
    text = text_of(*events).encode()
    ends = [text.index(one.encode()) + len(one.encode()) for one in events]
    if compressed:
        packed = gzip.compress(text)
        for cut in rng.sample(range(200, len(packed)), 100):
            report = cut_report(tmp_path, packed[:cut])
            assert sum(report.phases.values()) == sum(end <= report.inflated_bytes for end in ends)
            assert not report.repairs
    else:
        for cut in rng.sample(range(ends[0], ends[-1]), 100):
            report = cut_report(tmp_path, text[:cut])
            assert report.phases == {"X": sum(end <= cut for end in ends)}
            assert not report.repairs


def cut_report(folder: Path, data: bytes) -> ReadReport:
    path = folder / "cut.json"
    path.write_bytes(data)
    return read_trace(path).report


def test_the_check_names_what_was_left_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_EVENT_BYTES", MIB)
    path = tmp_path / "trace.json"
    file = read(tmp_path, '{"traceEvents": [' + GOOD + ',{"a": "' + "x" * 5 * MIB)
    assert "unread_bytes" in {finding.code for finding in examine(Trace(file, path)).findings}
