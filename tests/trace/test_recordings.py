"""Traces of several recordings; values by hand, in ns."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gemma_trace.analysis.work_pieces import waiting_ns
from gemma_trace.trace.recordings import recording_at, recording_edges
from tests.trace_builder import TraceBuilder


def marked(*recordings: tuple[int, int]) -> TraceBuilder:
    built = TraceBuilder()
    for start, end in recordings:
        built.span("Trace", "PyTorch Profiler (0)", start, end - start, pid="Spans", tid="PyTorch Profiler")
    return built


def test_recordings_are_told_apart_between_their_marks(tmp_path: Path) -> None:
    spans = marked((2000, 2500), (0, 1000), (500, 1100), (3000, 3400)).op("aten::mm", 10, 5).load(tmp_path).spans
    edges = recording_edges(spans)
    assert edges.tolist() == [1550, 2750], "the two that overlap are one"
    assert recording_at(edges, np.array([0, 1099, 2000, 2499, 3000, 9000])).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_trace_without_marks_or_with_one_is_one_recording(tmp_path: Path) -> None:
    for built in (TraceBuilder(), marked((0, 1000))):
        edges = recording_edges(built.op("aten::mm", 10, 5).load(tmp_path).spans)
        assert (len(edges), recording_at(edges, np.array([0, 99])).tolist()) == (0, [0, 0])


def test_a_thread_that_hangs_in_one_frame_through_each_recording_waits(tmp_path: Path) -> None:
    built = marked((0, 1000), (5000, 6000))
    for start in (0, 5000):
        built.op("aten::mm", start, 1000).frame("worker.py(1): hang", start, 1000, tid=5)
    built.frame("worker.py(2): work", 5000, 500, tid=6)
    assert waiting_ns(built.load(tmp_path)) == 2000, "and one that lasts for half of a recording does not"
