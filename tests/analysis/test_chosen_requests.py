"""Every function that takes a request refuses one that isn't there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.critical_path import critical_path
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.lanes import stage_lanes
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.roofline.floor_sums import request_floors
from gemma_trace.analysis.timeline import partition, ttft_ns
from gemma_trace.analysis.tree import call_tree
from gemma_trace.analysis.work_pieces import select
from gemma_trace.errors import ConfigError, InputError
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
    "request_floors": lambda trace, request: request_floors(trace, request),
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
@pytest.mark.parametrize("request_index", [1.0, "1", (1,)])
def test_what_is_neither_an_index_nor_a_request_is_an_error_of_the_program(
    two: Trace, name: str, request_index: object
) -> None:
    with pytest.raises(ConfigError, match=r"is neither an index nor a request of the trace$"):
        FUNCTIONS[name](two, request_index)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_request_of_another_trace_is_refused(two: Trace, name: str, tmp_path: Path) -> None:
    other = TraceBuilder().range("request", 50, 900).range("request", 1050, 900).load(tmp_path)
    for request in other.requests:
        with pytest.raises(InputError, match=f"^request {request.index} is of another trace than .*built.json; give"):
            FUNCTIONS[name](two, request)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_last_request_is_there_by_its_index_and_as_it_is(two: Trace, name: str) -> None:
    assert FUNCTIONS[name](two, 1)
    assert repr(FUNCTIONS[name](two, two.requests[1])) == repr(FUNCTIONS[name](two, 1))  # type: ignore[arg-type]


def test_one_is_alone_and_none_is_all(two: Trace) -> None:
    assert [found.index for found in two.chosen(1)] == [1]
    assert [found.index for found in two.chosen(None)] == [0, 1]
    assert [reason.time_ns for reason in stage_reasons(two, 1)] == [300, 600]
