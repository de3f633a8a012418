"""What the trace engine gets wrong; each test names where and moves to its own file once it passes."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.trace import reader
from gemma_trace.trace.clock import decimal_us_to_ns
from gemma_trace.trace.reader import TraceFile, read_trace
from gemma_trace.trace.repair import find_array, repair_json, split_objects
from gemma_trace.trace.tree import nest
from tests.trace.test_chunks import assert_alike, chunked, members, trace_events
from tests.trace.test_reader import event, names_of, read, spans_of, text_of


def compressed_events(count: int) -> tuple[bytes, int]:
    """A gzip file of events whose names don't compress, and the size of its JSON."""
    names = random.Random(1)
    data = text_of(*(event(name=names.randbytes(40).hex(), ts=index) for index in range(count))).encode()
    return gzip.compress(data), len(data)


# source.py, _inflate: igzip keeps nothing of the call in which it fails, which is all of a small file.


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_small_file_damaged_in_its_middle_yields_the_events_before_the_damage(tmp_path: Path, share: float) -> None:
    data, _ = compressed_events(2000)
    damaged = bytearray(data)
    place = int(share * len(data))
    damaged[place : place + 20] = bytes(byte ^ 0xFF for byte in damaged[place : place + 20])
    file = read(tmp_path, bytes(damaged))
    assert file.report.damaged
    assert len(file.events) >= int(2000 * share) - 200


def test_a_file_with_a_wrong_checksum_yields_all_its_events(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(text_of(event(), event(ts=6)).encode()))
    damaged[-8] ^= 0xFF
    file = read(tmp_path, bytes(damaged))
    assert (len(file.events), file.report.damaged) == (2, True)


# reader.py, _add_one_by_one: it repairs text whose last event is cut, and keeps the cut part so repaired.


@pytest.mark.parametrize("chunk_bytes", [20, 39, 58, 77, 200])
def test_a_chunks_border_within_a_name_leaves_the_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    wanted = [f"loss is NaN, größer 漢字 {index}" for index in range(20)]
    path = tmp_path / "trace.json"
    events = [{"ph": "X", "name": name, "pid": 1, "tid": 1, "ts": i, "dur": 1} for i, name in enumerate(wanted)]
    path.write_text(json.dumps({"traceEvents": events}, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(reader, "CUTS_TRIED", 0)  # as where something in every chunk needs repair
    file = chunked(path, monkeypatch, chunk_bytes)
    assert names_of(file.events) == wanted
    assert file.report.repairs == {}


def test_a_chunks_border_within_the_tail_leaves_the_tail_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.json"
    note = "NaN 漢字 " * 100
    path.write_text(text_of(event())[:-1] + f', "note": "{note}"' + "}", encoding="utf-8")
    for chunk_bytes in range(64, 96):
        file = chunked(path, monkeypatch, chunk_bytes)
        assert members(file)["note"] == note
        assert file.report.repairs == {}


def test_a_trace_cut_within_a_character_needs_no_repair(tmp_path: Path) -> None:
    whole = text_of(event(), event(name=b'"\xe6\xbc\xa2\xe5\xad\x97"')).encode()
    file = read(tmp_path, whole[: whole.index(b"\xa2")])
    assert (len(file.events), file.report.repairs, file.report.truncated) == (1, {}, True)


# repair.py, _STRING: a string that is cut isn't seen as one, so its brackets and words count as structure.


@pytest.mark.parametrize("text", [b'{"a":1},{"b":"x]}', b'{"a":1},{"b":"x}', b'{"a":1},{"b":["]]}'])
def test_brackets_in_a_string_that_is_cut_are_no_structure(text: bytes) -> None:
    assert list(split_objects(text)) == [(0, 7)]


def test_a_word_in_a_string_that_is_cut_is_no_number() -> None:
    repairs: Counter[str] = Counter()
    assert repair_json(b'{"name": "loss is NaN ', repairs) == b'{"name": "loss is NaN '
    assert repairs.total() == 0


@pytest.mark.parametrize("chunk_bytes", [40, 64])
@pytest.mark.parametrize("indent", [None, 2])
def test_small_chunks_give_the_same_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, indent: int | None
) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"a": 1, "traceEvents": trace_events(), "b": "x]"}, indent=indent))
    whole = read_trace(path)
    monkeypatch.setattr(reader, "CUTS_TRIED", 0)  # as where something in every chunk needs repair
    assert_alike(chunked(path, monkeypatch, chunk_bytes), whole)


