"""Every function that takes a request's index refuses one that isn't there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.critical_path import critical_path
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.lanes import stage_lanes
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.timeline import partition, ttft_ns
from gemma_trace.analysis.tree import call_tree
from gemma_trace.analysis.work_pieces import select
from gemma_trace.errors import InputError
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder

FUNCTIONS: dict[str, Callable[[Trace, int], object]] = {
    "breakdown": breakdown,
    "call_tree": call_tree,
    "chosen": lambda trace, request: trace.chosen(request),
    "critical_path": critical_path,
    "ttft_ns": lambda trace, request: (trace.chosen(request), ttft_ns(trace, request)),
    "partition": partition,
    "stage_lanes": stage_lanes,
    "kernel_table": lambda trace, request: kernel_table(trace, request=request),
    "select": lambda trace, request: select(trace, request=request),
    "stage_reasons": stage_reasons,
}


@pytest.fixture
def two(tmp_path: Path) -> Trace:
    built = TraceBuilder()
    for start in (0, 1000):
        built.range("request", start, 900).range("prefill", start + 100, 300).op("aten::mm", start + 200, 100)
    return built.load(tmp_path)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("request_index", [2, 99, -1, -2])
def test_a_request_that_is_not_there_is_refused(two: Trace, name: str, request_index: int) -> None:
    with pytest.raises(InputError, match=f"^request {request_index} not found: .*built.json has requests 0 to 1$"):
        FUNCTIONS[name](two, request_index)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_last_request_is_there(two: Trace, name: str) -> None:
    assert FUNCTIONS[name](two, 1)


def test_one_is_alone_and_none_is_all(two: Trace) -> None:
    assert [found.index for found in two.chosen(1)] == [1]
    assert [found.index for found in two.chosen(None)] == [0, 1]
    assert [reason.time_ns for reason in stage_reasons(two, 1)] == [300, 600]
