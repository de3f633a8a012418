"""Means of counters over the stages of a trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.analysis.counter_means import CounterMean, CounterUse, counter_use
from gemma_trace.analysis.lanes import stage_lanes
from gemma_trace.trace.trace import Trace
from tests.conftest import tries
from tests.trace_builder import TraceBuilder


def used(trace: Trace) -> list[CounterUse]:
    return counter_use(trace, trace.requests)


def on_device() -> TraceBuilder:
    """A request of 100 ns: vision_tower has 0 to 60, of which 40 to 60 on the device; prefill 60 to 100."""
    built = TraceBuilder().range("request", 0, 100).range("vision_tower", 0, 40).range("prefill", 40, 60)
    return built.launch(1, 10).kernel("conv", 20, 40, correlation=1)


def test_a_mean_is_weighted_by_time_over_the_stages_own(tmp_path: Path) -> None:
    # vision_tower: 10 for 30 ns and 70 for 30 ns. prefill: 70 for 10 ns, 20 for 30.
    trace = on_device().counter("SM", 0, 10).counter("SM", 30, 70).counter("SM", 70, 20).load(tmp_path)
    (found,) = used(trace)
    assert (found.counter, found.source, found.samples) == ("SM", "device 0", 3)
    assert found.stages == {
        "vision_tower": CounterMean(40.0, 10.0, 70.0, 60, 60),
        "prefill": CounterMean(32.5, 20.0, 70.0, 40, 40),
    }
    assert found.total == CounterMean(37.0, 10.0, 70.0, 100, 100)


def test_the_largest_values_have_a_finite_mean(tmp_path: Path) -> None:
    trace = on_device().counter("SM", 0, 1e308).counter("SM", 30, 1.5e308).load(tmp_path)
    (found,) = used(trace)
    assert found.stages["vision_tower"].mean == pytest.approx(1.25e308)


def test_before_the_first_value_nothing_is_known(tmp_path: Path) -> None:
    trace = on_device().counter("SM", 45, 8).counter("late", 60, 5).counter("never", 100, 5).load(tmp_path)
    first, late, never = used(trace)
    assert first.stages["vision_tower"] == CounterMean(8.0, 8.0, 8.0, 15, 60)
    assert first.total == CounterMean(8.0, 8.0, 8.0, 55, 100)
    assert late.stages == {
        "vision_tower": CounterMean(None, None, None, 0, 60),
        "prefill": CounterMean(5.0, 5.0, 5.0, 40, 40),
    }
    assert never.total == CounterMean(None, None, None, 0, 100)


def test_the_last_value_holds_on_and_what_came_before_the_request_counts(tmp_path: Path) -> None:
    trace = on_device().counter("SM", -500, 3).counter("SM", 900, 99).load(tmp_path)
    assert used(trace)[0].total == CounterMean(3.0, 3.0, 3.0, 100, 100)


def test_of_values_at_one_instant_the_last_holds(tmp_path: Path) -> None:
    trace = on_device().counter("SM", 50, 9).counter("SM", 0, 1).counter("SM", 50, 3).load(tmp_path)
    assert used(trace)[0].total == CounterMean(2.0, 1.0, 3.0, 100, 100)


def test_series_are_apart(tmp_path: Path) -> None:
    built = on_device().counter("DRAM", 0, {"read": 1, "write": 2}).counter("DRAM", 0, {"read": 5}, pid=9)
    built.counter("DRAM", 0, {"read": 6}, pid=1).names("process_name", "python", pid=1)
    found = used(built.load(tmp_path))
    assert [(each.counter, each.source, each.total.mean) for each in found] == [
        ("DRAM read", "device 0", 1.0),
        ("DRAM write", "device 0", 2.0),
        ("DRAM read", "process 9", 5.0),
        ("DRAM read", "python", 6.0),
    ]


def test_requests_add_up(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 100)
    built.range("request", 1000, 50).range("prefill", 1000, 50).counter("SM", 0, 10).counter("SM", 500, 40)
    trace = built.load(tmp_path)
    assert used(trace)[0].stages == {"prefill": CounterMean(20.0, 10.0, 40.0, 150, 150)}
    second = counter_use(trace, trace.requests[1:])[0]
    assert second.stages == {"prefill": CounterMean(40.0, 40.0, 40.0, 50, 50)}


def test_a_trace_without_counters_has_none(tmp_path: Path) -> None:
    assert used(on_device().load(tmp_path)) == []


@settings(max_examples=tries(60))
@given(st.lists(st.tuples(st.integers(-5, 105), st.integers(-9, 9)), min_size=1, max_size=12))
def test_means_are_those_of_a_walk_nanosecond_by_nanosecond(tmp_path: Path, values: list[tuple[int, int]]) -> None:
    built = on_device()
    for at_ns, value in values:
        built.counter("SM", at_ns, value)
    trace = built.load(tmp_path)
    lane = stage_lanes(trace, trace.requests[0]).time
    by_stage: dict[str, list[float]] = {}
    for start, end, stage in zip(lane.start_ns.tolist(), lane.end_ns.tolist(), lane.stage.tolist(), strict=True):
        for instant in range(start, end):
            held = [value for at_ns, value in sorted(values, key=lambda pair: pair[0]) if at_ns <= instant]
            by_stage.setdefault(lane.stages[stage], []).extend(held[-1:])
    (found,) = used(trace)
    assert {name: mean.known_ns for name, mean in found.stages.items()} == {
        name: len(known) for name, known in by_stage.items()
    }
    for name, known in by_stage.items():
        mean = found.stages[name]
        if known:
            assert mean.mean == pytest.approx(np.mean(known))
            assert (mean.min, mean.max) == (min(known), max(known))
        else:
            assert mean.mean is None
