from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.capture.frame_edges import FrameEdges


def event(cat: str, start: int, length: int, tid: Any = 1) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "pid": 1, "tid": tid, "ts": start, "dur": length}


def trimmed(*batches: list[dict[str, Any]]) -> dict[int, tuple[int, int]]:
    frames = FrameEdges()
    for batch in batches:
        assert frames.decode(msgspec.json.encode(batch))
    event, start_ns, end_ns = (column.tolist() for column in frames.trimmed())
    assert event == sorted(set(event))
    return dict(zip(event, zip(start_ns, end_ns, strict=True), strict=True))


def by_definition(events: list[dict[str, Any]]) -> dict[int, tuple[int, int]]:
    """Every frame against every range of its thread."""
    found = {}
    for index, frame in enumerate(events):
        if frame["cat"] != "python_function":
            continue
        start, end = frame["ts"] * 1000, (frame["ts"] + frame["dur"]) * 1000
        ranges = [
            (each["ts"] * 1000, (each["ts"] + each["dur"]) * 1000)
            for each in events
            if each["cat"] == "user_annotation" and each["tid"] == frame["tid"]
        ]
        entered = [first for first, last in ranges if start < first < end < last]
        left = [last for first, last in ranges if first < start < last < end]
        if entered or left:
            new_start = max(left, default=start)
            found[index] = (new_start, max(new_start, min(entered, default=end)))
    return found


spans = st.builds(
    event, st.sampled_from(["python_function", "user_annotation", "cpu_op"]), st.integers(-9, 30), st.integers(0, 25)
)


@settings(max_examples=60)
@given(st.lists(spans, max_size=25), st.integers(0, 25))
def test_frames_are_trimmed_as_each_against_each_range_says(events: list[dict[str, Any]], cut: int) -> None:
    assert trimmed(events[:cut], events[cut:]) == by_definition(events)


def test_threads_are_told_apart() -> None:
    events = [event("user_annotation", 10, 10), event("python_function", 5, 10), event("python_function", 5, 10, tid=2)]
    assert trimmed(events) == {1: (5_000, 10_000)}


def test_events_of_other_kinds_count_in_the_index() -> None:
    others = [event("cpu_op", 0, 1), {}, {"cat": None, "tid": [1], "args": {"cat": "python_function"}}]
    events = [event("user_annotation", 10, 10), event("python_function", 15, 10)]
    assert trimmed(others, [*others, *events]) == {7: (20_000, 25_000)}


def test_a_frame_without_a_time_is_left_alone() -> None:
    events = [event("user_annotation", 10, 10), event("python_function", 5, 10) | {"ts": "now"}]
    assert trimmed(events) == {}


def test_what_is_no_event_is_not_taken() -> None:
    frames = FrameEdges()
    assert not frames.decode(b"[7]")
    assert not frames.decode(b'[{"cat": "python_function"}')
    assert frames.events == 0