def test_a_trace_cut_within_a_bracketed_name_loses_no_event_and_counts_none(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(), event(name="at ]}, [here"))[:-60].split("here")[0])
    assert (len(file.events), file.report.repairs, file.report.truncated) == (1, {}, True)


@pytest.mark.parametrize("work", ["find", "repair", "split"])
def test_a_long_string_that_is_cut_takes_time_linear_in_its_length(work: str) -> None:
    text = b'{"json in a string": "' + rb"{\"key\": 1}, " * 4000
    start = time.perf_counter()
    if work == "find":
        assert find_array(text, b"traceEvents") is None
    elif work == "repair":
        assert repair_json(text, Counter()) == text
    else:
        assert list(split_objects(text)) == []
    assert time.perf_counter() - start < 0.3


def test_a_control_character_behind_a_lone_backslash_keeps_both() -> None:
    # repair.py, mend: once the control character is an escape, its backslash pairs with the lone one.
    repairs: Counter[str] = Counter()
    assert json.loads(repair_json(b'["a\\\nb"]', repairs)) == ["a\\\nb"]
    assert dict(repairs) == {"control_characters": 1, "broken_escapes": 1}


def test_half_a_surrogate_pair_loses_the_character_and_not_the_event(tmp_path: Path) -> None:
    # repair.py: msgspec refuses what the json module writes for a name that is cut within a pair.
    file = read(tmp_path, text_of(event(name="cut \ud83d"), event(ts=6)))
    assert names_of(file.events) == ["cut \ufffd", "op"]


# columns.py and clock.py: numbers that 64 bits don't hold.


@pytest.mark.parametrize(
    ("key", "number"),
    [
        *((key, number) for key in ("ts", "dur") for number in (b"1e30", b"1e300", b"1e999", b"1e99999", b"1e9999999")),
        ("ts", b"9223372036854775.808"),
    ],
)
def test_a_time_too_large_for_64_bits_is_left_out_and_counted(tmp_path: Path, key: str, number: bytes) -> None:
    file = read(tmp_path, text_of(event(name="huge", **{key: number}), event(ts=6)))
    assert ("op", 6000, 3000) in spans_of(file)
    assert sum(file.report.repairs.values()) == 1


def test_an_end_too_large_for_64_bits_is_left_out_and_counted(tmp_path: Path) -> None:
    # Start and length fit, their sum doesn't.
    big = b"9000000000000000"
    file = read(tmp_path, text_of(event(name="huge", ts=big, dur=big), event(ts=6)))
    assert (file.events.end_ns >= file.events.ts_ns).all()
    assert sum(file.report.repairs.values()) == 1


