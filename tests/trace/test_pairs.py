"""`B` and `E` events, made whole."""

from __future__ import annotations

from pathlib import Path

from tests.trace.test_reader import event, names_of, read, spans_of, text_of


def test_pairs_of_begin_and_end_become_spans(tmp_path: Path) -> None:
    marks = [("B", "outer", 1), ("B", "inner", 2), ("E", "", 5), ("B", "second", 6), ("E", "", 7), ("E", "", 9)]
    file = read(tmp_path, text_of(*(event(ph=phase, name=name, ts=ts, dur=...) for phase, name, ts in marks)))
    assert spans_of(file) == [("outer", 1000, 8000), ("inner", 2000, 3000), ("second", 6000, 1000)]
    assert (file.report.phases, file.report.repairs) == ({"B": 3, "E": 3}, {})


def test_an_end_closes_the_begin_of_its_own_track(tmp_path: Path) -> None:
    marks = [("B", "one", 1, 1), ("B", "two", 2, 2), ("E", "", 1, 5), ("E", "", 2, 9)]
    file = read(
        tmp_path, text_of(*(event(ph=phase, name=name, tid=tid, ts=ts, dur=...) for phase, name, tid, ts in marks))
    )
    assert spans_of(file) == [("one", 1000, 4000), ("two", 2000, 7000)]


def test_ids_as_text_and_as_numbers_are_one_thread(tmp_path: Path) -> None:
    marks = [event(ph="B", dur=..., tid=7), event(ph="E", dur=..., tid="7", ts=9)]
    file = read(tmp_path, text_of(*marks))
    assert (spans_of(file), file.report.repairs) == ([("op", 5000, 4000)], {})


def test_a_begins_arguments_stay_with_its_span(tmp_path: Path) -> None:
    begin = event(ph="B", cat="cuda_runtime", name="launch", dur=..., args={"correlation": 8})
    events = read(tmp_path, text_of(begin, event(ph="E", ts=6, dur=...))).events
    assert (events.names, events.cats, events.correlation.tolist()) == (("launch",), ("cuda_runtime",), [8])


def test_unpaired_begins_and_ends_are_left_out_and_counted(tmp_path: Path) -> None:
    marks = [("E", 1), ("E", 2), ("B", 3), ("B", 4), ("E", 5), ("B", 6)]
    file = read(tmp_path, text_of(*(event(ph=phase, name=f"at {ts}", ts=ts, dur=...) for phase, ts in marks)))
    assert spans_of(file) == [("at 4", 4000, 1000)]
    assert file.report.repairs == {"unpaired_ends": 2, "unpaired_begins": 2}


def test_pairs_alike_in_time_nest_as_they_were_opened(tmp_path: Path) -> None:
    marks = [("B", "outer", 1), ("B", "inner", 1), ("E", "", 5), ("E", "", 5)]
    file = read(tmp_path, text_of(*(event(ph=phase, name=name, ts=ts, dur=...) for phase, name, ts in marks)))
    assert names_of(file.events) == ["outer", "inner"]


def test_a_pair_that_ends_before_it_begins_is_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(ph="B", dur=...), event(ph="E", ts=3, dur=...)))
    assert spans_of(file) == [("op", 5000, 0)]
    assert file.report.repairs == {"negative_durations": 1}


def test_the_place_of_a_span_is_where_it_begins_in_the_file(tmp_path: Path) -> None:
    marks = [("B", "outer", 1), ("X", "late", 8), ("B", "lost", 2), ("X", "early", 0), ("E", "", 3), ("E", "", 9)]
    file = read(
        tmp_path,
        text_of(*(event(ph=phase, name=name, ts=ts, dur=1 if phase == "X" else ...) for phase, name, ts in marks)),
    )
    places = dict(zip(names_of(file.events), file.events.place.tolist(), strict=True))
    assert places == {"outer": 0, "late": 1, "lost": 2, "early": 3}


def test_ids_that_are_no_ids_are_text(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(pid=[1], tid={"a": None}), event(pid=10**25, tid=True), event(pid=None)))
    assert {(track.pid, track.tid) for track in file.events.tracks} >= {("[1]", "{'a': None}"), (str(10**25), "True")}
