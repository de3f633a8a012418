"""A capture under torchrun: two ranks on the CPU, over gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import real_trace


def test_two_ranks_write_a_trace_each(torchrun_traces: Callable[[int], list[Path]]) -> None:
    traces = torchrun_traces(2)
    assert [trace.name.split(".")[0] for trace in traces] == ["rank0", "rank1"]
    for path in traces:
        trace = real_trace(path)
        assert {"vision_tower", "projector", "prefill", "sampling"} <= {
            trace.stage_names[code] for code in set(trace.stage_range[trace.stage_range >= 0].tolist())
        }
        names = " ".join(trace.spans.names)
        assert "allreduce" in names or "all_reduce" in names, "the layers are split, so their parts are added up"
