from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemma_trace.analysis.lanes import Lane, stage_lanes
from gemma_trace.analysis.timeline import partition
from gemma_trace.trace.trace import Trace, load
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder


def spelled(lane: Lane) -> list[tuple[int, int, str]]:
    stages = [lane.stages[code] for code in lane.stage]
    return list(zip(lane.start_ns.tolist(), lane.end_ns.tolist(), stages, strict=True))


def test_the_lanes_of_a_request_by_hand(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000)
    built.range("vision_tower", 100, 50).launch(1, 110).launch(2, 120)
    built.range("prefill", 160, 40).launch(3, 170)
    built.kernel("conv", 200, 300, correlation=1).kernel("gemm", 500, 100, correlation=2)
    built.kernel("attn", 650, 150, correlation=3)
    trace = built.load(tmp_path)
    lanes = stage_lanes(trace, trace.requests[0])
    assert spelled(lanes.host) == [
        (0, 100, "unattributed"),
        (100, 150, "vision_tower"),
        (150, 160, "unattributed"),
        (160, 200, "prefill"),
        (200, 1000, "unattributed"),
    ]
    assert spelled(lanes.device) == [(200, 600, "vision_tower"), (650, 800, "prefill")]
    assert spelled(lanes.time) == [
        (0, 100, "unattributed"),
        (100, 150, "vision_tower"),
        (150, 160, "unattributed"),
        (160, 200, "prefill"),
        (200, 600, "vision_tower"),
        (600, 650, "unattributed"),
        (650, 800, "prefill"),
        (800, 1000, "unattributed"),
    ]


def test_a_lane_is_a_table_of_its_stretches(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 1000).range("prefill", 160, 40).load(tmp_path)
    lane = stage_lanes(trace, 0).time
    assert lane.to_frame().to_dict("records") == [
        {"stage": "unattributed", "start_ns": 0, "end_ns": 160},
        {"stage": "prefill", "start_ns": 160, "end_ns": 200},
        {"stage": "unattributed", "start_ns": 200, "end_ns": 1000},
    ]
    assert repr(lane).startswith("A lane of 3 stretches\n")


def holds_together(trace: Trace) -> None:
    """The lanes' sums are the partition's figures, and the lanes are disjoint."""
    for request in trace.requests:
        lanes, rows = stage_lanes(trace, request), partition(trace, request)
        assert lanes.time.sums_ns() == {row.stage: row.time_ns for row in rows if row.time_ns}
        assert lanes.device.sums_ns() == {row.stage: row.device_ns for row in rows if row.device_ns}
        assert sum(lanes.host.sums_ns().values()) == request.wall_ns
        for lane in (lanes.host, lanes.device, lanes.time):
            assert (lane.end_ns > lane.start_ns).all()
            assert (lane.start_ns[1:] >= lane.end_ns[:-1]).all()
            touching = lane.start_ns[1:] == lane.end_ns[:-1]
            assert (np.diff(lane.stage)[touching] != 0).all()


@pytest.mark.parametrize("sample", sorted(SAMPLES.rglob("*.json.gz")), ids=lambda path: path.parent.name)
def test_the_lanes_add_up_to_the_stages_of_a_sample(sample: Path) -> None:
    holds_together(load(sample))


@pytest.mark.parametrize("name", ["h100_owlv2_vlm_proxy", "mi300x_vllm_decode_graph", "h100_qwen15_0.5b_unlinked"])
def test_the_lanes_add_up_on_foreign_traces(corpus: Path, name: str) -> None:
    holds_together(real_trace(corpus / f"{name}.json.gz"))