@pytest.mark.parametrize("number", [b"1e999999", b"1e9999999", b"-1e999999"])
def test_a_number_beyond_decimals_range_is_a_value_error(number: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal_us_to_ns(number)


def test_a_long_length_is_exact_next_to_a_small_start(tmp_path: Path) -> None:
    # `add` looks at starts only: 2**50 µs in a float64 are good to 250 ns.
    file = read(tmp_path, text_of(event(ts=1, dur=b"1125899906842624.003")))
    assert file.events.dur_ns.tolist() == [1_125_899_906_842_624_003]


def test_rounding_looks_at_all_digits() -> None:
    # Decimal's context rounds the product to 28 digits first, to a tie that isn't one.
    assert decimal_us_to_ns(b"0.00250000000000000000000000000001") == 3
    assert decimal_us_to_ns(b"1600000000000000.00050000000000001") == 1_600_000_000_000_000_001


@pytest.mark.parametrize("text", ["--5", "9" * 5000])
def test_a_correlation_that_is_nearly_a_number_is_none(tmp_path: Path, text: str) -> None:
    file = read(tmp_path, text_of(event(args={"correlation": text})))
    assert file.events.correlation.tolist() == [-1]


# columns.py: one thread becomes two tracks where only some events are read loosely.


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


def test_ids_as_text_and_as_numbers_are_one_thread(tmp_path: Path) -> None:
    marks = [event(ph="B", dur=..., tid=7), event(ph="E", dur=..., tid="7", ts=9)]
    file = read(tmp_path, text_of(*marks))
    assert (spans_of(file), file.report.repairs) == ([("op", 5000, 4000)], {})


def test_an_arrow_whose_ends_are_read_by_different_paths_stays_one(tmp_path: Path) -> None:
    ends = [event(ph="s", id=4, dur=...), event(ph="f", id=4.0, dur=..., ts=6), "{what}"]
    flows = read(tmp_path, text_of(*ends, event())).flows
    assert flows.key.tolist() == [0, 0]


# columns.py, _pair.


def test_pairs_alike_in_time_nest_as_they_were_opened(tmp_path: Path) -> None:
    marks = [("B", "outer", 1), ("B", "inner", 1), ("E", "", 5), ("E", "", 5)]
    file = read(tmp_path, text_of(*(event(ph=phase, name=name, ts=ts, dur=...) for phase, name, ts in marks)))
    assert names_of(file.events) == ["outer", "inner"]


def test_a_pair_that_ends_before_it_begins_is_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(ph="B", dur=...), event(ph="E", ts=3, dur=...)))
    assert spans_of(file) == [("op", 5000, 0)]
    assert file.report.repairs == {"negative_durations": 1}


# reader.py and repair.py: what is dropped without being counted, or more than need be.


def test_what_is_no_object_among_the_events_is_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of("null", event(), "17", '"text"', "[1]"))
    assert len(file.events) == 1
    assert file.report.repairs == {"undecodable_events": 4}


def test_a_brace_too_many_costs_no_other_event(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event() + "}", event(ts=6)))
    assert [start for _, start, _ in spans_of(file)] == [5000, 6000]


def test_a_head_that_cant_be_read_is_reported(tmp_path: Path) -> None:
    file = read(tmp_path, '{"a": what, "gemma_trace": {}, "traceEvents": [' + event() + "]}")
    assert file.report.repairs or file.report.truncated or "gemma_trace" in file.header


# tree.py.


def nested_one_by_one(start: list[int], end: list[int]) -> tuple[list[int], list[int]]:
    """Parents and clipped ends as a stack finds them, span by span."""
    stack: list[int] = []
    parents, ends = [], list(end)
    for index, at in enumerate(start):
        while stack and max(2 * ends[stack[-1]], 2 * start[stack[-1]] + 1) <= 2 * at:
            stack.pop()
        parents.append(stack[-1] if stack else -1)
        if stack:
            ends[index] = min(ends[index], ends[stack[-1]])
        stack.append(index)
    return parents, ends


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=7))
def test_crossing_spans_nest_as_a_stack_nests_them(rows: list[tuple[int, int]]) -> None:
    spans = sorted(((first, first + length) for first, length in rows), key=lambda span: (span[0], -span[1]))
    start, end = [first for first, _ in spans], [last for _, last in spans]
    nesting = nest(np.array(start), np.array(end), np.zeros(len(spans), np.int64))
    assert (nesting.parent.tolist(), nesting.end_ns.tolist()) == nested_one_by_one(start, end)


def test_a_span_isnt_clipped_to_what_was_itself_clipped_before_it() -> None:
    # 1 and 2 are clipped to the end of 0, at 3; so 3 starts in the open and is whole.
    nesting = nest(np.array([1, 2, 2, 5]), np.array([3, 6, 6, 10]), np.zeros(4, np.int64))
    assert nesting.end_ns.tolist() == [3, 3, 3, 10]
    assert nesting.clipped == 2


def test_a_long_chain_of_crossing_spans_is_clipped_to_its_first() -> None:
    start = np.arange(200)
    nesting = nest(start, 1000 + start, np.zeros(200, np.int64))
    assert nesting.end_ns.tolist() == [1000] * 200
