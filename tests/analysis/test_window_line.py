"""Requests laid end to end: what one pass finds over all of them is what a pass over each finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_trace.analysis import window_line
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.critical_path import CriticalPath, critical_path, critical_paths
from gemma_trace.analysis.intervals import union
from gemma_trace.analysis.lanes import Lane, device_lanes, device_lanes_of, stage_lanes, stage_lanes_of
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.timeline import partition
from gemma_trace.analysis.tree import call_tree
from gemma_trace.analysis.window_line import WindowLine, lines
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder

Windows = list[tuple[int, int]]
TIMES = st.tuples(st.integers(0, 40), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def line(windows: Windows) -> WindowLine:
    return WindowLine.of([Request(place, "", start, end, 0) for place, (start, end) in enumerate(windows)])


def test_windows_lie_end_to_end_with_an_instant_between_them() -> None:
    two = line([(100, 150), (120, 130)])
    assert two.begin.tolist() == [0, 51]
    assert two.stop.tolist() == [50, 61]
    low, high = two.clipped(np.array([0, 1]), np.array([90, 125]), np.array([110, 500]))
    assert (low.tolist(), high.tolist()) == ([0, 56], [10, 61])
    assert two.clock_ns(low, two.at(low)).tolist() == [100, 125]
    start, end = two.gaps((low, high))
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == [(10, 50), (51, 56)]


def test_the_line_of_one_request_is_the_traces_clock() -> None:
    one = line([(100, 150)])
    low, high = one.clipped(np.array([0]), np.array([90]), np.array([110]))
    assert (low.tolist(), high.tolist()) == ([100], [110])


@given(TIMES, st.lists(TIMES, max_size=6).map(sorted))
def test_a_window_alone_is_cut_as_the_first_of_two_is(window: tuple[int, int], intervals: Windows) -> None:
    alone, first = line([window]), line([window, (0, 5)])
    start, end = (np.array(column, dtype=np.int64) for column in np.array(intervals).reshape(-1, 2).T)
    which = np.zeros(len(start), dtype=np.int64)
    given_start, given_end = start.copy(), end.copy()
    low, high = alone.clipped(which, start, end)
    assert [(low - window[0]).tolist(), (high - window[0]).tolist()] == [
        each.tolist() for each in first.clipped(which, start, end)
    ]
    busy = union(low, high)
    free = alone.gaps(busy)
    of_two = first.gaps((busy[0] - window[0], busy[1] - window[0]))
    inside = of_two[1] <= window[1] - window[0]
    assert [(edge - window[0]).tolist() for edge in free] == [edge[inside].tolist() for edge in of_two]
    assert (start.tolist(), end.tolist()) == (given_start.tolist(), given_end.tolist())


@given(st.lists(TIMES, min_size=1, max_size=6), st.lists(TIMES, max_size=12).map(sorted))
def test_overlaps_are_those_that_a_loop_finds(windows: Windows, intervals: Windows) -> None:
    start, end = (np.array(column, dtype=np.int64) for column in np.array(intervals).reshape(-1, 2).T)
    window, place = line(windows).overlaps(start, end)
    expected = [
        (which, index)
        for which, (low, high) in enumerate(windows)
        for index, (begin, stop) in enumerate(intervals)
        if min(high, stop) > max(low, begin)
    ]
    assert list(zip(window.tolist(), place.tolist(), strict=True)) == expected


@given(st.lists(TIMES, min_size=1, max_size=6), st.lists(st.integers(0, 60), max_size=12).map(sorted))
def test_starts_are_those_that_a_loop_finds(windows: Windows, instants: list[int]) -> None:
    window, place = line(windows).starts(np.array(instants, dtype=np.int64))
    expected = [
        (which, index)
        for which, (low, high) in enumerate(windows)
        for index, at in enumerate(instants)
        if low <= at < high
    ]
    assert list(zip(window.tolist(), place.tolist(), strict=True)) == expected


def served(folder: Path) -> Trace:
    """Four requests, two at a time on two threads, with work on a third; the device runs for several of them."""
    built, correlation = TraceBuilder(), 0
    for place, (start, thread) in enumerate([(0, 1), (600, 2), (1100, 1), (1700, 2)]):
        built.range("request", start, 1000, tid=thread)
        for stage, begin, length in (("vision_tower", 50, 300), ("prefill", 400, 500)):
            built.range(stage, start + begin, length, tid=thread)
            for step in range(3):
                correlation += 1
                at = start + begin + 40 + 70 * step
                built.op("aten::mm", at, 60, tid=thread)
                built.launch(correlation, at + 10, 9, tid=thread)
                built.kernel(f"k{step}", at + 50 + 40 * place, 90, correlation=correlation, stream=7 + place % 2)
        built.range("decode", start + 920, 60, tid=thread)
    built.op("aten::cat", 100, 2000, tid=9)
    built.launch(999, 950, 40, name="cudaDeviceSynchronize", tid=1)
    return built.load(folder)


def rows(lane: Lane) -> list[tuple[int, int, int]]:
    return list(zip(lane.start_ns.tolist(), lane.end_ns.tolist(), lane.stage.tolist(), strict=True))


def steps(path: CriticalPath) -> list[tuple[int, ...]]:
    columns = (path.start_ns, path.end_ns, path.kind, path.stage, path.span)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("most_pairs", [window_line.MOST_PAIRS, 1])
def test_all_requests_at_once_are_what_each_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_pairs: int
) -> None:
    monkeypatch.setattr(window_line, "MOST_PAIRS", most_pairs)
    trace = served(tmp_path)
    requests = trace.requests
    assert len(list(lines(trace, requests))) == (1 if most_pairs > 1 else 4)
    assert list(breakdown(trace).rows) == [row for request in requests for row in partition(trace, request)]
    for request, all_lanes in zip(requests, stage_lanes_of(trace, requests), strict=True):
        alone = stage_lanes(trace, request)
        for name in ("host", "device", "time"):
            assert rows(getattr(all_lanes, name)) == rows(getattr(alone, name))
        assert all_lanes.time.start_ns[0] == request.start_ns
    for request, lanes in zip(requests, device_lanes_of(trace, requests), strict=True):
        assert {key: rows(lane) for key, lane in lanes.by_device.items()} == {
            key: rows(lane) for key, lane in device_lanes(trace, request).by_device.items()
        }
    for request, path in zip(requests, critical_paths(trace, requests), strict=True):
        assert path.length_ns == request.wall_ns
        assert steps(path) == steps(critical_path(trace, request))
    summed = {reason.stage: reason.time_ns for reason in stage_reasons(trace)}
    assert sum(summed.values()) == sum(request.wall_ns for request in requests)
    for stage, time_ns in summed.items():
        alone_ns = [r.time_ns for request in requests for r in stage_reasons(trace, request) if r.stage == stage]
        assert sum(alone_ns) == time_ns


def test_work_on_a_requests_own_thread_is_its_own_while_another_request_is_open(tmp_path: Path) -> None:
    trace = served(tmp_path)
    (request,) = [node for node in call_tree(trace).children if node.name == "request"]
    assert {node.name: node.host_ns for node in request.children if node.name in ("vision_tower", "prefill")} == {
        "vision_tower": 4 * 300,
        "prefill": 4 * 500,
    }
